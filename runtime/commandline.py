"""What all our command lines share: how options are read, and how a complaint looks.

Pure but for ``ended_by`` and the parser's own complaints, which print. Imports nothing of ours but
the shape of failures, so every package's ``cli`` may use it.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from runtime.fault import Fault, printable

USAGE, OURS = 2, 125
_Read = TypeVar("_Read")

_LARGEST = 1e9
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,18})?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_MISSING = "the following arguments are required: "
_RUN_STATUSES = """\
exit status: the command's own; 128+n if signal n ended it; 125 a failure of ours, 126 a command
that cannot be run, 127 one that is not there, 2 wrong usage.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line that names the next command to type.

    Options are never abbreviated: what is short today would be ambiguous tomorrow. The epilog is
    printed as it is written.
    """

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; exit with 2."""
        if message.startswith(_MISSING):
            message = f"{message.removeprefix(_MISSING)} is missing"
        said = f"{self.prog}: {message}; try '{self.prog} --help'"
        self.exit(USAGE, f"{printable(said)}\n")

    def actions(self) -> tuple[argparse.Action, ...]:
        """Every option and argument, in the order in which they were added."""
        return tuple(self._actions)


class _Refuse(argparse.Action):
    """An option that others have and this one cannot honour: refused by name, with the reason."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> None:
        option = self.option_strings[-1]
        parser.error(f"{option} is not for this backend: {self.const}")


def ended_by(fault: Fault, *, status: int = OURS, debug: bool = False) -> int:
    """Say *fault* in one line; the exit status. With *debug* it is raised again, to be traced."""
    if debug:
        raise fault
    sys.stderr.write(f"isoscope: {fault}\n")
    sys.stderr.flush()
    return status


def reading(read: Callable[[str], _Read]) -> Callable[[str], _Read]:
    """*read* as a type of an option: what it refuses is wrong usage."""

    def checked(text: str) -> _Read:
        try:
            return read(text)
        except Fault as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


ATTACHING: Mapping[str, str] = {
    "--volume": "-v", "--mount": "", "--tmpfs": "", "--network": "", "--publish": "-p",
    "--publish-all": "-P", "--name": "", "--detach": "-d", "--tty": "-t", "--rm": "",
    "--privileged": "", "--cap-add": "", "--cap-drop": "", "--security-opt": "",
    "--read-only": "", "--ulimit": "", "--device": "",
}  # fmt: skip
"""What not every backend can be given, with the short form."""

_FLAGS = frozenset({"--publish-all", "--detach", "--tty", "--rm", "--privileged", "--read-only"})
"""Those of ATTACHING that take no value."""


def run_parser(
    on: str,
    *,
    description: str,
    cpus: Callable[[str], float],
    without: Mapping[str, str],
    attach: Callable[[argparse._ArgumentGroup], None] | None = None,
) -> Parser:
    """The options of ``run --on`` *on*: named, read and refused alike on every backend.

    *without* maps an option that this backend cannot honour to the reason. *attach* adds
    options in ATTACHING; those that it does not add are refused.
    """
    prog = "isoscope run" if on == "container" else f"isoscope run --on {on}"
    parser = Parser(
        prog=prog,
        usage=f"{prog} [OPTION…] IMAGE [CMD…]",
        description=description,
        epilog=_run_epilog(on),
    )
    parser.add_argument("image", metavar="IMAGE", help="reference or digest; 'isoscope image ls'")
    command = parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="CMD", help="instead of the image's own"
    )
    command.required = False  # so that no complaint about IMAGE names it

    def add(group: argparse._ArgumentGroup, *names: str, **settings: Any) -> None:
        if (why := without.get(names[-1])) is not None:
            taken = {"nargs": 0} if "action" in settings else {}
            settings = {"action": _Refuse, "const": why, "help": argparse.SUPPRESS, **taken}
        group.add_argument(*names, **settings)

    inside = parser.add_argument_group("inside")
    help_env = "set a variable; NAME alone passes on ours, if there is one"
    add(inside, "-e", "--env", action="append", default=[], type=variable,
        metavar="NAME[=VALUE]", help=help_env)  # fmt: skip
    add(inside, "-w", "--workdir", metavar="PATH", help="working directory; made if missing")
    add(inside, "-u", "--user", metavar="USER[:GROUP]", help="user, by name or number")
    limits = parser.add_argument_group("limits")
    add(limits, "-m", "--memory", type=size, metavar="SIZE", help="memory, such as 64m or 1.5g")
    add(limits, "--cpus", type=cpus, metavar="N", help="processors")
    add(limits, "--pids-limit", type=whole, metavar="N", help="how many processes it may have")
    add(limits, "--timeout", type=seconds, metavar="SECONDS",
        help="kill it if it has not ended by then")  # fmt: skip
    attaching = parser.add_argument_group("what else it gets")
    if attach is not None:
        attach(attaching)
    taken = {name for action in parser.actions() for name in action.option_strings}
    for long, short in ATTACHING.items():
        if long not in taken:
            attaching.add_argument(
                *filter(None, (short, long)), action=_Refuse, help=argparse.SUPPRESS,
                nargs=0 if long in _FLAGS else 1, const="this backend does not have it",
            )  # fmt: skip
    more = parser.add_argument_group("how")
    add(more, "--on", metavar="BACKEND", help="container (if not given), vm, host or a peer")
    add(more, "--explain", action="store_true", help="print what would be done; run nothing")
    add(more, "--debug", action="store_true", help="show a traceback when isoscope itself fails")
    return parser


def _run_epilog(on: str) -> str:
    option = "" if on == "container" else f"--on {on} "
    return f"""\
examples:
  isoscope run {option}busybox uname -r
  isoscope run {option}-e GREETING=hello -w /tmp busybox sh -c 'echo $GREETING from $PWD'
  echo words | isoscope run {option}busybox wc -w

--on takes container, vm, host (chroot and nothing else), and, where they are installed, runc,
crun, bwrap, nspawn, podman, docker, qemu; 'isoscope run --on vm --help' tells of another one.

{_RUN_STATUSES}"""


def size(text: str) -> int:
    """``64m`` -> bytes, as docker reads it: binary units b, k, m, g, t, p, also as mb and MiB.

    Raises ArgumentTypeError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or 64m, 1.5g")
    number_bytes = float(match[1]) * _UNITS[match[2].lower()]
    if number_bytes >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is more than any machine has")
    return int(number_bytes) if "." in match[1] else int(match[1]) * _UNITS[match[2].lower()]


def cores(text: str) -> float:
    """A positive number of cores, such as 0.5. Raises ArgumentTypeError."""
    return _positive(text, "a number of cores")


def seconds(text: str) -> float:
    """A positive, finite time. Raises ArgumentTypeError."""
    return _positive(text, "a time in seconds")


def whole(text: str) -> int:
    """A number such as 1, 2 or 3. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:19]) < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number such as 1 or 2")
    return int(text)


def _positive(text: str, noun: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < _LARGEST:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not {noun}: write a number such as 1.5")
    return number


def variable(text: str) -> tuple[str, str | None]:
    """``NAME=value``, or ``NAME`` for the value it has here. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no variable: write NAME=value")
    return name, value if equals else os.environ.get(name)


def environment(variables: Sequence[tuple[str, str | None]]) -> dict[str, str]:
    """The variables that have a value; one that we were to pass on and do not have is left out."""
    return {name: value for name, value in variables if value is not None}


def table(rows: Sequence[Sequence[str]]) -> str:
    """*rows* in columns, the first row being their names; nothing in it steers a terminal."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    )
    return "\n".join(lines)
