"""``cp`` and ``diff``: the files of containers."""

import argparse
import sys
from contextlib import ExitStack

from runtime.commandline import Parser
from runtime.container.kept.copying import Manner, Side, copy, host_path, inside
from runtime.container.kept.differing import changes
from runtime.container.kept.finding import find
from runtime.container.kept.kept import Kept
from runtime.container.kept.naming import container_parser
from runtime.errors import SpecError
from runtime.fault import printable


def diff_parser() -> Parser:
    """The options of ``diff``."""
    return container_parser("diff", "What a container added, changed and deleted of its image.")


def diff(arguments: argparse.Namespace) -> int:
    """Show it, a letter and a path a line."""
    for change in changes(Kept(find(arguments.container))):
        print(f"{change.kind} {printable(change.path)}")
    return 0


def cp_parser() -> Parser:
    """The options of ``cp``."""
    prog = "isoscope cp"
    parser = Parser(
        prog=prog,
        usage=f"{prog} [-a] CONTAINER:PATH PATH | PATH CONTAINER:PATH",
        description="Copy files between a container, running or not, and this machine.",
        epilog="A path of this machine that holds a colon begins with / or ./",
    )
    for name in ("source", "target"):
        parser.add_argument(name, metavar="[CONTAINER:]PATH")
    parser.add_argument("-a", "--archive", action="store_true", help="keep the owners' numbers")
    parser.add_argument("--debug", action="store_true", help="show a traceback when we fail")
    return parser


def cp(arguments: argparse.Namespace) -> int:
    """Copy, and tell of what was left out."""
    source, target = (_read(text) for text in (arguments.source, arguments.target))
    if (source[0] is None) == (target[0] is None):
        raise SpecError(
            "one of the two paths is to be in a container", remedy="write it as CONTAINER:PATH"
        )
    with ExitStack() as undo:
        sides = []
        for (container, path), told in (
            (source, arguments.source),
            (target, arguments.target),
        ):
            root = None
            if container is not None:
                root = undo.enter_context(inside(Kept(find(container))))
            sides.append(Side(root=root, path=path, told=told))
        manner = Manner(keeps_owners=arguments.archive, drops_set_ids=target[0] is None)
        for told in copy(sides[0], sides[1], manner):
            sys.stderr.write(f"isoscope: {printable(told)}\n")
    return 0


def _read(text: str) -> tuple[str | None, str]:
    if text == "-":
        raise SpecError(
            "no tar archive is read or written here",
            remedy="pipe to or from 'isoscope exec -i CONTAINER tar'; ./- is a file of that name",
        )
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        if not text:
            raise SpecError("an empty path", remedy="write . for the current directory")
        return None, host_path(text)
    if not container or not path:
        raise SpecError(f"{text!r} is no path in a container", remedy="write CONTAINER:PATH")
    return container, path if path.startswith("/") else f"/{path}"
