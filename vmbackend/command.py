"""A command in a guest, as far as the host has seen it."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runtime.fault import printable
from vmbackend.channel import STDIN_WINDOW_BYTES, Frame, Kind, number
from vmbackend.errors import GuestError

_CHUNK_BYTES = 32 << 10
_ENOENT = 2
_MOST_SAID = 64
_NO_ERRNO = 4096
MOST_KEPT_BYTES = 64 << 20
"""Of each stream that nobody takes as it comes."""

OutputSink = Callable[[Kind, bytes], None]
"""Is given STDOUT or STDERR and the bytes, as they arrive; blocking it holds the guest back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended.

    ``exit_status`` is 128+n for signal n, and as docker's where execve failed: 127 if there is no
    such program, else 126; ``failure`` then says why. ``phases`` are ns since the request.
    """

    exit_status: int
    stdout: bytes
    stderr: bytes
    phases: Mapping[str, int]
    failure: str | None = None

    def _repr_html_(self) -> str:
        """How it ended, as a notebook shows it."""
        from runtime.image.markup import ended  # noqa: PLC0415 - only a notebook needs it

        return ended(
            exit_status=self.exit_status,
            stdout=self.stdout,
            stderr=self.stderr,
            phases=self.phases,
        )


@dataclass(slots=True, kw_only=True)
class Command:
    """Grows by frames, which one thread takes; its owner guards the three about standard input."""

    id: int
    sink: OutputSink | None = None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    marks_ns: dict[str, int] = field(default_factory=dict)
    exit_status: int | None = None
    failure: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    spoke: threading.Event = field(default_factory=threading.Event)
    room: threading.Event = field(default_factory=threading.Event)
    stdin: bytearray = field(default_factory=bytearray)
    stdin_closing: bool = False
    _window_bytes: int = STDIN_WINDOW_BYTES
    _stdin_closed: bool = False

    def take(self, frame: Frame, now_ns: int) -> None:
        """Note a frame of this command that arrived at *now_ns*. Raises GuestError.

        What comes after its end is not the command's.
        """
        if self.exit_status is not None:
            return
        if frame.kind in (Kind.STDOUT, Kind.STDERR):
            self.marks_ns.setdefault("output", now_ns)
            self._take_output(frame)
            self.spoke.set()
        elif frame.kind is Kind.STARTED:
            self.marks_ns.setdefault("exec", now_ns)
        elif frame.kind is Kind.EXITED:
            self._end(number(frame), now_ns)
        elif frame.kind is Kind.FAILED:
            errno, call = number(frame), frame.payload[4:].decode(errors="replace")
            self.failure = f"{printable(call[:_MOST_SAID])}: {_error_text(errno)}"
            self._end(127 if call == "execve" and errno == _ENOENT else 126, now_ns)
        else:
            raise GuestError(f"the guest sent a {frame.kind.name} frame about a command")

    def credit(self, count_bytes: int) -> None:
        """The guest has passed on so much standard input and has room for as much again."""
        self._window_bytes = min(self._window_bytes + count_bytes, STDIN_WINDOW_BYTES)

    def stdin_frames(self) -> list[Frame]:
        """The standard input that may be sent now: as much as the guest has room for."""
        frames = []
        while self.stdin and self._window_bytes:
            chunk = bytes(self.stdin[: min(_CHUNK_BYTES, self._window_bytes)])
            del self.stdin[: len(chunk)]
            self._window_bytes -= len(chunk)
            frames.append(Frame(kind=Kind.STDIN, command=self.id, payload=chunk))
        if self.stdin_closing and not self.stdin and not self._stdin_closed:
            self._stdin_closed = True
            frames.append(Frame(kind=Kind.STDIN, command=self.id))
        if len(self.stdin) < STDIN_WINDOW_BYTES:
            self.room.set()
        else:
            self.room.clear()
        return frames

    def _take_output(self, frame: Frame) -> None:
        if self.sink is not None:
            self.sink(frame.kind, frame.payload)
            return
        stream = self.stdout if frame.kind is Kind.STDOUT else self.stderr
        if len(stream) + len(frame.payload) > MOST_KEPT_BYTES:
            raise GuestError(
                f"more than {MOST_KEPT_BYTES >> 20} MiB of output",
                remedy="write large output to a file inside",
            )
        stream += frame.payload

    def _end(self, exit_status: int, now_ns: int) -> None:
        self.exit_status = exit_status
        self.marks_ns["exit"] = now_ns
        self.room.set()
        self.ended.set()


def _error_text(errno: int) -> str:
    """A guest may send any number for an error."""
    return os.strerror(errno) if errno < _NO_ERRNO else f"error {errno}"
