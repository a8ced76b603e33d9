import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.meters import descendants
from runtime import syscalls
from runtime.container import rungs as package
from runtime.container.capabilities import CAPABILITIES
from runtime.container.cgroups import Hierarchy
from runtime.container.facts import host_facts
from runtime.container.rungs import attempt, files, links, rights
from runtime.container.rungs.attempt import refusal
from runtime.container.rungs.rung import Rung, found_of
from runtime.errors import RuntimeFault

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
EVERY = (1 << len(CAPABILITIES)) - 1


def status(held: int) -> str:
    return f"Name:\tx\nCapEff:\t{held:016x}\nCapBnd:\t{EVERY:016x}\n"


def without(*names: str) -> int:
    return EVERY & ~sum(1 << CAPABILITIES.index(name) for name in names)


def fault() -> None:
    raise RuntimeFault("too small", remedy="never shown here")


def test_what_returns_is_not_refused() -> None:
    assert refusal(lambda: None) is None


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (fault, "too small"),
        (lambda: Path("/no/such/file").read_text(), "/no/such/file: No such file or directory"),
        (lambda: os.close(-1), "Bad file descriptor"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process that tried it was killed"),
        (lambda: dict[str, None]()["key"], "KeyError('key')"),
    ],
)
def test_a_refusal_says_why(action: Callable[[], None], says: str) -> None:
    assert refusal(action) == says


def test_what_an_attempt_changes_is_its_own() -> None:
    before = Path.cwd()
    changes: list[int] = []

    def change() -> None:
        os.chdir("/")
        changes.append(1)
        if Path.cwd() != Path("/"):
            raise RuntimeFault("not there")

    assert refusal(change) is None
    assert Path.cwd() == before
    assert not changes


def test_an_attempt_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "_LIMIT_S", 0.05)
    children = set(descendants(os.getpid()))
    assert refusal(lambda: time.sleep(1000)) == "no answer in 0.05 s"
    assert set(descendants(os.getpid())) <= children


def test_an_interrupt_ends_the_attempt_too() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    children = set(descendants(os.getpid()))
    before = signal.signal(signal.SIGTERM, interrupt)
    parent = os.getpid()

    def interrupt_parent() -> None:
        os.kill(parent, signal.SIGTERM)
        time.sleep(1000)

    try:
        with pytest.raises(KeyboardInterrupt):
            refusal(interrupt_parent)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert set(descendants(os.getpid())) <= children


def test_an_attempt_dies_with_a_killed_caller() -> None:
    program = (
        "import os, time\n"
        "from runtime.container.rungs.attempt import refusal\n"
        "def tell():\n"
        "    os.write(1, str(os.getpid()).encode())\n"
        "    time.sleep(1000)\n"
        "refusal(tell)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(package.__file__).parents[3],
        stdout=subprocess.PIPE,
    ) as caller:  # fmt: skip
        assert caller.stdout is not None
        child = os.pidfd_open(int(os.read(caller.stdout.fileno(), 20)))
        caller.kill()
        assert caller.stdout.read() == b""  # ends when the child, the last writer, is dead
    os.close(child)


@pytest.mark.parametrize(
    ("held", "ok", "says"),
    [
        (EVERY, True, "all"),
        (without("sys_resource"), True, "not held: sys_resource (no hard limit"),
        (without("syslog", "bpf"), True, "not held: syslog, bpf"),
        (without("sys_admin"), False, "without sys_admin"),
        (0, False, "without chown, dac_override"),
    ],
)
def test_capabilities_are_judged_by_what_containers_need(held: int, ok: object, says: str) -> None:
    rung = rights.capabilities_rung(status(held))
    assert rung.ok is ok
    assert says in rung.found
    assert (rung.remedy is None) is rung.ok
    assert rung.costs == ("container",)


def test_the_filter_is_installed_and_refuses_here() -> None:
    assert rights.seccomp_rung(os.uname().machine).ok


def test_a_machine_without_a_system_call_table_has_no_filter() -> None:
    rung = rights.seccomp_rung("pdp11")
    assert rung.ok is False
    assert "no system call table for pdp11" in rung.found


@pytest.mark.parametrize(
    ("kinds", "layout"),
    [
        (("tmpfs",), "not mounted"),
        (("cgroup",), "v1"),
        (("cgroup2",), "v2"),
        (("cgroup", "cgroup2", "ext4"), "hybrid"),
    ],
)
@needs_root
def test_without_controllers_the_limits_are_lost_and_nothing_else(
    kinds: tuple[str, ...], layout: str
) -> None:
    mountinfo = "".join(f"1 2 0:9 / /x rw - {kind} none rw\n" for kind in kinds)
    rung = files.groups_rung((), mountinfo)
    assert rung.ok is False
    assert rung.found.startswith(layout)
    assert "no controller here: memory, cpu, pids" in rung.found
    assert rung.costs == ("--memory", "--cpus", "--pids-limit")


def hierarchy(mount_point: Path, *controllers: str) -> Hierarchy:
    return Hierarchy(
        version=1, controllers=controllers, mount_point=str(mount_point), own_path="/"
    )


@needs_root
def test_groups_that_cannot_be_made_cost_the_container(tmp_path: Path) -> None:
    rung = files.groups_rung((hierarchy(tmp_path / "absent", "memory", "cpu", "pids"),), "")
    assert rung.ok is False
    assert "mkdir" in rung.found
    assert rung.costs == ("container",)


@needs_root
def test_a_limit_that_is_not_taken_is_a_failure(tmp_path: Path) -> None:
    rung = files.groups_rung((hierarchy(tmp_path, "pids"),), "")
    assert rung.ok is False
    assert "pids.max" in rung.found


@needs_root
def test_groups_are_made_entered_and_removed() -> None:
    mountinfo = Path("/proc/self/mountinfo").read_text()
    hierarchies = host_facts().hierarchies
    if not hierarchies:
        pytest.skip("no control groups here; mount /sys/fs/cgroup")
    rung = files.groups_rung(hierarchies, mountinfo)
    assert "limits read back" in rung.found
    left = [
        path
        for h in hierarchies
        for path in Path(f"{h.mount_point}{h.own_path}").glob("isoscope-d-*")
    ]
    assert not left


@needs_root
def test_an_overlay_needs_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "file" / "home"))
    rung = files.overlay_rung()
    assert rung.ok is False
    assert "Not a directory" in rung.found
    assert "ISOSCOPE_HOME" in str(rung.remedy)


@needs_root
def test_an_overlay_is_tried_in_the_state_directory_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    before = Path("/proc/self/mountinfo").read_text()
    assert files.overlay_rung().ok
    assert Path("/proc/self/mountinfo").read_text() == before
    assert not list((tmp_path / "instances").iterdir())


@needs_root
def test_an_overlay_on_an_overlay_is_refused(tmp_path: Path) -> None:
    """The commonest reason in the field: a state directory inside of another container."""
    layers = [tmp_path / name for name in ("lower", "upper", "work", "root")]
    for layer in layers:
        layer.mkdir()
    lower, upper, work, root = map(str, layers)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    said = tmp_path / "said"

    def nested() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
        syscalls.mount("overlay", root, "overlay", 0, options)
        os.environ["ISOSCOPE_HOME"] = root
        rung = files.overlay_rung()
        said.write_text(f"{rung.ok}: {rung.found}")

    assert refusal(nested) is None
    assert said.read_text().startswith("False: mount(")


def test_attributes_are_padded_and_say_their_own_length() -> None:
    content = links._attribute(3, b"v0\0")
    assert len(content) == 8
    assert struct.unpack("=HH", content[:4]) == (7, 3)
    assert links._attribute(4, b"", nested=True) == struct.pack("=HH", 4, 4 | 0x8000)


def answer(error: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, error) + bytes(16)


def test_answers_are_counted_and_an_error_is_raised() -> None:
    assert links._read_answers(answer(0) + answer(0)) == 2
    with pytest.raises(FileExistsError):
        links._read_answers(answer(0) + answer(-17))


@needs_root
def test_the_kernel_says_no_to_what_there_is_already() -> None:
    def twice() -> None:
        links._make_veth()
        links._make_veth()

    assert refusal(lambda: links._in_namespace(twice)) == "File exists"


@needs_root
def test_networks_are_made_in_a_namespace_of_their_own() -> None:
    before = socket.if_nameindex()
    assert refusal(lambda: links._in_namespace(links._make_veth)) is None
    assert links.network_rung().ok is not None
    assert socket.if_nameindex() == before


@needs_root
def test_device_files_are_made_where_nobody_else_sees_them() -> None:
    before = sorted(path.name for path in Path("/dev").iterdir())
    mounts = Path("/proc/self/mountinfo").read_text()
    rung = files.devices_rung()
    assert rung.ok or "Operation not permitted" in rung.found
    assert sorted(path.name for path in Path("/dev").iterdir()) == before
    assert Path("/proc/self/mountinfo").read_text() == mounts


@needs_root
def test_device_files_are_refused_without_the_right_to_make_them() -> None:
    def without_the_right() -> None:
        mknod = CAPABILITIES.index("mknod")
        text = Path("/proc/self/status").read_text()
        held = rights._mask(text, "CapEff") & ~(1 << mknod)
        syscalls.capset(held, held, 0)
        files._with_devices()

    assert "not permitted" in str(refusal(without_the_right))


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        ({}, "a, b, c"),
        ({"b": "unshare(0x1): No"}, "a, c; no b: No"),
        ({"a": "x(1): No", "c": "y(2): No"}, "b; no a, c: No"),
        ({"a": "No", "b": "x: Never", "c": "No"}, "no a, c: No; no b: Never"),
    ],
)
def test_what_was_refused_is_told_by_reason(refused: dict[str, str], found: str) -> None:
    assert found_of("abc", refused) == found


@pytest.mark.parametrize(
    ("below", "tries", "says"),
    [
        (Rung(name="root", ok=True, found=""), True, "tried"),
        (Rung(name="root", ok=False, found=""), False, "not tried: only root could use it"),
        (Rung(name="namespaces", ok=None, found=""), False, "not tried: only root could use it"),
        (Rung(name="namespaces", ok=False, found=""), False, "not tried: namespaces failed"),
    ],
)
def test_what_stands_on_a_missing_rung_is_not_tried(below: Rung, tries: object, says: str) -> None:
    rung = package._upon(below, "x", lambda: Rung(name="x", ok=True, found="tried"))
    assert (rung.ok, rung.found) == (True if tries else None, says)


@needs_root
def test_climbing_leaves_our_own_rights_and_namespaces_alone() -> None:
    def ours() -> tuple[list[str], str]:
        spaces = sorted(str(path.readlink()) for path in Path("/proc/self/ns").iterdir())
        text = Path("/proc/self/status").read_text().splitlines()
        return spaces, "\n".join(x for x in text if x.startswith(("Cap", "Seccomp:", "NoNew")))

    before = ours()
    climbed = tuple(package.rungs())
    assert ours() == before
    assert {"root", "namespaces", "overlay", "control groups"} <= {r.name for r in climbed}
    assert all(rung.remedy for rung in climbed if rung.ok is False)
    assert all(rung.remedy is None for rung in climbed if rung.ok)
