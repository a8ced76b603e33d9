"""Small languages inside instructions: durations, ports, sizes, signals, modes.

Each function raises ValueError with a clause that says what is wrong.
"""

import re
import signal
from collections.abc import Iterator

_DURATION = re.compile(
    r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII
)
_UNIT_NS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6}
_UNIT_NS |= {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SHORTEST_NS = 10**6
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([bkmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNIT_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?", re.ASCII)
_REAL_TIME = re.compile(r"RTM(?:IN(?:\+(?:[0-9]|1[0-5]))?|AX(?:-(?:[0-9]|1[0-4]))?)")
_OCTAL = re.compile(r"[0-7]{1,6}")


def duration_ns(text: str) -> int:
    """Go's notation, as ``1m30s``, in nanoseconds; 0 means the default. At least 1 ms."""
    total = at = 0
    while at < len(text) and text != "0":
        part = _DURATION.match(text, at)
        if part is None:
            raise ValueError(f"{text!r} is no duration, as 30s or 1m30s")
        whole, _, fraction = part[1].partition(".")
        unit_ns = _UNIT_NS[part[2]]
        total += int(whole or 0) * unit_ns + int(fraction or 0) * unit_ns // 10 ** len(fraction)
        at = part.end()
    if not text or total >= 1 << 63 or 0 < total < _SHORTEST_NS:
        raise ValueError(f"{text!r} is no duration from 1ms on")
    return total


def size_bytes(text: str) -> int:
    """A number and one of ``b k m g t p``, powers of 1024, as docker writes sizes."""
    part = _SIZE.fullmatch(text)
    if part is None:
        raise ValueError(f"{text!r} is no size, as 64m")
    whole, _, fraction = part[1].partition(".")
    unit = _UNIT_BYTES[part[2].lower()]
    divisor: int = 10 ** len(fraction)
    return int(whole) * unit + int(fraction or 0) * unit // divisor


def exposed_ports(text: str) -> Iterator[str]:
    """``port[-last][/tcp|udp|sctp]`` as ``port/protocol`` one by one; a host's part is dropped."""
    ports, _, protocol = text.rpartition(":")[2].partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{text!r}: the protocol is neither tcp nor udp nor sctp")
    part = _PORT.fullmatch(ports)
    if part is None:
        raise ValueError(f"{text!r} is no port")
    first, last = int(part[1]), int(part[2] or part[1])
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"{text!r}: ports are from 1 to 65535, the lower one first")
    return (f"{port}/{protocol}" for port in range(first, last + 1))


def check_signal(text: str) -> None:
    """A name with or without SIG, or a number from 1 to 64."""
    name = text.upper().removeprefix("SIG")
    if text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= 64:
        return
    if f"SIG{name}" not in signal.Signals.__members__ and not _REAL_TIME.fullmatch(name):
        raise ValueError(f"{text!r} is no signal, as SIGTERM or 15")


def file_mode(text: str) -> int:
    """Octal digits up to 7777."""
    if not _OCTAL.fullmatch(text) or int(text, 8) > 0o7777:
        raise ValueError(f"the mode {text!r} is not octal from 0 to 7777")
    return int(text, 8)


def numeric_id(text: str) -> int:
    """A user's or group's number, from 0 to 2**31-1."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 1 << 31):
        raise ValueError(f"{text!r} is no number of a user or group")
    return int(text)
