"""A person at a terminal, and a program at a terminal of its own: what each types and shows.

Our terminal is raw meanwhile, so that every key reaches the other one, which decides what it
means. However we end, short of SIGKILL, ours is given back as it was. Sources: termios(3), pty(7).
"""

import fcntl
import math
import os
import select
import signal
import socket
import struct
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from runtime.container.launch.process import Process
from runtime.container.terminal import Terminal
from runtime.errors import RuntimeFault, SpecError

_CHUNK_BYTES = 1 << 16
_MOST_WAITING_BYTES = 1 << 16
"""More keys than this are not taken from whoever types them until some have been read inside."""
_LAST_READS = 64
_REMEDY = "leave out -t, or run it where a person types"


def check_terminal(*, reads: bool) -> None:
    """Raise SpecError if we are not at a terminal, of which -t would make no sense."""
    for fd, what in ((0, "input"), (1, "output")) if reads else ((1, "output"),):
        if not os.isatty(fd):
            raise SpecError(f"-t needs a terminal, and the {what} is none", remedy=_REMEDY)


def own_size() -> Terminal:
    """The size of the terminal that our output is."""
    rows, columns, _, _ = struct.unpack("=4H", fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))
    return Terminal(rows=rows, columns=columns)


def own_variables() -> dict[str, str]:
    """What programs at a terminal want to know of it: what kind ours is."""
    return {"TERM": os.environ.get("TERM", "xterm")}


class Console:
    """The socket over which a terminal's master comes. A context manager."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._theirs.close()

    def fileno(self) -> int:
        """The end that the program's maker is given."""
        return self._theirs.fileno()

    def master(self) -> int:
        """The master, once the program runs. Raises RuntimeFault if none came."""
        self._theirs.close()
        _, masters, _, _ = socket.recv_fds(self._ours, 64, 1)
        if not masters:
            raise RuntimeFault("the container did not send its terminal")
        os.set_inheritable(masters[0], False)
        return masters[0]


def attend(
    process: Process, console: Console, *, reads: bool, timeout_s: float | None = None
) -> int | None:
    """Pass on keys (if *reads*) and what is shown until *process* ends; its exit status.

    None if it still runs after *timeout_s*.
    """
    with ExitStack() as undo:
        master = console.master()
        undo.callback(os.close, master)
        os.set_blocking(master, False)
        if reads:
            undo.enter_context(_raw(0))
        news = undo.enter_context(_news_of_size())
        _Passing(master=master, pidfd=process.pidfd, news=news, reads=reads).until_the_end(
            timeout_s
        )
        return process.poll()


@dataclass(slots=True, kw_only=True)
class _Passing:
    """What is on its way between two terminals."""

    master: int
    pidfd: int
    news: int
    reads: bool
    _typed: bytes = field(default=b"", init=False)
    _shows: bool = field(default=True, init=False)

    def until_the_end(self, timeout_s: float | None) -> None:
        """Pass everything on until the process of *pidfd* has ended, or *timeout_s* is over."""
        _follow_size(self.master)
        deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            limit_s = None if timeout_s is None else left_s
            ready, writable, _ = select.select(self._sources(), self._sinks(), [], limit_s)
            if self.news in ready:
                os.read(self.news, _CHUNK_BYTES)
                _follow_size(self.master)
            if 0 in ready:
                self._type()
            if writable:
                self._pass_keys()
            if self.master in ready:
                self._shows = self._show()
            if self.pidfd in ready:
                break
        for _ in range(_LAST_READS):  # another process may hold the terminal and go on writing
            if not self._shows or not select.select([self.master], [], [], 0)[0]:
                break
            self._shows = self._show()

    def _sources(self) -> list[int]:
        keyboard = [0] if self.reads and len(self._typed) < _MOST_WAITING_BYTES else []
        return [self.pidfd, self.news, *keyboard, *([self.master] if self._shows else [])]

    def _sinks(self) -> list[int]:
        return [self.master] if self._typed and self._shows else []

    def _type(self) -> None:
        with suppress(InterruptedError):
            keys = os.read(0, _CHUNK_BYTES)
            self._typed += keys
            self.reads = bool(keys)

    def _pass_keys(self) -> None:
        try:
            self._typed = self._typed[os.write(self.master, self._typed) :]
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody has it open any more
            self._typed = b""

    def _show(self) -> bool:
        """Show what there is; False when nobody can write to the terminal any more."""
        try:
            said = os.read(self.master, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:  # EIO, as above
            return False
        while said:
            said = said[os.write(1, said) :]
        return True


def _follow_size(master: int) -> None:
    with suppress(OSError):
        size = fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


@contextmanager
def _news_of_size() -> Iterator[int]:
    """A descriptor that becomes readable when our terminal gets another size."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    handler = signal.signal(signal.SIGWINCH, lambda *_: None)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGWINCH, handler)
        os.close(read)
        os.close(write)
