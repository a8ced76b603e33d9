"""The two ways to a container's terminal: a socket of whoever asks, or our own, byte by byte."""

import _socket
import os
import select

from runtime.errors import RuntimeFault

_CLOEXEC = 0o2000000


def connect(path: str) -> int:
    """A connection to the console socket *path*. Raises RuntimeFault."""
    line = _socket.socket(1, 1 | _CLOEXEC)
    try:
        line.connect(path)
    except OSError as error:
        line.close()
        raise RuntimeFault(
            f"cannot connect to the console socket {path}: {error.strerror}",
            remedy="listen there before",
        ) from None
    return line.detach()


def pair() -> tuple[int, int]:
    """Both ends of a socket on which we receive the master ourselves."""
    ours, theirs = _socket.socketpair(1, 1 | _CLOEXEC)
    return ours.detach(), theirs.detach()


def received(socket: int) -> int:
    """The master that came over *socket*."""
    line = _socket.socket(fileno=socket)
    try:
        _, ancillary, _, _ = line.recvmsg(64, 24, 0x40000000)
    finally:
        line.detach()
    if not ancillary:
        raise RuntimeFault("the terminal did not arrive")
    return int.from_bytes(ancillary[0][2][:4], "little")


def relay(master: int, pidfd: int) -> None:
    """Carry bytes between our terminal and *master* until the process of *pidfd* has ended."""
    import termios  # noqa: PLC0415 - few commands have a terminal in the foreground
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(0) if os.isatty(0) else None
    if before is not None:
        termios.tcsetwinsize(master, termios.tcgetwinsize(0))
        tty.setraw(0)
    try:
        _carry(master, pidfd)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _carry(master: int, pidfd: int) -> None:
    sources = [master, pidfd, 0]
    while sources:
        ready, _, _ = select.select(sources, [], [])
        if 0 in ready:
            if chunk := os.read(0, 4096):
                os.write(master, chunk)
            else:
                os.write(master, b"\x04")  # what a terminal sends for the end of its input
                sources.remove(0)
        if master in ready:
            try:
                chunk = os.read(master, 1 << 16)
            except OSError:  # EIO: nobody has the other side any more
                return
            while chunk:
                chunk = chunk[os.write(1, chunk) :]
        elif pidfd in ready:
            return
