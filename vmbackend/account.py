"""The account QEMU runs as: never root, because a guest that breaks out becomes its emulator.

Where root starts machines, libvirt hands QEMU to its own system account, and each thing it needs
is opened to that account alone: the directories it passes through and the image's disk by the
group, which may read them; the instance's overlay and sockets, which it may write, by owner. An
ordinary user's QEMU runs as that user, and nothing has to be opened.

The account may not be in the group of ``/dev/kvm`` (libvirt-daemon-system puts it there, but it
need not be installed). Then QEMU is started with that group besides its own.
"""

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vmbackend.errors import MachineUnavailable

NAME = "libvirt-qemu"
KVM_DEVICE = Path("/dev/kvm")
_READ, _ENTER = 4, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who QEMU is, by number: ``gid`` is the account's own group, ``groups`` are all it gets.

    ``started_as`` is the group it is started with; libvirt adds those of the account.
    """

    uid: int
    gid: int
    started_as: int
    groups: frozenset[int]

    def may(self, status: os.stat_result, wanted: int) -> bool:
        """Whether it has the permissions *wanted* (4 read, 2 write, 1 enter) on a file (pure).

        Source: path_resolution(7); access control lists are not looked at.
        """
        if status.st_uid == self.uid:
            granted = status.st_mode >> 6
        elif status.st_gid in self.groups:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        return granted & wanted == wanted


@cache
def emulator_account() -> Account | None:
    """Who QEMU runs as where we are root; None: as ourselves. Raises MachineUnavailable."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam(NAME)
        gid = grp.getgrnam(NAME).gr_gid
    except KeyError:
        raise MachineUnavailable(
            f"the account {NAME}, which QEMU runs as, is missing",
            remedy=f"useradd --system --user-group --no-create-home {NAME}",
        ) from None
    groups = frozenset(os.getgrouplist(NAME, gid))
    kvm = _group_of_kvm()
    started_as = gid if kvm is None or kvm in groups else kvm
    return Account(uid=user.pw_uid, gid=gid, started_as=started_as, groups=groups | {started_as})


def _group_of_kvm() -> int | None:
    """The group that may use KVM; None if there is no KVM, or only root may."""
    try:
        status = KVM_DEVICE.stat()
    except OSError:
        return None
    return status.st_gid if status.st_gid != 0 and status.st_mode & 0o060 == 0o060 else None


def open_to_emulator(path: Path, mode: int) -> None:
    """Give *path* to the group of QEMU's account with *mode*; no change where QEMU is ourselves.

    What belongs to somebody else stays as it is.
    """
    account = emulator_account()
    status = path.stat()
    if account is None or status.st_uid != 0:
        return
    if (status.st_gid, stat.S_IMODE(status.st_mode)) != (account.gid, mode):
        os.chown(path, -1, account.gid)
        path.chmod(mode)


def give_to_emulator(path: Path) -> None:
    """Make QEMU's account the owner of *path*; no change where QEMU is ourselves."""
    account = emulator_account()
    if account is not None:
        os.chown(path, account.uid, account.gid)


def check_passable(folder: Path) -> None:
    """Raises MachineUnavailable if QEMU's account may not get into *folder*."""
    account = emulator_account()
    if account is None:
        return
    for step in (*reversed(folder.parents), folder):
        if not account.may(step.stat(), _ENTER):
            raise MachineUnavailable(
                f"QEMU runs as {NAME}, which may not pass through {step}",
                remedy=f"chmod o+x {step}, or set ISOSCOPE_HOME to a path open to others",
            )


def check_readable(*files: Path) -> None:
    """Raises MachineUnavailable if QEMU's account may not get to *files* or not read them."""
    account = emulator_account()
    if account is None:
        return
    for folder in {file.parent for file in files}:
        check_passable(folder)
    for file in files:
        if not account.may(file.stat(), _READ):
            raise MachineUnavailable(
                f"QEMU runs as {NAME}, which may not read {file}", remedy=f"chmod o+r {file}"
            )
