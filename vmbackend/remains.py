"""Whose the private directories of machines are, and what a killed owner left of them.

Each process that starts machines holds a lock on a file named as its directories. The kernel
releases it when the process dies, however that happens, so a lock that can be had is a dead
owner's. Usually the watchdog was quicker; it may have been killed too. Source: flock(2).
"""

import fcntl
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.image import state_dir
from vmbackend.cache import vm_cache

_NAME = re.compile(r"isoscope-[0-9a-f]{8}")
_EMULATOR = b"qemu-system"


@contextmanager
def owned(root: Path) -> Iterator[Path]:
    """Be the owner of *root* and of the directory of overlays that belongs to it, which it yields.

    Neither is made here; the file that says whose they are is removed at the end.
    """
    lock = vm_cache("instances", f"{root.name}.lock")
    descriptor = _locked(lock)
    try:
        os.write(descriptor, os.fsencode(root))
        yield lock.with_suffix("")
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def sweep() -> tuple[str, ...]:
    """Remove what dead owners left: machines, sockets, overlays; the names of what was removed."""
    directory = state_dir() / "vm" / "instances"
    return tuple(lock.stem for lock in sorted(directory.glob("*.lock")) if _swept(lock))


def _swept(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        root = Path(os.fsdecode(os.pread(descriptor, 4096, 0)))
        if root.name == lock.stem and _NAME.fullmatch(root.name):
            _kill_machines(root)
            shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # its owner lives
    finally:
        os.close(descriptor)
    return True


def _kill_machines(root: Path) -> None:
    """Kill every QEMU that was given *root*, a path that only its owner ever named."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = os.pidfd_open(int(entry.name))
            try:
                command = (entry / "cmdline").read_bytes()
                if _EMULATOR in command and os.fsencode(root) in command:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def _locked(lock: Path) -> int:
    """An exclusive lock on the file that *lock* names now, not on one that was just removed."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)
