"""What a client sends: read in time, as long as it says and no longer.

Source: RFC 9112, 6 and 7 (message bodies, chunked coding).
"""

import io
import re
import socket
import time
from collections.abc import Callable
from email.message import Message
from typing import TYPE_CHECKING, BinaryIO

from runtime.image.blob import Reader

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")
_DIGITS = re.compile(r"\d{1,18}")
_MAX_LINE_BYTES = 4096
_MAX_TRAILERS = 32


class BrokenBodyError(Exception):
    """A body ends too early, or its coding makes no sense."""


class Deadline:
    """Until when the client may take for what is read next."""

    def __init__(self) -> None:
        self._until_ns = 0

    def give(self, seconds: float) -> None:
        """From now on it has *seconds*."""
        self._until_ns = time.monotonic_ns() + round(seconds * 1e9)

    @property
    def left_s(self) -> float:
        """What is left of them. Raises TimeoutError if nothing is."""
        left_s = (self._until_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise TimeoutError
        return left_s


class Incoming(io.RawIOBase):
    """The bytes of a connection, none of them later than *deadline*."""

    def __init__(self, line: socket.socket, deadline: Deadline) -> None:
        self._line = line
        self._deadline = deadline

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """recv(2). Raises OSError."""
        self._line.settimeout(self._deadline.left_s)
        return self._line.recv_into(buffer)


def body_of(
    headers: Message, source: BinaryIO, give_time: Callable[[], None]
) -> tuple[Reader, int | None]:
    """The body of a request and its length, None if that is not said before.

    Raises BrokenBodyError; two lengths that contradict each other are how requests are smuggled.
    """
    lengths = set(headers.get_all("Content-Length", []))
    codings = headers.get_all("Transfer-Encoding", [])
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"] or lengths:
            raise BrokenBodyError("the length of the body is not clear")
        return _Chunked(source, give_time), None
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(length) for length in lengths):
        raise BrokenBodyError("the length of the body is not clear")
    size_bytes = int(lengths.pop()) if lengths else 0
    return _Sized(source, size_bytes, give_time), size_bytes


class _Sized:
    """A body of a known length."""

    def __init__(self, source: BinaryIO, size_bytes: int, give_time: Callable[[], None]) -> None:
        self._source = source
        self._left_bytes = size_bytes
        self._give_time = give_time

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left_bytes if size < 0 else min(size, self._left_bytes)
        if not wanted:
            return b""
        self._give_time()
        chunk = self._source.read(wanted)
        if len(chunk) < wanted:
            self._left_bytes = 0
            raise BrokenBodyError("the body is shorter than it says")
        self._left_bytes -= len(chunk)
        return chunk


class _Chunked:
    """A body in chunks."""

    def __init__(self, source: BinaryIO, give_time: Callable[[], None]) -> None:
        self._source = source
        self._give_time = give_time
        self._left_bytes = 0
        self._ended = False
        self._begun = False

    def read(self, size: int = -1, /) -> bytes:
        if not self._left_bytes and not self._ended:
            self._next()
        if self._ended:
            return b""
        wanted = self._left_bytes if size < 0 else min(size, self._left_bytes)
        self._give_time()
        chunk = self._source.read(wanted)
        if len(chunk) < wanted:
            raise self._broken("the body ends in the middle of a chunk")
        self._left_bytes -= len(chunk)
        return chunk

    def _next(self) -> None:
        self._give_time()
        if self._begun and self._line():
            raise self._broken("a chunk is longer than it says")
        self._begun = True
        match = _HEX.fullmatch(self._line().partition(b";")[0].strip())
        if match is None:
            raise self._broken("a chunk does not say how long it is")
        self._left_bytes = int(match[0], 16)
        if not self._left_bytes:
            self._ended = True
            for _ in range(_MAX_TRAILERS):
                if not self._line():
                    return
            raise self._broken("there are too many trailers")

    def _line(self) -> bytes:
        line = self._source.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise self._broken("the body ends in the middle of a chunk")
        return line.rstrip(b"\r\n")

    def _broken(self, why: str) -> BrokenBodyError:
        self._ended = True
        return BrokenBodyError(why)
