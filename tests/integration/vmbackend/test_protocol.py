"""What a host that does not speak the protocol meets; and the guest's own notice of its end."""

import struct
from pathlib import Path

import pytest

from vmbackend.channel import Frame, Kind, encode
from vmbackend.errors import GuestError
from vmbackend.machine import Machine, machine
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow


def speak(guest: Machine, raw: bytes) -> None:
    link = guest._vmm.link
    with link._lock:
        link._outgoing += raw
    link._enqueue([])


def frame(kind: Kind, payload: bytes = b"", command: int = 9) -> bytes:
    return encode(Frame(kind=kind, command=command, payload=payload))


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"this is not the protocol at all.", "not a frame"),
        (struct.pack("<IIIIQ", 0x314F5349, 1, 1, 1 << 31, 0), "not a frame"),
        (frame(Kind.HELLO), "unknown type"),
        (frame(Kind.KILL, b"1"), "unknown type or length"),
        (frame(Kind.RUN), "malformed"),
        (frame(Kind.RUN, b"x" * 40), "malformed"),
        (frame(Kind.RUN, struct.pack("<5I", 0, 0, 0, 2**31, 0) + b"/\0"), "impossible counts"),
        (frame(Kind.RUN, struct.pack("<5I", 0, 0, 60000, 1, 0) + b"/\0"), "impossible counts"),
        (frame(Kind.RUN, struct.pack("<5I", 0, 0, 0, 100, 0) + b"/\0sh\0"), "fewer strings"),
        (frame(Kind.SEED, b"x" * 300), "too long"),
    ],
)
def test_garbage_is_refused_and_powers_the_guest_off(busybox: str, raw: bytes, says: str) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        speak(guest, raw)
        with pytest.raises(GuestError, match=says):
            guest.run(["sleep", "100"], timeout_s=30)


def test_input_of_a_command_that_is_gone_is_no_error(busybox: str) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        speak(guest, frame(Kind.STDIN, b"late") + frame(Kind.KILL, struct.pack("<I", 9)))
        assert guest.run(["true"], timeout_s=30).exit_status == 0


def test_a_guest_whose_host_hangs_up_powers_off_by_itself(busybox: str) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        link = guest._vmm.link
        assert link._port is not None
        pid = link.emulator_pid
        link._port.shutdown(2)
        with pytest.raises(GuestError, match="ended"):
            guest.run(["sleep", "100"], timeout_s=30)
        assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
