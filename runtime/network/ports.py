"""Published ports: how they are written (pure), and how one is found to be free.

A published port is translated by the kernel (``firewall``), not relayed by a program of ours: a
relay would be what a benchmark measures, and would hide who is speaking. The price is that no
program listens on the host's port, so the network's keeper does: it never gets a connection, but
everybody else is told that the port is taken.
"""

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from ipaddress import IPv4Address
from itertools import combinations
from typing import Literal

from runtime.errors import RuntimeFault, SpecError

Protocol = Literal["tcp", "udp"]
ANYWHERE = "0.0.0.0"  # noqa: S104 - what publishing means unless an address is given

_RANGE = r"[0-9]{1,5}(?:-[0-9]{1,5})?"
_WRITTEN = re.compile(
    rf"(?:(?:(?P<ip>[0-9.]+):)?(?P<host>{_RANGE})?:)?(?P<inside>{_RANGE})(?:/(?P<protocol>tcp|udp))?"
)
_MOST = 1024
_KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_REASONS = {
    EADDRINUSE: ("is taken", "end what listens there, or publish on another port"),
    EACCES: ("may not be used", "choose a port from 1024"),
    EADDRNOTAVAIL: ("has no such address here", "use an address of this machine: ip -br address"),
}


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Port:
    """Port *host* of the address *ip* of this machine leads to *inside*; 0 means any free one."""

    ip: str = ANYWHERE
    host: int = 0
    inside: int
    protocol: Protocol = "tcp"

    def __str__(self) -> str:
        return f"{self.ip}:{self.host}->{self.inside}/{self.protocol}"


def parse_ports(text: str) -> tuple[Port, ...]:
    """``[[IP:][HOST]:]CONTAINER[/tcp|udp]``, where both may be ranges. Raises SpecError."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise _unreadable(text)
    protocol: Protocol = "udp" if match["protocol"] == "udp" else "tcp"
    inside = _range(match["inside"], text)
    host = _range(match["host"], text) if match["host"] else (0,) * len(inside)
    if len(host) != len(inside):
        raise SpecError(f"{text!r}: the two ranges differ in length", remedy="make them alike")
    ip = _address(match["ip"], text)
    pairs = zip(host, inside, strict=True)
    return tuple(Port(ip=ip, host=h, inside=i, protocol=protocol) for h, i in pairs)


def check_apart(ports: Sequence[Port]) -> None:
    """Raise SpecError if one port of the host is to lead to two places."""
    for one, other in combinations(ports, 2):
        if overlap(one, other):
            raise SpecError(f"port {one.host}/{one.protocol} is published twice")


def overlap(one: Port, other: Port) -> bool:
    """Whether both want the same port of the host."""
    same_place = one.ip == other.ip or ANYWHERE in {one.ip, other.ip}
    return same_place and (one.host, one.protocol) == (other.host, other.protocol) != (
        0,
        one.protocol,
    )


@contextmanager
def reserved(ports: Iterable[Port]) -> Iterator[tuple[Port, ...]]:
    """Nobody else gets *ports* inside the block; those that were 0 have got a number.

    Raises RuntimeFault for one that is taken.
    """
    with ExitStack() as undo:
        found = []
        for port in ports:
            held = undo.enter_context(hold(port))
            found.append(replace(port, host=held.getsockname()[1]))
        yield tuple(found)


def hold(port: Port) -> socket.socket:
    """A socket that makes *port* ours as long as it is open. Raises RuntimeFault."""
    held = socket.socket(socket.AF_INET, _KIND[port.protocol] | socket.SOCK_CLOEXEC)
    try:
        if port.protocol == "tcp":
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((port.ip, port.host))
        if port.protocol == "tcp":
            held.listen(1)
    except OSError as error:
        held.close()
        what, remedy = _REASONS.get(error.errno or 0, (f"cannot be used: {error.strerror}", None))
        where = "" if port.ip == ANYWHERE else f" of {port.ip}"
        message = f"port {port.host}/{port.protocol}{where} {what}"
        raise RuntimeFault(message, remedy=remedy) from error
    return held


def _range(text: str, whole: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if not 0 < low <= high < 1 << 16:
        raise _unreadable(whole)
    if high - low >= _MOST:
        raise SpecError(f"{whole!r}: more than {_MOST} ports", remedy="publish fewer")
    return tuple(range(low, high + 1))


def _address(text: str | None, whole: str) -> str:
    if text is None:
        return ANYWHERE
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise _unreadable(whole) from None


def _unreadable(text: str) -> SpecError:
    return SpecError(
        f"{text!r} is no port to publish", remedy="write [[IP:]HOST:]CONTAINER[/udp], as 8080:80"
    )
