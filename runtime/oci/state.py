"""What is kept of a container between two commands: one directory a container, whole at any time.

The directory appears by a rename with its record in it, so no crash leaves one without. The
record names groups and bundle before the first of them is touched. Commands that change a
container hold a lock on its directory; one that finds it gone waited for a deletion.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import RuntimeFault, SpecError
from runtime.oci.document import Reader, parse, render

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Kept:
    """The record of one container, and what the machine says of it now."""

    def __init__(self, directory: str, record: dict[str, object]) -> None:
        self.directory = directory
        self.name = directory.rpartition("/")[2]
        self.record = record
        reader = Reader(record, "state.json")
        self.pid = reader.number("pid", 0, high=1 << 22) or 0
        self.ticks = reader.number("started_ticks", 0) or 0
        self.bundle = reader.text("bundle")
        self.created = reader.text("created")
        self.groups = list(reader.texts("groups"))

    def save(self, **changes: object) -> None:
        """Write the record with *changes*: the old or the new one survives a crash."""
        self.record |= changes
        _write(self.directory, self.record)
        self.pid = int(str(self.record.get("pid", 0)))
        self.ticks = int(str(self.record.get("started_ticks", 0)))

    @property
    def gate(self) -> str:
        """The FIFO at which its init waits to be started."""
        return f"{self.directory}/gate"

    def lives(self) -> bool:
        """Whether its init runs: the same process, no other with its number."""
        return self.pid > 0 and started_ticks(self.pid) == self.ticks

    def status(self) -> str:
        """creating, created, running, or stopped (runtime.md); paused is asked of the groups."""
        if self.pid == 0:
            maker = Reader(self.record, "state.json")
            pid = maker.number("maker", 0) or 0
            alive = pid and started_ticks(pid) == maker.number("maker_ticks", 0)
            return "creating" if alive else "stopped"
        if not self.lives():
            return "stopped"
        return "created" if self._waits() else "running"

    def _waits(self) -> bool:
        try:
            os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True


def checked_name(name: str) -> str:
    """*name*, if it can be a container's. Raises SpecError."""
    if not name or len(name) > 1024 or set(name) - _NAME or name in {".", ".."}:
        raise SpecError(f"{name!r} is no container id", remedy="use letters, digits and _+-.")
    return name


def begin(root: str, name: str, record: dict[str, object]) -> Kept:
    """The directory of a new container, with *record* in it. Raises RuntimeFault if it exists."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    draft = f"{root}/.{checked_name(name)}.{os.getpid()}"
    os.mkdir(draft, 0o700)
    try:
        record = record | {"maker": os.getpid(), "maker_ticks": started_ticks(os.getpid())}
        _write(draft, record)
        os.mkfifo(f"{draft}/gate", 0o600)
        try:
            os.rename(draft, f"{root}/{name}")
        except OSError:
            raise RuntimeFault(f"container with given ID already exists: {name}") from None
    except BaseException:
        _remove(draft)
        raise
    return Kept(f"{root}/{name}", record)


def find(root: str, name: str) -> Kept:
    """The container *name*. Raises RuntimeFault with the words engines look for."""
    directory = f"{root}/{checked_name(name)}"
    try:
        with open(f"{directory}/state.json", "rb") as file:
            raw = file.read(1 << 22)
    except OSError:
        raise RuntimeFault(f"container {name!r} does not exist") from None
    return Kept(directory, Reader(parse(raw, "state.json"), "state.json").value)


@contextmanager
def locked(root: str, name: str) -> Iterator[Kept]:
    """The container *name*, which nobody else changes meanwhile. Raises RuntimeFault."""
    kept = find(root, name)
    descriptor = os.open(kept.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield find(root, name)
    finally:
        os.close(descriptor)


def every(root: str) -> Iterator[Kept]:
    """All containers below *root*."""
    try:
        names = sorted(n for n in os.listdir(root) if not n.startswith("."))
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield find(root, name)
        except RuntimeFault:
            continue  # deleted meanwhile


def forget(kept: Kept) -> None:
    """Remove its directory: by a rename first, so that it is gone at once."""
    gone = f"{kept.directory.rpartition('/')[0]}/.{kept.name}.{os.getpid()}.gone"
    os.rename(kept.directory, gone)
    _remove(gone)


def started_ticks(pid: int) -> int:
    """When *pid* started, in clock ticks since boot; 0 if it is gone or a zombie (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if state in (b"Z", b"X") else int(fields[18])


def now() -> str:
    """The wall clock in UTC, as documents have it."""
    at = time.clock_gettime_ns(time.CLOCK_REALTIME)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 10**9))
    return f"{whole}.{at % 10**9:09d}Z"


def _write(directory: str, record: dict[str, object]) -> None:
    # Not synced: a machine that crashes takes along what the record is about.
    fresh = f"{directory}/.state.json"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, render(record).encode())
    finally:
        os.close(descriptor)
    os.rename(fresh, f"{directory}/state.json")


def _remove(directory: str) -> None:
    for name in ("state.json", ".state.json", "gate", "config.json"):
        try:
            os.unlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
    os.rmdir(directory)
