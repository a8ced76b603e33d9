"""The names of a network's members, as the domain name system asks and answers (pure).

Understood is one question a message; what is not ours is passed on as it came. Every message is
taken to be hostile: nothing is followed, nothing is believed that does not lie within it.
Source: RFC 1035, sections 3 and 4; RFC 6891 for the size that a client takes.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

MOST_BYTES = 4096
"""Of a question or an answer over UDP; TCP allows 65535."""

_HEADER = struct.Struct("!HHHHHH")
_PLAIN_BYTES = 512
_A, _PTR, _OPT, _ANY = 1, 12, 41, 255
_IN = 1
_QR, _AA, _TC, _RD, _RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_TTL_S = 5
FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 1, 2, 3, 4, 5

Labels = tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one message asks: *section* is the question as it came, to be repeated."""

    id: int
    flags: int
    labels: Labels
    type: int
    section: bytes
    most_bytes: int


class Unanswerable(Exception):  # noqa: N818 - named by what the message is
    """A message that gets this *code* for an answer, or none at all if it is None."""

    def __init__(self, number: int, flags: int, code: int | None) -> None:
        super().__init__(code)
        self.id, self.flags, self.code = number, flags, code

    def answer(self) -> bytes:
        """The refusal; empty for what deserves none."""
        return b"" if self.code is None else _head(self.id, self.flags, self.code, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """Who is called what on one network."""

    subnet: IPv4Network
    addresses: Mapping[Labels, Sequence[IPv4Address]]
    names: Mapping[IPv4Address, Labels]


def zone(subnet: IPv4Network, members: Sequence[tuple[IPv4Address, Sequence[str]]]) -> Zone:
    """The zone of *members*, each with all its names; the first one is what its address is."""
    addresses: dict[Labels, list[IPv4Address]] = {}
    for address, names in members:
        for name in dict.fromkeys(labels_of(name) for name in names):
            addresses.setdefault(name, []).append(address)
    reverse = {address: labels_of(names[0]) for address, names in members if names}
    return Zone(subnet=subnet, addresses=addresses, names=reverse)


def labels_of(name: str) -> Labels:
    """``web.test`` as it is compared: in lower case."""
    return tuple(name.lower().encode("ascii", "replace").split(b"."))


def read_question(packet: bytes) -> Question:
    """What *packet* asks. Raises Unanswerable."""
    if len(packet) < _HEADER.size:
        raise Unanswerable(0, 0, None)
    number, flags, questions, answers, _, additional = _HEADER.unpack_from(packet)
    if flags & _QR:
        raise Unanswerable(number, flags, None)  # an answer: to reply would be a loop
    if flags & _OPCODE:
        raise Unanswerable(number, flags, NOT_IMPLEMENTED)
    if questions != 1 or answers:
        raise Unanswerable(number, flags, FORMAT_ERROR)
    labels, end = _read_name(packet, _HEADER.size)
    if labels is None or end + 4 > len(packet):
        raise Unanswerable(number, flags, FORMAT_ERROR)
    kind, _ = struct.unpack_from("!HH", packet, end)
    return Question(
        id=number,
        flags=flags,
        labels=labels,
        type=kind,
        section=packet[_HEADER.size : end + 4],
        most_bytes=_size_taken(packet, end + 4) if additional else _PLAIN_BYTES,
    )


def answer(question: Question, known: Zone, *, most_bytes: int | None = None) -> bytes | None:
    """The answer of *known*, or None if the question is for somebody else.

    *most_bytes* is what the way back carries; if it is too little, the client is told to use TCP.
    """
    if (address := _reversed(question.labels)) is not None and address in known.subnet:
        name = known.names.get(address)
        found = [] if name is None else [_record(_PTR, _packed(name))]
        code = NO_SUCH_NAME if name is None else 0
    elif question.labels in known.addresses:
        wanted = question.type in {_A, _ANY}
        own = known.addresses[question.labels] if wanted else ()
        found, code = [_record(_A, address.packed) for address in own], 0
    else:
        return None
    body = question.section + b"".join(found)
    most = question.most_bytes if most_bytes is None else most_bytes
    if _HEADER.size + len(body) > most:
        return _head(question.id, question.flags, _TC, 1, 0) + question.section
    return _head(question.id, question.flags, code | _AA, 1, len(found)) + body


def refusal(question: Question, code: int) -> bytes:
    """Tell that *question* has no answer, and why."""
    return _head(question.id, question.flags, code, 1, 0) + question.section


def renumbered(packet: bytes, number: int) -> bytes:
    """*packet* under another id."""
    return struct.pack("!H", number) + packet[2:]


def answers(packet: bytes, question: Question, number: int) -> bool:
    """Whether *packet* is an answer to *question* as it was passed on under *number*."""
    if len(packet) < _HEADER.size:
        return False
    found, flags, *_ = _HEADER.unpack_from(packet)
    repeated = packet[_HEADER.size : _HEADER.size + len(question.section)]
    return found == number and bool(flags & _QR) and repeated.lower() == question.section.lower()


def _read_name(packet: bytes, at: int) -> tuple[Labels | None, int]:
    """The name at *at*, in lower case, and where it ends; None for one that is none.

    A question needs no pointer into itself, so one is a name that is none.
    """
    labels: list[bytes] = []
    begin = at
    while at < len(packet) and (size := packet[at]):
        if size > 63 or at + 1 + size > len(packet) or at + size - begin > 253:
            return None, at
        labels.append(packet[at + 1 : at + 1 + size].lower())
        at += 1 + size
    return (tuple(labels), at + 1) if at < len(packet) else (None, at)


def _size_taken(packet: bytes, at: int) -> int:
    """What the client says it takes, if the first additional record is where that is said."""
    if packet[at : at + 3] != struct.pack("!BH", 0, _OPT) or at + 5 > len(packet):
        return _PLAIN_BYTES
    size: int = struct.unpack_from("!H", packet, at + 3)[0]
    return max(_PLAIN_BYTES, min(size, MOST_BYTES))


def _reversed(labels: Labels) -> IPv4Address | None:
    """The address that a name such as 2.0.213.10.in-addr.arpa stands for."""
    if len(labels) != 6 or labels[4:] != (b"in-addr", b"arpa"):
        return None
    try:
        return IPv4Address(b".".join(labels[3::-1]).decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return None


def _packed(labels: Labels) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _record(kind: int, data: bytes) -> bytes:
    """A record for the name that was asked for, which stands behind the header."""
    return struct.pack("!HHHIH", 0xC000 | _HEADER.size, kind, _IN, _TTL_S, len(data)) + data


def _head(number: int, asked: int, flags: int, questions: int, found: int) -> bytes:
    said = _QR | _RA | asked & (_OPCODE | _RD) | flags
    return _HEADER.pack(number, said, questions, found, 0, 0)
