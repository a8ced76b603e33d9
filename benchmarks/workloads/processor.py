"""cpu, memory and syscalls: what is left of a processor inside, and what each crossing costs."""

from benchmarks.workloads.printed import digest, lines, sysbench
from benchmarks.workloads.program import Program, as_told, ns_per_unit, of_phases, units_per_s

_SHARED = "a machine with other work gives this instance less, whatever isolates it"
_EMULATED = "under TCG this measures the emulator, not the processor"
_TEXT_SHA256 = "b88eac0f85d060e8a8ef9f7f611fbbb104e6237d97e4b7d51929bb17af3b28f4"
"""Of the 8 MiB that ``gauge text 8`` writes."""
_MB = 1e6

CPU = (
    Program(
        name="cpu.compress",
        question="How long does gzip take for 8 MiB of text, there and back?",
        threats=(_SHARED, _EMULATED, "program start, pipes and three processes are in it"),
        script="gzip -n6 </usr/local/share/gauge/text | gzip -d | sha256sum",
        parse=digest(_TEXT_SHA256),
        readings=(of_phases("cpu.compress", "exec", "exit", "Compress and expand 8 MiB of text"),),
    ),
    Program(
        name="cpu.primes",
        question="How many rounds of sysbench's prime search does one thread do in a second?",
        threats=(_SHARED, _EMULATED, "divisions of 64 bits and nothing else"),
        script="sysbench cpu --cpu-max-prime=10000 --threads=1 --time=1 run",
        parse=sysbench,
        readings=(
            as_told("cpu.primes", "rate", "Prime search (sysbench cpu)", unit="1/s",
                    direction="higher", start="first round", stop="last round",
                    method="events per second of sysbench 1.0, max-prime 10000, 1 thread, 1 s"),
        ),
    ),
    Program(
        name="cpu.python",
        question="How long does the Python interpreter take for one turn of an integer loop?",
        threats=(_SHARED, _EMULATED),
        script="python3 /usr/local/share/gauge/loop.py",
        parse=lines,
        checks={"state": 1219259225},
        readings=(
            ns_per_unit("cpu.python", "loop", "One turn of a Python loop", unit="turn"),
        ),
    ),
)  # fmt: skip


MEMORY = (
    Program(
        name="memory.gauge",
        question="How fast is memory: in a row, at random, and when it is touched first?",
        threats=(
            _SHARED, _EMULATED,
            "arrays of 16 MiB may fit the last cache of a large processor",
            "transparent huge pages are as the kernel of the instance has them",
            "a first touch in a guest may also be one of its host's",
        ),
        script="gauge memory",
        parse=lines,
        readings=(
            *(
                units_per_s(f"memory.{name}", name, f"Memory bandwidth, {name}", unit="MB/s",
                            what="byte", scale=_MB)
                for name in ("copy", "scale", "add", "triad")
            ),
            ns_per_unit("memory.random", "chase", "Memory latency, 64 MiB at random", unit="load"),
            ns_per_unit("memory.fault", "faults", "First touch of a page", unit="page fault"),
        ),
    ),
)  # fmt: skip

_CALLS = {
    "getpid": ("getpid", "The cheapest system call (getpid)", "call"),
    "read": ("read", "Read of one byte from /dev/zero", "call"),
    "open": ("open", "Open and close a file", "pair"),
    "mmap": ("mmap", "Map, touch and unmap a page", "round"),
    "fork": ("fork", "Fork, exec and wait", "round"),
    "pipe": ("pipe", "Round trip between two processes by pipes", "round trip"),
}

SYSCALLS = (
    Program(
        name="syscalls.gauge",
        question="What does crossing into the kernel cost, and what some crossings do?",
        threats=(
            _SHARED, _EMULATED,
            "seccomp filters and audit rules are part of a container's price",
            "kernels of host and guest differ in version and mitigations",
        ),
        script="gauge syscalls",
        parse=lines,
        readings=tuple(
            ns_per_unit(f"syscalls.{name}", of, title, unit=unit)
            for name, (of, title, unit) in _CALLS.items()
        ),
    ),
)  # fmt: skip
