"""The host's end of a machine's two sockets, spoken to over the real sockets."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from vmbackend.channel import VERSION, Frame, Kind, Request, encode
from vmbackend.link import Link, _held_lines

_HELLO = Frame(kind=Kind.HELLO, payload=VERSION.to_bytes(4, "little") + bytes(8))


@pytest.mark.parametrize(
    ("age_ns", "phases"),
    [(0, {"init", "kernel"}), (3600 * 10**9, {"init"}), (10**19 - 1, {"init"})],
)
def test_a_kernel_older_than_its_machine_is_not_believed(
    tmp_path: Path, age_ns: int, phases: set[str]
) -> None:
    link = Link(tmp_path / "console", tmp_path / "port")
    with link, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        console.connect(str(link.console_socket))
        console.sendall(b"isoscope: init %d\n" % age_ns)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as guest:
            guest.connect(str(link.port_socket))
            guest.sendall(encode(_HELLO))
            assert link.ready.wait(10)
    assert {"init", "kernel"} & link.marks_ns.keys() == phases


def test_what_a_guest_that_stopped_listening_said_last_is_the_failure(tmp_path: Path) -> None:
    link = Link(tmp_path / "console", tmp_path / "port")
    with link, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as guest:
        guest.connect(str(link.port_socket))
        guest.sendall(encode(_HELLO))
        assert link.ready.wait(10)
        guest.shutdown(socket.SHUT_RD)
        command = link.run(Request(argv=["true"], env={}, cwd="/", uid=0, gid=0), b"", None)
        assert not command.ended.wait(0.2)
        guest.sendall(encode(Frame(kind=Kind.ERROR, payload=b"malformed")))
        assert command.ended.wait(10)
    assert "the guest refused: 'malformed'" in str(link.failure)


def test_a_line_to_a_dead_process_is_held_until_it_is_reaped() -> None:
    """Else libvirt hears of a death that is not over yet, and sleeps."""
    ours, theirs = socket.socketpair()
    with (
        ours,
        subprocess.Popen(
            ["sleep", "100"], stdin=theirs.fileno(), stdout=subprocess.DEVNULL
        ) as process,
    ):
        theirs.close()
        ours.setblocking(False)
        pidfd = os.pidfd_open(process.pid)
        with _held_lines(process.pid, pidfd):
            process.kill()
            process.wait()
            with pytest.raises(BlockingIOError):
                ours.recv(1)
        assert ours.recv(1) == b""
        os.close(pidfd)
