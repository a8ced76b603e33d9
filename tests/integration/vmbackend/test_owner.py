"""Who owns machines: killed, interrupted, the command line, an ordinary user."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
Finder = Callable[[str], list[int]]
ROOT = Path(__file__).parents[3]
OWNER = """
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import machine
from vmbackend.spec import MachineSpec
import sys, time
print(hypervisor().root, flush=True)
with machine(MachineSpec(image=sys.argv[1])):
    print("booted", flush=True)
    time.sleep(100)
"""


def vm(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "vmbackend.cli", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def within(limit_s: float, condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("moment", ["before QEMU", "early boot", "booted"])
def test_a_killed_owner_leaves_nothing(
    busybox: str, home: Path, emulators: Finder, moment: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, busybox], cwd=ROOT, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        root = Path(owner.stdout.readline().decode().strip())
        if moment == "early boot":
            assert within(20, lambda: emulators(str(root)))
        elif moment == "booted":
            assert owner.stdout.readline() == b"booted\n"
        owner.kill()
    instances = home / "vm" / "instances" / root.name

    def clean() -> bool:
        return not (emulators(str(root)) or root.exists() or instances.exists())

    assert within(3, clean)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_command_line_ends_all(
    busybox: str, emulators: Finder, number: signal.Signals, status: int
) -> None:
    with vm("--quiet", busybox, "sh", "-c", "echo on; sleep 100") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(number)
        assert process.wait(10) == status
    assert emulators(f"isoscope-{process.pid}-") == []


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (("busybox", "sh", "-c", "echo o; echo e >&2; exit 9"), 9, b"o\n", b"e\n"),
        (("-e", "A=1", "-w", "/new", "busybox", "sh", "-c", "echo $A $PWD"), 0, b"1 /new\n", b""),
        (("busybox", "nope"), 127, b"", b"isoscope: cannot run 'nope': execve: No such file"),
        (("nope", "true"), 125, b"", b"isoscope: no image named 'nope'"),
        (("-u", "nope", "busybox", "true"), 125, b"", b"isoscope: "),
        (("-m", "1m", "busybox", "true"), 125, b"", b"isoscope: 1048576 bytes of memory"),
        (("-m", "lots", "busybox", "true"), 2, b"", b"isoscope run --on vm: argument -m"),
        (
            ("--timeout", "0.5", "busybox", "sleep", "9"),
            125,
            b"",
            b"isoscope: the command did not end",
        ),
    ],
)
def test_the_command_line(
    busybox: str, words: tuple[str, ...], status: int, out: bytes, err: bytes
) -> None:
    assert busybox
    with vm("--quiet", *words) as process:
        told = process.communicate(timeout=60)
    assert (process.returncode, told[0]) == (status, out)
    assert told[1].startswith(err)
    assert told[1].count(b"\n") <= 1


def test_explain_prints_the_xml_and_runs_nothing(busybox: str) -> None:
    with vm("--explain", "--cpus", "2", busybox) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"<domain ")
    assert b"<vcpu>2</vcpu>" in out
