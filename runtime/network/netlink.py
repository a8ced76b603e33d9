"""The kernel's own protocol for networks: messages of attributes over a socket.

Hand-written because it is on the way of every start: pyroute2, which the tests compare with,
takes longer to import than a container takes to run. Sources: netlink(7), linux/netlink.h.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Self

ROUTE, NETFILTER = 0, 12
REQUEST, ACK, EXCL, CREATE = 0x001, 0x004, 0x200, 0x400
MAKE = REQUEST | ACK | EXCL | CREATE

_DUMP = 0x300
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_LIMIT_S = 5.0
_MOST_BYTES = 1 << 16


class Line:
    """A conversation with the kernel about the network namespace in which it was opened.

    It stays with that namespace when the process goes to another one.
    """

    def __init__(self, protocol: int = ROUTE) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        self._socket.settimeout(_LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def tell(self, messages: Sequence[bytes]) -> None:
        """Send *messages* at once; those with ACK are waited for. Raises OSError by errno."""
        answers = sum(1 for message in messages if message[6] & ACK)
        self._socket.send(b"".join(messages))
        while answers:
            for kind, body in _split(self._socket.recv(_MOST_BYTES)):
                if kind == _ERROR:
                    _check(body)
                    answers -= 1

    def list(self, kind: int, body: bytes) -> Iterator[bytes]:
        """What the kernel has of *kind*: the bodies of its answers. Raises OSError."""
        self._socket.send(message(kind, REQUEST | _DUMP, body))
        while True:
            for answer, found in _split(self._socket.recv(_MOST_BYTES)):
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _check(found)
                yield found


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One message, as it goes over the line."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def attribute(kind: int, content: bytes, *, nested: bool = False) -> bytes:
    """One attribute, padded to where the next may begin."""
    size = 4 + len(content)
    return struct.pack("=HH", size, kind | 0x8000 * nested) + content + bytes(-size % 4)


def attributes(packed: bytes) -> dict[int, bytes]:
    """Kind -> content of the attributes in *packed*."""
    found = {}
    while len(packed) >= 4:
        size, kind = struct.unpack_from("=HH", packed)
        if not 4 <= size <= len(packed):
            break
        found[kind & 0x3FFF] = packed[4:size]
        packed = packed[(size + 3) & ~3 :]
    return found


def _split(received: bytes) -> Iterator[tuple[int, bytes]]:
    while len(received) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(received)
        yield kind, received[_HEADER.size : size]
        received = received[(size + 3) & ~3 :]


def _check(body: bytes) -> None:
    (error,) = struct.unpack_from("=i", body)
    if error:
        raise OSError(-error, os.strerror(-error))
