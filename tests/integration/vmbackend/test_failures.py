"""What can go wrong with a machine: each gives an error of its kind, in time, and leaves nothing.

That nothing is left is looked at after each test by ``conftest``. ``ISOSCOPE_STRESS=1`` kills the
owner of machines at twenty random moments instead of two.
"""

import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from vmbackend.errors import DeadlineError, EngineError, GuestError
from vmbackend.machine import Machine, machine
from vmbackend.parts import Parts, parts_of
from vmbackend.spec import MachineSpec
from vmbackend.vmm import vmm

pytestmark = pytest.mark.slow
Finder = Callable[[str], list[int]]
ROOT = Path(__file__).parents[3]
LIMIT_S = 30
ROUNDS = 20 if os.environ.get("ISOSCOPE_STRESS") else 2


@contextmanager
def started(
    spec: MachineSpec, parts: Parts, watch: Callable[[Machine], None]
) -> Iterator[Machine]:
    """As ``machine``, of *parts* that need not be whole; *watch* runs beside its start."""
    with vmm(spec, parts, start_ns=time.monotonic_ns()) as engine:
        guest = Machine(spec=spec, parts=parts, engine=engine)
        watcher = threading.Thread(target=watch, args=(guest,))
        watcher.start()
        try:
            guest.start_main(feeding=False, sink=None)
            engine.start()
            guest.await_boot(LIMIT_S)
            yield guest
        finally:
            watcher.join()


def nothing(_guest: Machine) -> None:
    pass


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory that QEMU's account may read."""
    with tempfile.TemporaryDirectory(prefix="isoscope-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [("engine", EngineError), ("engine.created", GuestError), ("init", GuestError)],
)
def test_qemu_killed_on_the_way_is_an_error_of_that_phase(
    busybox: str, emulators: Finder, phase: str, kind: type[EngineError | GuestError]
) -> None:
    spec = MachineSpec(image=busybox, argv=("sleep", "100"))

    def kill(guest: Machine) -> None:
        deadline = time.monotonic() + LIMIT_S
        while phase not in guest.phases and time.monotonic() < deadline:
            time.sleep(0.001)
        for pid in emulators(f"isoscope-{os.getpid()}-"):
            os.kill(pid, signal.SIGKILL)

    begun = time.monotonic()
    with pytest.raises(kind) as caught, started(spec, parts_of(spec), kill) as guest:
        guest.wait(timeout_s=LIMIT_S)
    assert time.monotonic() - begun < LIMIT_S
    if phase == "init":
        assert "isoscope: init" in caught.value.console_tail


def test_a_machine_that_stands_still_is_ended_at_the_deadline(
    busybox: str, emulators: Finder
) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        (pid,) = emulators(f"isoscope-{os.getpid()}-")
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(DeadlineError) as caught:
            guest.run(["true"], timeout_s=0.2)
        assert emulators(f"isoscope-{os.getpid()}-") == []
    assert caught.value.last_phase == "init.agent"
    assert "isoscope: init" in caught.value.console_tail


def test_a_kernel_that_is_none_is_said_by_qemu(busybox: str, readable: Path) -> None:
    spec = MachineSpec(image=busybox)
    whole = parts_of(spec)
    broken = readable / "vmlinux"
    broken.write_bytes(b"no kernel" * 100_000)
    parts = replace(whole, kernel=replace(whole.kernel, image=broken))
    with pytest.raises(EngineError, match="kernel"), started(spec, parts, nothing):
        pytest.fail("it booted")


def test_a_disk_that_is_none_is_said_by_the_guest(busybox: str, readable: Path) -> None:
    spec = MachineSpec(image=busybox)
    whole = parts_of(spec)
    broken = readable / "disk.ext4"
    broken.write_bytes(bytes(whole.disk.virtual_bytes))
    parts = replace(whole, disk=replace(whole.disk, path=broken))
    with (
        pytest.raises(GuestError, match="gave up: mount /dev/vda") as caught,
        started(spec, parts, nothing),
    ):
        pytest.fail("it booted")
    assert "isoscope: fatal" in caught.value.console_tail


def test_more_memory_than_there_can_be_is_said_by_qemu(busybox: str) -> None:
    spec = MachineSpec(image=busybox, memory_bytes=1 << 50)
    with pytest.raises(EngineError, match=r"memory|maxram|phys") as caught, machine(spec):
        pytest.fail("it booted")
    assert caught.value.last_phase in {"request", "prepared", "engine"}


FULL = """
mount -t tmpfs -o size=1m,mode=711 tmpfs "$1"
exec "$2" -m vmbackend.cli --quiet --timeout 60 "$3" sh -c "$4"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_under_the_overlay_ends_the_machine_with_what_to_do(
    busybox: str, home: Path
) -> None:
    script = FULL.strip()
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    writes = "echo on; head -c 4000000 /dev/zero >/f; sync"
    full = (home / "vm" / "instances").resolve()
    done = subprocess.run(
        [*words, str(full), sys.executable, busybox, writes],
        cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL, timeout=90, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (125, b"on\n"), done.stderr
    assert b"there is no room left in " in done.stderr
    assert b"make room there" in done.stderr
    assert done.stderr.count(b"\n") == 1


OWNER = """
import sys
from vmbackend.machine import machine
from vmbackend.place import place
from vmbackend.spec import MachineSpec
print(place().root, flush=True)
while True:
    with machine(MachineSpec(image=sys.argv[1], argv=("true",))) as guest:
        guest.wait(timeout_s=60)
"""


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_an_owner_killed_at_any_moment_leaves_nothing(
    busybox: str, home: Path, emulators: Finder, turn: int
) -> None:
    seed = secrets.randbits(32)
    moment_s = random.Random(seed).uniform(0, 3 if ROUNDS > 2 else 1.5)  # noqa: S311 - no secret
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, busybox], cwd=ROOT, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        root = Path(owner.stdout.readline().decode().strip())
        with pytest.raises(subprocess.TimeoutExpired):
            owner.wait(moment_s)  # the moment is what is varied here
        owner.kill()
    instances = home / "vm" / "instances" / root.name
    deadline = time.monotonic() + 5
    while emulators(str(root)) or root.exists() or instances.exists():
        assert time.monotonic() < deadline, f"left behind; turn {turn}, seed {seed}"
        time.sleep(0.02)
