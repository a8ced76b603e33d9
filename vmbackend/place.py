"""Where this process keeps what belongs to its machines, and what watches over it.

One private place a process: ``root`` has the sockets (its name is short, because paths of sockets
end at 108 bytes) and whatever libvirt's embedded driver keeps; ``instances`` has the overlays. It
is made by the first call and removed when the process ends; if that is killed, a watchdog ends
every QEMU that was given a path in ``root`` and removes both (``watchdog.c``).
"""

import atexit
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vmbackend.account import check_passable, emulator_account, open_to_emulator
from vmbackend.compiler import WATCHDOG, compiled
from vmbackend.errors import MachineUnavailable
from vmbackend.remains import owned
from vmbackend.syscalls import set_child_subreaper

PASSABLE = 0o710
"""The mode of a directory that QEMU's account may walk through, and not list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The two directories, by absolute paths without links."""

    root: Path
    instances: Path

    @property
    def sockets(self) -> Path:
        """Where each machine's console and port are listened for."""
        return self.root / "s"


def place() -> Place:
    """This process's own. Raises MachineUnavailable, also in a fork of a process that has one."""
    owner, made, _ = _made()
    if owner != os.getpid():
        raise MachineUnavailable(
            "this process is a fork of one that has machines",
            remedy="start it with spawn or exec instead",
        )
    return made


@cache
def _made() -> tuple[int, Place, ExitStack]:
    with ExitStack() as undo:
        made = undo.enter_context(_place())
        kept = undo.pop_all()
    atexit.register(_remove_as, os.getpid(), kept)
    return os.getpid(), made, kept


def _remove_as(owner: int, kept: ExitStack) -> None:
    if os.getpid() == owner:  # a fork runs this too, and must not touch what is not its own
        kept.close()


@contextmanager
def _place() -> Iterator[Place]:
    emulator_account()  # as root there must be one
    root = Path(_short_directory(), f"isoscope-{secrets.token_hex(4)}")
    with ExitStack() as undo:
        instances = undo.enter_context(owned(root))
        undo.enter_context(_watchdog(root, instances))  # before there is anything to clean up
        for directory in (instances, root, root / "s"):
            directory.mkdir(mode=0o700)
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            open_to_emulator(directory, PASSABLE)
        check_passable(instances)
        set_child_subreaper()
        yield Place(root=root, instances=instances)


def _short_directory() -> str:
    """Of the user, if its name is short; libvirt adds some 60 bytes to it."""
    candidate = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = candidate.startswith("/") and len(candidate) <= 24 and os.access(candidate, os.W_OK)
    return candidate if usable else "/tmp"  # noqa: S108 - what is made in it is 0700


@contextmanager
def _watchdog(*directories: Path) -> Iterator[None]:
    """A process that cleans up if this one is killed; see ``watchdog.c``."""
    program = compiled(WATCHDOG)
    pid = os.posix_spawn(
        program,
        [program.name, str(os.getpid()), *map(str, directories)],
        {},
        file_actions=[(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)],
        setsid=True,
    )
    process = os.pidfd_open(pid)
    try:
        yield
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # someone else ended or reaped it
            signal.pidfd_send_signal(process, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(process)
