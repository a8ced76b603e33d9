"""What containers said: the file that ``logwriter.c`` keeps, read back.

A frame is a header of 16 bytes (time in ns of CLOCK_REALTIME, stream, length) and the bytes. Two
files at most, ``log.1`` before ``log``. What a torn write left is cut off before the next start.
"""

import fcntl
import os
import select
import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from runtime import syscalls
from runtime.container.kept.record import Living, opened
from runtime.container.launch.compiled import program_of, spawn
from runtime.image.durable import locked

STDOUT, STDERR, LOST, END = 1, 2, 3, 4
FILE, OLDER, LOCK = "log", "log.1", "log.lock"
_SOURCE = Path(__file__).with_name("logwriter.c")
_ROOT = Path(__file__).parents[3]
_HEADER = struct.Struct("<QII")
_CHUNK_BYTES = 16384
_BLOCK_BYTES = 1 << 20
_PASSED_ON = ("ISOSCOPE_HOME", "XDG_DATA_HOME", "HOME")


@dataclass(frozen=True, slots=True)
class Frame:
    """What was said at once. *is_start* of a piece (see ``pieces``): a line begins with it."""

    at_ns: int
    stream: int
    data: bytes
    is_start: bool = False


class Writing:
    """The pipes of a container that is about to start, and who will read them. A context manager.

    Until ``hand_over`` nothing is read, so it must follow the start at once. What is still open
    when the block is left is closed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._code = program_of(_SOURCE)
        self._open = ExitStack()
        self.stdout = self.stderr = -1

    def __enter__(self) -> Self:
        """Make the pipes and open the log, cut to its last whole frame."""
        with ExitStack() as undo:
            self._read_out, self.stdout = self._pipe(undo)
            self._read_err, self.stderr = self._pipe(undo)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = self._keep(undo, os.open(self._directory / LOCK, flags, 0o600))
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # the last writer, if it is not done yet
            self._log = self._keep(
                undo, os.open(self._directory / FILE, flags | os.O_APPEND, 0o600)
            )
            _mend(self._log)
            self._place = self._keep(undo, os.open(self._directory, os.O_RDONLY | os.O_CLOEXEC))
            self._open = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close our own ends."""
        self._open.close()

    def hand_over(self, executor: int, then: Sequence[str], *, lifeline: int | None) -> int:
        """Have them read until the process *executor* ends, and *then* run; the reader's pid.

        It holds the descriptor *lifeline*, too, until *executor* ends.
        """
        pidfd = os.pidfd_open(executor)
        try:
            env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            env["PATH"] = os.defpath
            given = [self._read_out, self._read_err, self._log, pidfd, self._place, self._lock]
            if lifeline is not None:
                given.append(lifeline)
            return spawn(self._code, ("isoscope-log", *then), env, dict(enumerate(given)))
        finally:
            os.close(pidfd)

    def _pipe(self, undo: ExitStack) -> tuple[int, int]:
        read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read, False)  # and not the other end, which is the container's
        return self._keep(undo, read), self._keep(undo, write)

    @staticmethod
    def _keep(undo: ExitStack, fd: int) -> int:
        undo.callback(os.close, fd)
        return fd


def tidying(container: str) -> tuple[str, ...]:
    """The command that looks after *container* once it has ended."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from runtime.container.kept.after import main; main(sys.argv[2])"
    )
    return (sys.executable, "-I", "-c", code, str(_ROOT), container)


def wait_until_written(directory: Path) -> None:
    """Return when all that an ended container said is in its log."""
    with suppress(FileNotFoundError), locked(directory / LOCK, shared=True):
        pass


def frames(directory: Path) -> Iterator[Frame]:
    """All that is in the log now, in the order in which it was said."""
    for name in (OLDER, FILE):
        with suppress(FileNotFoundError), (directory / name).open("rb") as file:
            yield from _whole(file.fileno())


def followed(directory: Path, executor: Living | None) -> Iterator[Frame]:
    """As ``frames``, and then what is said until the container ends, as it is said."""
    with ExitStack() as undo:
        executor_fd = undo.enter_context(opened(executor))
        watch = syscalls.inotify_init1(syscalls.IN_NONBLOCK | syscalls.IN_CLOEXEC)
        undo.callback(os.close, watch)
        events = syscalls.IN_MODIFY | syscalls.IN_MOVED_TO | syscalls.IN_CREATE
        syscalls.inotify_add_watch(watch, str(directory), events)
        with suppress(FileNotFoundError), (directory / OLDER).open("rb") as older:
            yield from _whole(older.fileno())
        file = _opened(directory, undo)
        while executor_fd is not None:
            yield from _whole(file)
            if _is_rotated(directory, file):
                yield from _whole(file)
                file = _opened(directory, undo)
                continue
            ready, _, _ = select.select([watch, executor_fd], [], [])
            with suppress(BlockingIOError):
                os.read(watch, 1 << 16)
            if executor_fd in ready:
                break
        wait_until_written(directory)
        yield from _whole(file)
        if _is_rotated(directory, file):
            yield from _whole(_opened(directory, undo))


def pieces(all_frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same bytes, cut behind each newline; of lost ones a line of standard error tells."""
    begins = {STDOUT: True, STDERR: True}
    for frame in all_frames:
        stream, data = frame.stream, frame.data
        if stream == LOST:
            lost = int.from_bytes(data, "little")
            stream, data = STDERR, b"isoscope: %d bytes were lost: no room on the disk\n" % lost
        if stream not in begins:
            continue
        for part in data.splitlines(keepends=True) if b"\r" not in data else _lines(data):
            yield Frame(frame.at_ns, stream, part, begins[stream])
            begins[stream] = part.endswith(b"\n")


def last_lines(some: Iterable[Frame], count: int) -> Iterator[Frame]:
    """The pieces of the last *count* lines."""
    kept: deque[Frame] = deque()
    lines = 0
    for piece in some:
        kept.append(piece)
        lines += piece.is_start
        if lines > count:
            lines -= kept.popleft().is_start
            while kept and not kept[0].is_start:  # the rest of that line
                kept.popleft()
    return iter(kept if count else ())


def _lines(data: bytes) -> list[bytes]:
    """Cut behind newlines only; ``splitlines`` would do so at a carriage return too."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _opened(directory: Path, undo: ExitStack) -> int:
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(directory / FILE, flags, 0o600)
    undo.callback(os.close, fd)
    return fd


def _is_rotated(directory: Path, file: int) -> bool:
    with suppress(FileNotFoundError):
        return (directory / FILE).stat().st_ino != os.fstat(file).st_ino
    return False


def _whole(file: int) -> Iterator[Frame]:
    """The whole frames from where *file* stands, which it is moved behind."""
    rest = b""
    while block := os.read(file, _BLOCK_BYTES):
        rest += block
        at = 0
        while (end := _end_of_frame(rest, at)) <= len(rest):
            at_ns, stream, _ = _HEADER.unpack_from(rest, at)
            yield Frame(at_ns, stream, rest[at + _HEADER.size : end])
            at = end
        rest = rest[at:]
    os.lseek(file, -len(rest), os.SEEK_CUR)


def _end_of_frame(block: bytes, at: int) -> int:
    """Where the frame at *at* ends; beyond the block for what is no frame, or not all of one."""
    if at + _HEADER.size > len(block):
        return len(block) + 1
    _, stream, size = _HEADER.unpack_from(block, at)
    if stream not in {STDOUT, STDERR, LOST, END} or size > _CHUNK_BYTES:
        return len(block) + 1
    return at + _HEADER.size + int(size)


def _mend(log: int) -> None:
    """Cut off what a death in the middle of a write has left."""
    size = os.fstat(log).st_size
    mark = os.pread(log, _HEADER.size, max(0, size - _HEADER.size))
    if size and (len(mark) < _HEADER.size or _HEADER.unpack(mark)[1:] != (END, 0)):
        os.lseek(log, 0, os.SEEK_SET)
        for _ in _whole(log):
            pass
        os.ftruncate(log, os.lseek(log, 0, os.SEEK_CUR))
