"""One run at a time on a machine, whoever started it: two at once would measure each other.

The lock is flock(2) on one file that root and users share, so that the kernel frees it when its
holder dies, however that happens. Its folder is writable for all: nothing in the file is trusted,
no link is followed, and what is not ours is never written to.
"""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import Busy, JournalError

_SHARED = (Path("/run/lock"), Path("/tmp"))  # noqa: S108 - shared is the point; see above
_NAME = "isoscope.lock"
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_MOST_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The machine, ours until the block is left."""

    descriptor: int

    def tells(self, folder: Path | None) -> None:
        """Let others know who holds the machine, and where the results go."""
        record = {"pid": os.getpid(), "folder": str(folder.absolute()) if folder else None}
        if _is_ours(self.descriptor):
            with suppress(OSError):  # another user's file, or a full disk: it is held all the same
                os.ftruncate(self.descriptor, 0)
                os.pwrite(self.descriptor, json.dumps(record).encode(), 0)


def lock_path() -> Path:
    """``$ISOSCOPE_LOCK``, else a file in the first folder that is everybody's on this machine."""
    if (chosen := os.environ.get("ISOSCOPE_LOCK")) is not None:
        return Path(chosen)
    return next((each for each in _SHARED if _is_everybodys(each)), _SHARED[-1]) / _NAME


@contextmanager
def machine_lock() -> Iterator[Held]:
    """Hold the machine for measuring.

    Raises Busy with the holder's pid and its run's folder, as far as they can be known, and
    JournalError if the file cannot be made or is not what we would have made.
    """
    path = lock_path()
    descriptor = _locked(path)
    try:
        held = Held(descriptor=descriptor)
        held.tells(None)
        yield held
    finally:
        with suppress(OSError):  # in a folder for all, another user's file stays
            path.unlink()
        os.close(descriptor)


def _is_everybodys(folder: Path) -> bool:
    try:
        mode = folder.stat().st_mode
    except OSError:
        return False
    return bool(mode & stat.S_IWOTH and mode & stat.S_ISVTX)


def _locked(path: Path) -> int:
    while True:
        descriptor = _opened(path)
        try:
            _require_plain(path, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            busy = _busy(descriptor)
            os.close(descriptor)
            raise busy from None
        except JournalError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder removed the file between our open and our lock


def _opened(path: Path) -> int:
    """The file, made if it is missing. flock(2) takes any descriptor, also one to read only.

    O_CREAT is for a file that is not there yet: on another user's the kernel may refuse it
    (proc_sys_fs(5), protected_regular).
    """
    while True:
        try:
            with suppress(PermissionError):
                return os.open(path, _FLAGS | os.O_RDWR)
            return os.open(path, _FLAGS | os.O_RDONLY)
        except FileNotFoundError:
            pass
        except OSError as wrong:
            raise _cannot(path, wrong) from None
        try:
            descriptor = os.open(path, _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # another process was faster
        except OSError as wrong:
            raise _cannot(path, wrong) from None
        os.fchmod(descriptor, 0o666)  # whatever our umask is
        return descriptor


def _cannot(path: Path, wrong: OSError) -> JournalError:
    return JournalError(
        f"the lock {path} cannot be made: {wrong.strerror}",
        remedy="see what is there, or name another file in ISOSCOPE_LOCK",
    )


def _require_plain(path: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise JournalError(
            f"the lock {path} is no plain file of its own", remedy="see who put it there"
        )


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _is_ours(descriptor: int) -> bool:
    return not os.pread(descriptor, 1, 0) or _record(descriptor) is not None


def _record(descriptor: int) -> tuple[int, str | None] | None:
    """Pid and folder as the file has them; None for anything that we did not write."""
    try:
        match json.loads(os.pread(descriptor, _MOST_BYTES, 0)):
            case {"pid": int(pid), "folder": str() | None as folder}:
                return pid, folder
            case _:
                return None
    except (ValueError, RecursionError):
        return None


def _busy(descriptor: int) -> Busy:
    """The pid is the kernel's; the folder is believed if the file names the same pid."""
    holders = _holders(os.fstat(descriptor).st_ino)
    pid, folder = _record(descriptor) or (None, None)
    if pid not in holders:
        pid, folder = next(iter(holders), None), None
    who = "another process" if pid is None else f"process {pid}"
    where = "" if folder is None else f", into {folder}"
    end = "" if pid is None else f", or end it with: kill {pid}"
    return Busy(f"{who} is measuring on this machine{where}", remedy=f"wait until it ends{end}")


def _holders(inode: int) -> list[int]:
    """Who has a flock on *inode*. Source: proc_locks(5)."""
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if " FLOCK " in line and "->" not in line]
    return [int(each[4]) for each in fields if each[5].rpartition(":")[2] == str(inode)]
