"""Machines of libvirt's daemons, and of an ordinary user."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirtds
import pytest

from vmbackend.account import emulator_account
from vmbackend.connection import Connection
from vmbackend.errors import MachineUnavailable
from vmbackend.kernel import kernel
from vmbackend.machine import machine
from vmbackend.spec import MachineSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="root makes daemons and users for these tests"),
]
Finder = Callable[[str], list[int]]
LIMIT_S = 60
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def daemon() -> Iterator[libvirtds.Daemon]:
    if (why := libvirtds.missing()) is not None:
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="isoscope-test-") as directory,
        libvirtds.system(Path(directory)) as started,
    ):
        yield started


@pytest.fixture
def system(daemon: libvirtds.Daemon) -> Connection:
    return Connection(driver="system", socket=daemon.socket)


def virsh(connection: Connection, *words: str) -> str:
    if shutil.which("virsh") is None:
        pytest.skip("no virsh here: apt-get install libvirt-clients")
    return subprocess.run(
        ["virsh", "-c", connection.uri, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_systems_daemon_has_the_machine_and_outlives_its_own_death(
    busybox: str, daemon: libvirtds.Daemon, system: Connection, emulators: Finder
) -> None:
    """One boot: what others see of it, a daemon killed under it, another one in its place."""
    name = f"isoscope-{os.getpid()}-"
    owners = [path.stat().st_uid for path in (kernel().image, kernel().image.parent)]
    with machine(MachineSpec(image=busybox, connection=system)) as guest:
        (seen,) = virsh(system, "list", "--name").split()
        assert seen.startswith(name)
        noted = virsh(system, "metadata", seen, "urn:isoscope:machine:1")
        assert noted == f'<machine image="{busybox}" profile="minimal"/>'
        (pid,) = emulators(name)
        account = emulator_account()
        assert account is not None
        assert Path(f"/proc/{pid}").stat().st_uid == account.uid
        assert guest.run(["echo", "one"], timeout_s=LIMIT_S).stdout == b"one\n"
        daemon.kill()
        assert guest.run(["echo", "two"], timeout_s=LIMIT_S).stdout == b"two\n"
        daemon.start()
        assert guest.run(["echo", "three"], timeout_s=LIMIT_S).stdout == b"three\n"
    assert virsh(system, "list", "--all", "--name") == ""
    assert emulators(name) == []
    assert list(guest.phases)[-2:] == ["gone", "gone.forgotten"]
    assert [path.stat().st_uid for path in (kernel().image, kernel().image.parent)] == owners


def test_a_daemon_that_is_not_there_is_said_with_what_to_do(busybox: str, tmp_path: Path) -> None:
    nobody = Connection(driver="system", socket=tmp_path / "libvirt-sock")
    with (
        pytest.raises(MachineUnavailable, match="does not open") as refused,
        machine(MachineSpec(image=busybox, connection=nobody)),
    ):
        pytest.fail("it started")
    assert "qemu:///embed" in str(refused.value.remedy)


def test_root_is_told_that_it_has_no_session(busybox: str) -> None:
    with (
        pytest.raises(MachineUnavailable, match="root has no session"),
        machine(MachineSpec(image=busybox, connection=Connection(driver="session"))),
    ):
        pytest.fail("it started")


@pytest.fixture(scope="module")
def user() -> Iterator[str]:
    if shutil.which("useradd") is None or shutil.which("setpriv") is None:
        pytest.skip("no useradd or setpriv here: apt-get install passwd util-linux")
    name = f"isoscope-test-{os.getpid()}"
    subprocess.run(["useradd", "--user-group", "--no-create-home", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)


@pytest.fixture(scope="module")
def theirs(user: str, home: Path, busybox: str) -> Iterator[dict[str, str]]:
    """The environment of *user*, with images and a kernel that belong to them."""
    assert busybox
    place = Path(tempfile.mkdtemp(prefix="isoscope-test-", dir="/tmp"))
    shutil.copytree(home / "images", place / "state/images")
    shutil.copytree(home / "vm/kernel", place / "state/vm/kernel")
    own = {name: place / name for name in ("home", "run", "config", "cache")}
    try:
        for directory in own.values():
            directory.mkdir(mode=0o700)
        for path in (place, *place.rglob("*")):
            shutil.chown(path, user, user)
        yield {
            "PATH": os.environ["PATH"], "ISOSCOPE_HOME": str(place / "state"),
            "HOME": str(own["home"]), "XDG_RUNTIME_DIR": str(own["run"]),
            "XDG_CONFIG_HOME": str(own["config"]), "XDG_CACHE_HOME": str(own["cache"]),
        }  # fmt: skip
    finally:
        shutil.rmtree(place)


def run_as(user: str, theirs: dict[str, str], *words: str) -> subprocess.CompletedProcess[bytes]:
    become = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
    return subprocess.run(
        [*become, sys.executable, "-m", "vmbackend.cli", "--quiet", *words],
        cwd=ROOT, env=theirs, capture_output=True, stdin=subprocess.DEVNULL, timeout=120,
        check=False,
    )  # fmt: skip


SCRIPT = "id -u; stat -c %u:%g /bin/busybox /etc/passwd; touch /bin/new && echo writable"


def test_an_ordinary_user_can_run_machines(
    busybox: str, user: str, theirs: dict[str, str]
) -> None:
    done = run_as(user, theirs, busybox, "sh", "-c", SCRIPT)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"0\n0:0\n0:0\nwritable\n"


def test_so_they_can_by_their_own_daemon_which_forgets_the_machine(
    busybox: str, user: str, theirs: dict[str, str], tmp_path: Path
) -> None:
    if (why := libvirtds.missing()) is not None:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="isoscope-test-") as directory:
        shutil.chown(directory, user)
        with libvirtds.session(Path(directory), user, theirs):
            connect = ("--connect", "qemu:///session")
            done = run_as(user, theirs, *connect, busybox, "sh", "-c", SCRIPT)
            shared = run_as(user, theirs, *connect, "-v", f"{tmp_path}:/mnt", busybox, "true")
            system = run_as(user, theirs, "--connect", "qemu:///system", busybox, "true")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"0\n0:0\n0:0\nwritable\n"
    assert (shared.returncode, b"virtiofs is root's alone" in shared.stderr) == (125, True)
    assert (system.returncode, b"use qemu:///session" in system.stderr) == (125, True)
    logs = Path(theirs["XDG_CACHE_HOME"], "libvirt/qemu/log")
    assert list(logs.iterdir()) == []
    kept = Path(theirs["ISOSCOPE_HOME"], "vm/instances")
    assert [path.name for path in kept.iterdir() if not path.name.startswith(".")] == []
