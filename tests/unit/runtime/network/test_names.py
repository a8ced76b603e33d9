"""Questions for names, honest and hostile."""

import socket
import struct
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.network import names
from runtime.network.names import Unanswerable, Zone, answer, answers, read_question, zone

SUBNET = IPv4Network("10.5.0.0/24")
WEB, DB = IPv4Address("10.5.0.2"), IPv4Address("10.5.0.3")
KNOWN = zone(SUBNET, [(WEB, ("Web", "all", "0123456789ab")), (DB, ("db", "all"))])
A, PTR, AAAA = 1, 12, 28


def question(name: str, kind: int = A, *, flags: int = 0x0100, extra: bytes = b"") -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split(".") if part)
    head = struct.pack("!HHHHHH", 0x1234, flags, 1, 0, 0, bool(extra))
    return head + labels + b"\0" + struct.pack("!HH", kind, 1) + extra


def reply(name: str, kind: int = A, known: Zone = KNOWN, **more: bytes) -> bytes:
    told = answer(read_question(question(name, kind, **more)), known)  # type: ignore[arg-type]
    assert told is not None
    return told


def addresses(told: bytes) -> list[str]:
    (count,) = struct.unpack_from("!H", told, 6)
    return [socket.inet_ntoa(told[len(told) - 16 * n + 12 :][:4]) for n in range(count, 0, -1)]


@pytest.mark.parametrize("name", ["web", "WEB", "wEb", "0123456789ab"])
def test_a_member_is_found_by_each_of_its_names(name: str) -> None:
    told = reply(name)
    assert addresses(told) == ["10.5.0.2"]
    number, flags = struct.unpack_from("!HH", told)
    assert (number, flags) == (0x1234, 0x8580)  # an answer, ours, recursion asked for and there


def test_a_name_that_several_have_means_all_of_them() -> None:
    assert addresses(reply("all")) == ["10.5.0.2", "10.5.0.3"]


def test_a_known_name_has_no_other_records_and_is_not_asked_elsewhere() -> None:
    told = reply("web", AAAA)
    assert addresses(told) == []
    assert told[3] & 0xF == 0


def test_an_address_has_a_name_and_a_free_one_none() -> None:
    assert reply("2.0.5.10.in-addr.arpa", PTR).endswith(b"\x03web\0")
    assert reply("77.0.5.10.in-addr.arpa", PTR)[3] & 0xF == names.NO_SUCH_NAME


@pytest.mark.parametrize("name", ["example.org", "web.example", "4.3.2.1.in-addr.arpa", "x", ""])
def test_what_is_not_ours_is_for_others(name: str) -> None:
    assert answer(read_question(question(name)), KNOWN) is None


def test_an_answer_that_is_too_long_sends_the_client_to_tcp() -> None:
    many = zone(SUBNET, [(IPv4Address(f"10.5.0.{n}"), ("all",)) for n in range(2, 200)])
    told = reply("all", known=many)
    assert len(told) <= 512
    assert told[2] & 0x02
    assert len(addresses(reply("all", known=many, extra=edns(4096)))) == 198
    whole = answer(read_question(question("all")), many, most_bytes=0xFFFF)
    assert whole is not None
    assert len(addresses(whole)) == 198


def edns(size: int) -> bytes:
    return struct.pack("!BHHIH", 0, 41, size, 0, 0)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (question("web", flags=0x8180), None),  # an answer: replying would be a loop
        (question("web", flags=0x2800), names.NOT_IMPLEMENTED),  # an update
        (question("web")[:-1], names.FORMAT_ERROR),
        (question("web")[:14], names.FORMAT_ERROR),
        (b"\0\0\1\0\0\0\0\0\0\0\0\0", names.FORMAT_ERROR),  # asks nothing
        (b"\0\0\1\0\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", names.FORMAT_ERROR),  # asks twice
        (b"\0\0\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", names.FORMAT_ERROR),  # points at itself
        (question(".".join(["a" * 63] * 4)), names.FORMAT_ERROR),  # longer than a name may be
    ],
)
def test_nonsense_gets_a_refusal_or_nothing(packet: bytes, code: int | None) -> None:
    with pytest.raises(Unanswerable) as caught:
        read_question(packet)
    assert caught.value.code == code
    assert (caught.value.answer() == b"") == (code is None)


@given(st.binary(max_size=600))
@example(question("web", extra=b"\0\0\x29"))
@example(question("web") + b"\0\0\x29\xff")
def test_any_bytes_are_a_question_or_unanswerable(packet: bytes) -> None:
    try:
        asked = read_question(packet)
    except Unanswerable:
        return
    assert asked.section == packet[12 : 12 + len(asked.section)]
    told = answer(asked, KNOWN)
    if told is not None:
        assert len(told) <= asked.most_bytes
        assert answers(told, asked, asked.id)


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=63))
def test_every_name_that_is_given_is_found(name: str) -> None:
    known = zone(SUBNET, [(WEB, (name,))])
    assert addresses(reply(name.upper(), known=known)) == ["10.5.0.2"]


def test_only_the_answer_to_what_was_asked_is_believed() -> None:
    asked = read_question(question("far.example"))
    good = question("FAR.example", flags=0x8180)
    assert answers(good, asked, 0x1234)
    assert not answers(good, asked, 0x1235)
    assert not answers(question("far.example"), asked, 0x1234)
    assert not answers(question("fat.example", flags=0x8180), asked, 0x1234)
    assert not answers(b"\x12\x34", asked, 0x1234)
