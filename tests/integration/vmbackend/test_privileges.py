"""What a guest that breaks out of its emulator would find itself to be."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.backend import InstanceSpec
from benchmarks.backends import opened
from vmbackend.account import emulator_account
from vmbackend.errors import GuestError
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import machine
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
Status = Callable[[int], dict[str, str]]
LIMIT_S = 60
_FILTER = "2"
"""SECCOMP_MODE_FILTER of proc_pid_status(5)."""


def check_powerless(seen: dict[str, str]) -> None:
    account = emulator_account()
    uid = os.geteuid() if account is None else account.uid
    assert uid != 0
    assert seen["Uid"].split() == [str(uid)] * 4
    assert "0" not in seen["Gid"].split() + seen["Groups"].split()
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == 0
    assert (seen["Seccomp"], seen["NoNewPrivs"]) == (_FILTER, "1")


def check_closed_to_others() -> None:
    """Nobody but QEMU's account can open what the instance owns."""
    account = emulator_account()
    owner = os.geteuid() if account is None else account.uid
    engine = hypervisor()
    for folder in (engine.instances, engine.root / "s"):
        assert folder.stat().st_mode & 0o007 == 0
        found = [path.stat() for path in folder.iterdir()]
        assert found
        assert {(each.st_uid, each.st_mode & 0o077) for each in found} == {(owner, 0)}


def test_qemu_is_not_root_and_is_in_its_sandbox(
    busybox: str, status: Status, emulators: Callable[[str], list[int]]
) -> None:
    with machine(MachineSpec(image=busybox, argv=("id", "-u"))) as guest:
        (pid,) = emulators(f"isoscope-{os.getpid()}-")
        check_powerless(status(pid))
        check_closed_to_others()
        assert guest.wait(timeout_s=LIMIT_S).stdout == b"0\n"  # while inside it is root


def test_so_is_the_one_without_libvirt(
    busybox: str, status: Status, emulators: Callable[[str], list[int]]
) -> None:
    with opened("qemu") as backend, backend.launch(InstanceSpec(image=busybox)) as guest:
        (pid,) = (p for p in emulators("-sandbox") if status(p)["PPid"] == str(os.getpid()))
        check_powerless(status(pid))
        assert guest.run(["id", "-u"], timeout_s=LIMIT_S).stdout == b"0\n"


def test_a_qemu_that_was_killed_leaves_no_zombie(
    busybox: str, emulators: Callable[[str], list[int]]
) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        (pid,) = emulators(f"isoscope-{os.getpid()}-")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(GuestError):
            guest.run(["true"], timeout_s=LIMIT_S)
    assert not Path(f"/proc/{pid}").exists()
