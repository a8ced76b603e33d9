"""The host's half of the protocol with the guest; ``guest/agent.h`` says what the frames mean.

Everything here is pure: bytes in, frames out. What comes from a guest is hostile input.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from vmbackend.errors import GuestError

VERSION = 1
STDIN_WINDOW_BYTES = 256 << 10
"""How much of a command's standard input may be on its way before the guest returns CREDIT."""

LARGEST_PAYLOAD_BYTES = 4 << 20
_MAGIC = 0x314F5349
_HEADER = struct.Struct("<IIIIQ")
_MEMORY = re.compile(rb"^(MemTotal|MemAvailable): +(\d{1,15}) kB$", re.MULTILINE)


class Kind(IntEnum):
    """The types of frames: below 16 to the guest, from there on to the host."""

    RUN = 1
    STDIN = 2
    KILL = 3
    SEED = 4
    CLOCK = 5
    SHARE = 6
    MEMORY = 7
    HELLO = 16
    STARTED = 17
    FAILED = 18
    STDOUT = 19
    STDERR = 20
    CREDIT = 21
    EXITED = 22
    ERROR = 23
    MEMINFO = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message; ``guest_ns`` is the guest's CLOCK_MONOTONIC as it was sent (0 from us)."""

    kind: Kind
    command: int = 0
    payload: bytes = b""
    guest_ns: int = 0


def encode(frame: Frame) -> bytes:
    """The bytes of *frame*."""
    size = len(frame.payload)
    return _HEADER.pack(_MAGIC, frame.kind, frame.command, size, frame.guest_ns) + frame.payload


class Decoder:
    """Turns a stream of bytes, cut anywhere, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises GuestError for bytes that cannot be one."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            magic, kind, command, size, guest_ns = _HEADER.unpack_from(self._buffer)
            if (
                magic != _MAGIC
                or size > LARGEST_PAYLOAD_BYTES
                or not Kind.HELLO <= kind <= Kind.MEMINFO
            ):
                raise GuestError(f"the guest sent what is not a frame: {self._buffer[:24].hex()}")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Frame(kind=Kind(kind), command=command, payload=payload, guest_ns=guest_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command as the guest needs it: everything resolved, nothing left to look up there."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    uid: int
    gid: int
    groups: Sequence[int] = ()


def run_frame(command: int, request: Request) -> Frame:
    """The RUN frame for *request*."""
    strings = [request.cwd, *request.argv, *(f"{k}={v}" for k, v in request.env.items())]
    counts = (len(request.groups), len(request.argv), len(request.env))
    payload = struct.pack(
        f"<5I{len(request.groups)}I", request.uid, request.gid, *counts, *request.groups
    ) + b"".join(string.encode("utf-8", "surrogateescape") + b"\0" for string in strings)
    return Frame(kind=Kind.RUN, command=command, payload=payload)


def kill_frame(command: int, number: int) -> Frame:
    """The KILL frame that sends signal *number* to a command's process group."""
    return Frame(kind=Kind.KILL, command=command, payload=struct.pack("<I", number))


def clock_frame(now_ns: int) -> Frame:
    """The CLOCK frame that sets the guest's CLOCK_REALTIME."""
    return Frame(kind=Kind.CLOCK, payload=struct.pack("<Q", now_ns))


def share_frame(tag: str, target: str) -> Frame:
    """The SHARE frame that mounts the virtiofs *tag* at *target*."""
    strings = (tag.encode(), target.encode("utf-8", "surrogateescape"))
    return Frame(kind=Kind.SHARE, payload=b"".join(string + b"\0" for string in strings))


def number(frame: Frame) -> int:
    """The u32 that CREDIT, EXITED and FAILED begin with, HELLO too. Raises GuestError."""
    if len(frame.payload) < 4:
        raise GuestError(f"the guest sent a {frame.kind.name} frame of {len(frame.payload)} bytes")
    return int.from_bytes(frame.payload[:4], "little")


def memory_bytes(frame: Frame) -> Mapping[str, int]:
    """MemTotal and MemAvailable as the guest's kernel tells them: proc_meminfo(5).

    Raises GuestError.
    """
    found = {name.decode(): int(kib) * 1024 for name, kib in _MEMORY.findall(frame.payload)}
    if found.keys() != {"MemTotal", "MemAvailable"}:
        raise GuestError("the guest's account of its memory names no MemTotal or MemAvailable")
    return found


def hello_boottime_ns(frame: Frame) -> int:
    """The guest's CLOCK_BOOTTIME in its HELLO. Raises GuestError if it speaks another protocol."""
    if number(frame) != VERSION or len(frame.payload) != 12:
        raise GuestError(f"the guest speaks version {number(frame)}, not {VERSION}")
    return int.from_bytes(frame.payload[4:], "little")
