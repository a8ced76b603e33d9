"""A terminal of the container's own: made inside, held from outside (pure).

The pair comes from the container's devpts, so that its name means something there. The master
leaves over a socket that whoever asked holds (SCM_RIGHTS), and is open nowhere inside. Sources:
pty(7), ioctl_tty(2), Documentation/filesystems/devpts.rst.
"""

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EEXIST

from runtime import syscalls
from runtime.container.steps import Slot, Step

_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSWINSZ, _TIOCSCTTY = 0x40045431, 0x5441, 0x5414, 0x540E
_ROOT = -100  # AT_FDCWD: resolved in our own root, which is the container's by then
_PASSED = 64
"""The master's number while it is sent: the message, written beforehand, must name it."""
_TOLD = b"/dev/ptmx"
_CONSOLE = "/dev/console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The size of a terminal in characters; 0 is not known, whoever holds the master sets it."""

    rows: int = 0
    columns: int = 0


def plan_terminal(terminal: Terminal, *, uid: int, is_console: bool) -> Iterator[Step]:
    """Steps after which 0, 1 and 2 are a new terminal, the controlling one of our new session.

    They want ``/dev`` in place and the session made, and go before the user is given up: *uid*
    owns the terminal. With *is_console* it is /dev/console too, as it is for a container's init.
    """
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    where = (_ROOT, "/dev/ptmx", flags, syscalls.RESOLVE_IN_ROOT)
    yield Step("openat2", where, "a new terminal of the container's", opens="master")
    unlock = struct.pack("=i", 0)
    yield Step("ioctl", (Slot("master"), _TIOCSPTLCK, unlock), "its other side may be opened")
    yield Step(
        "ioctl", (Slot("master"), _TIOCGPTPEER, flags), "by no path that could lead elsewhere",
        opens="terminal",
    )  # fmt: skip
    if terminal.rows or terminal.columns:
        size = struct.pack("=HHHH", terminal.rows, terminal.columns, 0, 0)
        yield Step("ioctl", (Slot("master"), _TIOCSWINSZ, size), "its size")
    yield Step("fchown", (Slot("terminal"), uid, -1), "the user's own")
    if is_console:
        yield from _plan_console()
    yield Step("dup3", (Slot("master"), _PASSED, os.O_CLOEXEC), "under the number that is sent")
    yield Step("sendmsg", (Slot("console"), _TOLD, _PASSED), "whoever asked holds the master")
    yield Step("close", (_PASSED,), "the container does not")
    yield Step("close", (Slot("master"),), "in neither place")
    yield Step("close", (Slot("console"),), "nothing more is sent")
    yield Step("ioctl", (Slot("terminal"), _TIOCSCTTY, 0), "its keys send signals to our session")
    for number in range(3):
        yield Step("dup3", (Slot("terminal"), number, 0), "standard stream")
    yield Step("close", (Slot("terminal"),), "under no other number")


def _plan_console() -> Iterator[Step]:
    """What messages for the operator are written to is this terminal."""
    file = stat.S_IFREG | 0o620
    exists = frozenset({EEXIST})
    yield Step("mknod", (_CONSOLE, file, 0), "a file to mount on", allow=exists)
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_EMPTY_PATH
    yield Step("open_tree", (Slot("terminal"), "", copied), "the terminal's file", opens="tree")
    place = (_ROOT, _CONSOLE, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, syscalls.RESOLVE_IN_ROOT)
    yield Step("openat2", place, "no link that would move the mount", opens="place")
    yield Step("move_mount", (Slot("tree"), Slot("place")), f"is {_CONSOLE} too")
    yield Step("close", (Slot("place"),), "nothing stays open")
    yield Step("close", (Slot("tree"),), "nothing stays open")
