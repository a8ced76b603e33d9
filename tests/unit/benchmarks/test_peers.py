"""The parts of peers that decide, and the program through which one is seen."""

import json
import os
import signal
from pathlib import Path

import golden_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import meters
from benchmarks.backend import Features, InstanceSpec
from benchmarks.backends import BACKENDS, OWN, PEERS, VARIANTS, opened
from benchmarks.backends.bwrap import BwrapTool
from benchmarks.backends.nspawn import NspawnTool, make_directory
from benchmarks.cli import bench_parser
from benchmarks.peers.bundle import configuration
from benchmarks.peers.engines import Engine, EngineTool
from benchmarks.peers.ground import Mounted, mounted
from benchmarks.peers.instance import IDLE, Timeline, refuse_more
from benchmarks.peers.oci import OciTool
from benchmarks.peers.probing import found, tried
from benchmarks.peers.program import Ended, PeerFailed, Program, end_descendants, said, started
from benchmarks.peers.waiting import SAID, waiting_program
from runtime.container.facts import HostFacts
from runtime.container.spec import Limits, ProcessSpec
from runtime.errors import SpecError
from runtime.image import Identity
from vmbackend.domain import Domain
from vmbackend.emulator import emulator_words

DIGEST = f"sha256:{'0' * 64}"
ROOT = Identity(uid=0, gid=0, groups=(0,), home="/root")
NOBODY = Identity(uid=65534, gid=65534, groups=(65534, 7), home="/")
ENV = {"PATH": os.environ["PATH"]}
FACTS = HostFacts(
    machine="x86_64", bounding_set=(1 << 41) - 1 & ~(1 << 24), last_capability=40, hierarchies=()
)


def process(identity: Identity = ROOT, argv: tuple[str, ...] = ("cat", "/x")) -> ProcessSpec:
    return ProcessSpec(argv=argv, env=("PATH=/bin", "A=1"), cwd="/srv", identity=identity)


def config(spec: ProcessSpec, limits: Limits) -> dict[str, object]:
    return configuration(
        spec, root="/r", hostname="h", group="/g/h", limits=limits, facts=FACTS, idle="/w"
    )


# The registry


def test_peers_are_known_and_not_the_default() -> None:
    assert list(BACKENDS) == [*OWN, *VARIANTS, *PEERS]
    assert bench_parser().parse_args([]).on == OWN
    assert bench_parser().parse_args(["--on", "runc,docker"]).on == ("runc", "docker")


@pytest.mark.parametrize("name", ["crun", "qemu"])
def test_a_peer_without_ground_says_so_and_does_not_fail(name: str) -> None:
    with opened(name) as backend:
        assert backend.name == name
        why = backend.probe()
    if name == "crun":
        assert why is not None
        assert why.remedy


# Where they run


def test_hierarchies_begin_where_the_worker_was_born() -> None:
    own = (
        "4:memory:/user/1/isoscope-w/worker\n3:cpu,cpuacct:/isoscope-w/worker\n1:blkio:/\n0::/x\n"
    )
    mountinfo = (
        "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "2 0 0:2 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "3 0 0:3 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
        "4 0 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "5 0 8:1 / / rw - ext4 /dev/sda rw\n"
    )
    assert mounted(own=own, mountinfo=mountinfo, worker="/isoscope-w/worker") == (
        Mounted(mount_point="/sys/fs/cgroup/memory", born="/user/1"),
        Mounted(mount_point="/sys/fs/cgroup/cpu,cpuacct", born="/"),
        Mounted(mount_point="/sys/fs/cgroup/blkio", born="/"),
    )


def test_a_mount_that_shows_a_part_counts_from_there() -> None:
    seen = mounted(
        own="4:memory:/docker/1/me\n",
        mountinfo="1 0 0:1 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
        worker="/isoscope-w/worker",
    )
    assert seen == (Mounted(mount_point="/sys/fs/cgroup/memory", born="/me"),)


# What they are given


def test_the_bundle_is_as_it_was() -> None:
    limits = Limits(memory_bytes=64 << 20, cpus=0.5, pids=10)
    document = config(process(NOBODY), limits)
    golden_files.check("peers/config.json", json.dumps(document, indent=1) + "\n")


def test_only_root_holds_capabilities_and_never_one_we_lack() -> None:
    root, nobody = (json.dumps(config(process(who), Limits())) for who in (ROOT, NOBODY))
    assert "CAP_SYS_RESOURCE" not in root
    assert json.loads(root)["process"]["capabilities"]["effective"]
    assert json.loads(nobody)["process"]["capabilities"]["effective"] == []


def test_an_idle_bundle_runs_the_waiting_program_from_a_mount() -> None:
    document = json.loads(json.dumps(config(process(argv=()), Limits())))
    assert document["process"]["args"] == [IDLE]
    bound = document["mounts"][-1]
    assert (bound["destination"], bound["source"]) == (IDLE, "/w")


def domain(disk: str = "/cache/disk.ext4") -> Domain:
    return Domain(
        name="p-1", accelerator="tcg", cpus=2, memory_bytes=256 << 20, emulator=Path("/bin/qemu"),
        kernel=Path("/cache/vmlinux"), initramfs=Path("/cache/initramfs"), disk=Path(disk),
        overlay=Path("/own/overlay.qcow2"), console_socket=Path("/own/console"),
        port_socket=Path("/own/port"),
    )  # fmt: skip


def test_the_emulator_is_told_what_it_was() -> None:
    words = emulator_words(domain())
    golden_files.check("peers/qemu.txt", "\n".join(words).replace("\n-", "\n\n-") + "\n")


def test_a_comma_in_a_path_does_not_end_it() -> None:
    assert any("file.filename=/a,,b/disk" in word for word in emulator_words(domain("/a,b/disk")))


ENGINE = Engine(
    name="podman", words=("/bin/podman",), env={}, storage=Path("/s"), complaint=b"Error: ",
    write_archive=lambda _store, _image, _path: None, run=("--ulimit", "nofile=1:1"),
)  # fmt: skip


def engine_tool(spec: InstanceSpec, waiting: str = "") -> EngineTool:
    return EngineTool(
        engine=ENGINE,
        name="n",
        image="id",
        spec=spec,
        parent="/p",
        before_bytes=0,
        waiting=waiting,
    )


def test_engines_are_asked_for_exactly_this() -> None:
    spec = InstanceSpec(
        image=DIGEST, argv=("sh", "-c", "x y"), env={"A": "b c"}, cwd="/w", user="1:2",
        stdin=b"x", cpus=0.5, memory_bytes=1 << 26, pids=9,
    )  # fmt: skip
    assert " ".join(engine_tool(spec)._options()) == (
        "--name n --network none --cgroupns private --cgroup-parent /p --ulimit nofile=1:1"
        " --interactive --env A=b c --user 1:2 --workdir /w --memory 67108864"
        " --memory-swap 67108864 --cpus 0.5 --pids-limit 9 --entrypoint sh id -c x y"
    )


def test_an_idle_engine_container_is_given_the_waiting_program() -> None:
    words = list(engine_tool(InstanceSpec(image=DIGEST), waiting="/d/waiting")._options())
    assert words[words.index("--volume") + 1] == f"/d/waiting:{IDLE}:ro"
    assert words[-3:] == ["--entrypoint", IDLE, "id"]


def test_more_than_features_is_refused_before_anything_happens() -> None:
    refuse_more(InstanceSpec(image=DIGEST), Features(), "bwrap")
    asked = InstanceSpec(image=DIGEST, cpus=1, mounts=(("/a", "/b"),), network="bridge")
    with pytest.raises(SpecError, match="bwrap offers no cpus, mounts, bridge"):
        refuse_more(asked, Features(), "bwrap")


# How their ends are read


def ended(status: int, stderr: bytes = b"") -> Ended:
    return Ended(status=status, stdout=b"", stderr=stderr, exit_ns=1)


def oci_tool(directory: Path, *messages: str) -> OciTool:
    lines = [json.dumps({"level": "error", "msg": message}) for message in messages]
    (directory / "log-1.json").write_text("\n".join(["not json", *lines]))
    return OciTool(program="/bin/runc", log_prefix="", directory=directory)


def test_a_workload_may_fail_with_the_runtimes_own_status(tmp_path: Path) -> None:
    assert oci_tool(tmp_path).verdict(ended(1, b"mine")) == (1, b"mine")


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "no-such": executable file not found in $PATH', 127),
        ("executable file `no-such` not found in $PATH: No such file or directory", 127),
        ('exec: "/etc": permission denied', 126),
    ],
)
def test_a_program_that_cannot_run_is_what_a_shell_says(
    tmp_path: Path, message: str, status: int
) -> None:
    assert oci_tool(tmp_path, message).verdict(ended(1)) == (status, f"{message}\n".encode())


def test_a_failure_of_the_runtime_is_none_of_the_workload(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="runc: cannot set the limit"):
        oci_tool(tmp_path, "cannot set the limit").verdict(ended(1))


def test_an_engine_fails_with_125_and_its_complaint() -> None:
    tool = engine_tool(InstanceSpec(image=DIGEST))
    assert tool.verdict(ended(125, b"mine")) == (125, b"mine")
    with pytest.raises(PeerFailed, match="no such image"):
        tool.verdict(ended(125, b"Error: no such image\n"))


def test_bwrap_fails_with_1_and_its_name(tmp_path: Path) -> None:
    tool = BwrapTool(
        program="/bin/bwrap", process=process(), directory=tmp_path, root=tmp_path, heard=-1,
        told=-1, stdin=b"",
    )  # fmt: skip
    assert tool.verdict(ended(1, b"mine")) == (1, b"mine")
    assert tool.verdict(ended(1, b"bwrap: execvp x: No such file or directory\n"))[0] == 127
    assert tool.verdict(ended(1, b"bwrap: execvp x: Permission denied\n"))[0] == 126
    with pytest.raises(PeerFailed, match="setting up uid map"):
        tool.verdict(ended(1, b"bwrap: setting up uid map: Permission denied\n"))


# The program


def test_nspawn_fails_with_1_and_the_place_in_its_source(tmp_path: Path) -> None:
    process = ProcessSpec(argv=("x",), env=(), cwd="/", identity=ROOT)
    tool = NspawnTool(program="/bin/nspawn", process=process, directory=tmp_path, stdin=b"")
    refused = b"mine\nsrc/nspawn/nspawn.c:3390: execv(no-such) failed: "
    absent, forbidden = refused + b"No such file or directory\n", refused + b"Permission denied\n"
    assert tool.verdict(ended(1, absent)) == (127, absent)
    assert tool.verdict(ended(1, forbidden)) == (126, forbidden)
    assert tool.verdict(ended(1, b"mine")) == (1, b"mine")
    assert tool.verdict(ended(7, absent)) == (7, absent)
    with pytest.raises(PeerFailed, match="Failed to mount"):
        tool.verdict(
            ended(1, b"src/nspawn/nspawn-mount.c:1: Failed to mount x: Permission denied")
        )


def test_a_working_directory_is_made_inside_and_nowhere_else(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for path in (root, outside):
        path.mkdir()
    (root / "up").symlink_to("../../outside")
    (root / "absolute").symlink_to(outside)
    (root / "real").mkdir()
    (root / "alias").symlink_to("/real")
    (root / "file").write_text("")
    make_directory(root, "/")
    make_directory(root, "/alias/new/place")
    assert (root / "real/new/place").is_dir()
    for cwd in ("/up/new", "/absolute/new", "/file/new"):
        with pytest.raises(SpecError, match="cannot be made"):
            make_directory(root, cwd)
    make_directory(root, "/../../outside/new")
    assert (root / "outside/new").is_dir()
    assert not list(outside.iterdir())


def test_bytes_status_and_moments_of_a_program() -> None:
    with started(["/bin/sh", "-c", "cat; printf e >&2; exit 3"], env=ENV, stdin=b"in") as program:
        end = program.finish(30)
    assert end is not None
    assert (end.status, end.stdout, end.stderr) == (3, b"in", b"e")
    assert program.gathering.first_output_ns is not None
    assert program.started_ns <= program.gathering.first_output_ns <= end.exit_ns


@given(status=st.integers(min_value=0, max_value=255))
def test_any_status_arrives(status: int) -> None:
    with started(["/bin/sh", "-c", f"exit {status}"], env=ENV) as program:
        end = program.finish(30)
    assert end is not None
    assert end.status == status


def test_a_program_that_does_not_end_is_dead_after_the_block() -> None:
    with started(["/bin/sleep", "1000"], env=ENV) as program:
        assert program.finish(0.01) is None
    assert program.poll() == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(PeerFailed, match="/no/such cannot be started: No such file"):
        Program(["/no/such"], env=ENV)


def test_last_words_are_told() -> None:
    assert said(["/bin/echo", "x"], env=ENV) == b"x\n"
    with pytest.raises(PeerFailed, match="/bin/sh: so it is"):
        said(["/bin/sh", "-c", "echo so it is >&2; false"], env=ENV)


def test_descriptor_3_is_passed_on_and_what_we_have_open_is_not(tmp_path: Path) -> None:
    heard, told = os.pipe()
    try:
        with (tmp_path / "ours").open("w"):
            script = "echo told >&3; ls -l /proc/self/fd"
            program = Program(["/bin/sh", "-c", script], env=ENV, extra=told)
            end = program.finish(30)
            program.close()
        assert end is not None
        assert os.read(heard, 10) == b"told\n"
        assert b"pipe:" in end.stdout
        assert b"/ours" not in end.stdout
    finally:
        os.close(heard)
        os.close(told)


def test_the_waiting_program_says_its_byte_and_waits(tmp_path: Path) -> None:
    with started([str(waiting_program(tmp_path))], env={}) as program:
        assert program.finish(0.2) is None
        assert program.gathering.stdout == SAID
        assert program.poll() is None


def test_descendants_end_but_those_that_are_spared() -> None:
    others = set(meters.descendants(os.getpid()))
    spared = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    doomed = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    try:
        end_descendants(spare=[spared, *others])
        assert set(meters.descendants(os.getpid())) == {spared, *others}
        with pytest.raises(ChildProcessError):
            os.waitpid(doomed, 0)
    finally:
        os.kill(spared, signal.SIGKILL)
        os.waitpid(spared, 0)


# The rest


def test_phases_count_from_the_request_and_are_marked_once() -> None:
    life = Timeline()
    life.mark("output", life.requested_ns + 5)
    life.mark("engine", life.requested_ns + 2)
    life.mark("output", life.requested_ns + 9)
    assert list(life.phases.items()) == [("request", 0), ("engine", 2), ("output", 5)]


def test_a_missing_program_names_its_package() -> None:
    why = found("sh", "no-such-program", package="some-package")
    assert why is not None
    assert (why.reason, why.remedy) == (
        "no-such-program is not installed",
        "apt-get install some-package",
    )
    assert found("sh", package="dash") is None


def test_a_failed_trial_is_a_reason() -> None:
    def fails() -> None:
        raise PeerFailed("it will not", remedy="ask again")

    why = tried("peer", fails)
    assert why is not None
    assert why.reason == "peer was tried and failed: it will not; ask again"
    assert why.remedy == "ask again"
    assert tried("peer", lambda: None) is None
