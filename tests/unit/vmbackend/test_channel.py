import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmbackend.channel import (
    STDIN_WINDOW_BYTES,
    Decoder,
    Frame,
    Kind,
    Request,
    encode,
    hello_boottime_ns,
    memory_bytes,
    number,
    run_frame,
)
from vmbackend.command import Command
from vmbackend.errors import GuestError

FROM_GUEST = [kind for kind in Kind if kind >= Kind.HELLO]
frames = st.builds(
    Frame,
    kind=st.sampled_from(FROM_GUEST),
    command=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=300),
    guest_ns=st.integers(0, 2**64 - 1),
)


@given(st.lists(frames, max_size=5), st.data())
def test_frames_survive_any_cut(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    decoder = Decoder()
    received: list[Frame] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == sent


@given(st.binary(min_size=24, max_size=200))
def test_garbage_is_a_typed_error_or_nothing(data: bytes) -> None:
    with suppress(GuestError):
        assert all(isinstance(frame.kind, Kind) for frame in Decoder().feed(data))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IIIIQ", 0x12345678, Kind.STDOUT, 1, 0, 0),
        struct.pack("<IIIIQ", 0x314F5349, Kind.STDOUT, 1, 1 << 30, 0),
        struct.pack("<IIIIQ", 0x314F5349, 99, 1, 0, 0),
        struct.pack("<IIIIQ", 0x314F5349, Kind.RUN, 1, 0, 0),
    ],
    ids=["magic", "length", "type", "direction"],
)
def test_what_is_no_frame_is_refused_at_once(header: bytes) -> None:
    with pytest.raises(GuestError, match="not a frame"):
        list(Decoder().feed(header))


def test_half_a_frame_waits() -> None:
    raw = encode(Frame(kind=Kind.STDOUT, command=1, payload=b"whole"))
    decoder = Decoder()
    assert list(decoder.feed(raw[:-1])) == []
    assert [frame.payload for frame in decoder.feed(raw[-1:])] == [b"whole"]


def test_a_request_is_laid_out_as_the_guest_reads_it() -> None:
    request = Request(argv=["sh", "ü"], env={"A": "1"}, cwd="/w", uid=7, gid=8, groups=(9, 10))
    payload = run_frame(3, request).payload
    assert struct.unpack_from("<7I", payload) == (7, 8, 2, 2, 1, 9, 10)
    assert payload[28:] == b"/w\0sh\0\xc3\xbc\0A=1\0"


@pytest.mark.parametrize("payload", [b"", b"\1\0\0"])
def test_a_short_number_is_an_error(payload: bytes) -> None:
    with pytest.raises(GuestError, match="EXITED"):
        number(Frame(kind=Kind.EXITED, payload=payload))


def test_another_version_is_refused() -> None:
    assert hello_boottime_ns(Frame(kind=Kind.HELLO, payload=struct.pack("<IQ", 1, 5))) == 5
    with pytest.raises(GuestError, match="version 2"):
        hello_boottime_ns(Frame(kind=Kind.HELLO, payload=struct.pack("<IQ", 2, 5)))


def test_standard_input_keeps_to_the_window() -> None:
    command = Command(id=1)
    command.stdin += b"x" * (STDIN_WINDOW_BYTES + 10)
    command.stdin_closing = True
    sent = command.stdin_frames()
    assert sum(len(frame.payload) for frame in sent) == STDIN_WINDOW_BYTES
    assert command.stdin_frames() == []
    command.credit(4)
    assert [frame.payload for frame in command.stdin_frames()] == [b"xxxx"]
    command.credit(100)
    assert [frame.payload for frame in command.stdin_frames()] == [b"x" * 6, b""]
    assert command.stdin_frames() == []


@pytest.mark.parametrize(
    ("errno", "call", "status"), [(2, b"execve", 127), (13, b"execve", 126), (2, b"chdir", 126)]
)
def test_a_failed_exec_has_dockers_status(errno: int, call: bytes, status: int) -> None:
    command = Command(id=1)
    command.take(Frame(kind=Kind.FAILED, payload=struct.pack("<I", errno) + call), 1)
    assert command.exit_status == status
    assert command.failure is not None
    assert command.failure.startswith(call.decode())
    assert command.ended.is_set()


def meminfo(text: bytes) -> Frame:
    return Frame(kind=Kind.MEMINFO, payload=text)


def test_a_guests_account_of_its_memory_is_read() -> None:
    text = b"MemTotal:         223696 kB\nMemFree:          200 kB\nMemAvailable:     198 kB\nMemT"
    assert memory_bytes(meminfo(text)) == {"MemTotal": 223696 << 10, "MemAvailable": 198 << 10}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"MemTotal: 1 kB\n", b"MemTotal: -1 kB\nMemAvailable: 1 kB\n",
        b"MemTotal: 1 kB\nMemAvailable: " + b"9" * 4000 + b" kB\n",
        b" MemTotal: 1 kB\nMemAvailable: 1 kB\n", bytes(4096),
    ],
)  # fmt: skip
def test_an_account_that_is_none_is_the_guests_error(text: bytes) -> None:
    with pytest.raises(GuestError, match="account"):
        memory_bytes(meminfo(text))
