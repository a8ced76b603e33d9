"""Whose the private directories of machines are, and what a killed owner left of them.

Each process that starts machines holds a lock on a file named as its directories. The kernel
releases it when the process dies, however that happens, so a lock that can be had is a dead
owner's. Usually the watchdog was quicker; it may have been killed too. Source: flock(2).

The file also says which file it is and which process wrote it: a copy of the directory has no
locks, and what lies in it never leads to the machines of the original.
"""

import fcntl
import json
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
_LONGEST_RECORD = 4096
_START_TIME = 19
"""The field of /proc/PID/stat, counted after the name: proc_pid_stat(5)."""


@contextmanager
def owned(root: Path) -> Iterator[Path]:
    """Be the owner of *root* and of the directory of overlays that belongs to it, which it yields.

    Neither is made here; the file that says whose they are is removed at the end.
    """
    lock = vm_cache("instances", f"{root.name}.lock")
    descriptor = _locked(lock)
    try:
        os.write(descriptor, json.dumps(_record(descriptor, root, os.getpid())).encode())
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
        if _NAME.fullmatch(lock.stem):
            root = _dead_owners_root(descriptor, lock.stem)
            if root is not None:
                _kill_machines(root)
                shutil.rmtree(root, ignore_errors=True)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # its owner lives
    finally:
        os.close(descriptor)
    return True


def _record(lock: int, root: Path, owner: int) -> dict[str, object]:
    """What an owner writes into its file, and what is found there if nothing was moved since."""
    status = os.fstat(lock)
    return {
        "root": str(root),
        "owner": owner,
        "started_ticks": _started_ticks(owner),
        "file": [status.st_dev, status.st_ino],
    }


def _dead_owners_root(lock: int, name: str) -> Path | None:
    """The root that this very file is about, if its owner has ended; else nothing to touch."""
    try:
        record = json.loads(os.pread(lock, _LONGEST_RECORD, 0))
        root, owner = Path(record["root"]), int(record["owner"])
        started_ticks, file = int(record["started_ticks"]), record["file"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    status = os.fstat(lock)
    is_copy = file != [status.st_dev, status.st_ino]
    lives = owner > 0 and _started_ticks(owner) == started_ticks
    return None if is_copy or lives or root.name != name or not root.is_absolute() else root


def _started_ticks(pid: int) -> int | None:
    """When the process *pid* began, in ticks since the computer did; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[_START_TIME])
    except (OSError, IndexError):
        return None


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
