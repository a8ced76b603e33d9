"""fs: blocks, small files, durability, and the first write to a file of the image."""

from benchmarks.workloads.printed import fio, lines
from benchmarks.workloads.program import Program, Reading, as_told, ns_per_unit

_VOLATILE = (
    "the overlays that we mount (container, runc, crun, bwrap, nspawn) are volatile: their fsync"
    " waits for nothing; host, machines, podman and docker keep the promise"
)
_LAYERS = (
    "a guest's disk is a qcow2 overlay, whose cache mode decides what a sync waits for",
    "direct I/O bypasses the cache of the instance's kernel, not those below it",
)
_MB = 1e6
_IN_TEMPORARY = "d=$(mktemp -d /var/tmp/XXXXXX) && trap 'rm -r \"$d\"' EXIT && "
_FIO = (
    "fio --name=job --filename=$d/file --size=32m --rw={rw} --bs={bs} --direct=1 --ioengine=psync"
    " --fallocate=none --create_fsync=1 --randrepeat=0 --time_based --runtime=1"
    " --percentile_list=50:95 --output-format=json"
)
_METHOD = "fio 3, psync, direct, depth 1, 1 s, a file of 32 MiB"


def _random(name: str, rw: str, direction: str) -> Program:
    return Program(
        name=f"fs.random_{name}",
        question=f"How many random {name}s of 4 KiB a second, and how long does one take?",
        threats=(_VOLATILE, *_LAYERS),
        script=_IN_TEMPORARY + _FIO.format(rw=rw, bs="4k"),
        parse=fio(direction),
        readings=(
            as_told(f"fs.random_{name}", "iops", f"Random {name}s of 4 KiB", unit="1/s",
                    direction="higher", start=f"first {name}", stop=f"last {name}",
                    method=_METHOD),
            *(
                as_told(f"fs.random_{name}.{short}", f"{short}_ns",
                        f"Random {name} of 4 KiB, {words}", unit="ns", direction="lower",
                        start="request submitted", stop="request completed",
                        method=f"{_METHOD}; completion latency")
                for short, words in (("p50", "median"), ("p95", "percentile 95"))
            ),
        ),
    )  # fmt: skip


def _sequential(name: str, rw: str, direction: str) -> Program:
    return Program(
        name=f"fs.sequential_{name}",
        question=f"How fast is a {name} in a row, in pieces of 1 MiB?",
        threats=(_VOLATILE, *_LAYERS),
        script=_IN_TEMPORARY + _FIO.format(rw=rw, bs="1m"),
        parse=fio(direction),
        readings=(
            as_told(f"fs.sequential_{name}", "bytes_per_s", f"Sequential {name}", unit="MB/s",
                    direction="higher", start=f"first {name}", stop=f"last {name}",
                    method=_METHOD, scale=_MB),
        ),
    )  # fmt: skip


def _each(name: str, title: str, unit: str) -> Reading:
    return ns_per_unit(f"fs.{name}", name, title, unit=unit)


FS = (
    _random("read", "randread", "read"),
    _random("write", "randwrite", "write"),
    _sequential("read", "read", "read"),
    _sequential("write", "write", "write"),
    Program(
        name="fs.sync",
        question="How long does it take to make 4 KiB durable?",
        threats=(_VOLATILE, *_LAYERS, "what a virtual disk calls durable is its owner's word"),
        script=_IN_TEMPORARY + "gauge sync $d",
        parse=lines,
        readings=(_each("sync", "Write and sync 4 KiB (fdatasync)", "sync"),),
    ),
    Program(
        name="fs.files",
        question="How long do small files take: made, looked at, deleted?",
        threats=("nothing is synced: this is the file system's work in memory", *_LAYERS[:1]),
        script=_IN_TEMPORARY + "gauge files $d",
        parse=lines,
        readings=(
            _each("create", "Create a file of 100 bytes", "file"),
            _each("stat", "Look at a small file (stat)", "file"),
            _each("delete", "Delete a small file", "file"),
        ),
    ),
    Program(
        name="fs.image",
        question="What does the first write to a file of the image cost, and the next one?",
        threats=(
            "the host writes to its tree itself and the machine to blocks: only an overlay copies",
            "16 files of 1 MiB: the copy grows with the file",
        ),
        script="gauge copyup /usr/local/share/gauge/lower",
        parse=lines,
        readings=(
            ns_per_unit("fs.first_write", "first", "First write to a file of the image, 1 MiB",
                        unit="file"),
            ns_per_unit("fs.next_write", "again", "The next write to it", unit="file"),
        ),
    ),
)  # fmt: skip
