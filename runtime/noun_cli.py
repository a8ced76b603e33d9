"""The verbs that networks and volumes share: ``ls``, ``inspect`` and ``rm``, read and shown alike.

A noun adds its own: how it is made, and what else there is to do with it.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runtime.commandline import Parser, table

Verbs = Any  # argparse names its type of subparsers with an underscore
_Thing = TypeVar("_Thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun(Generic[_Thing]):
    """What there are several of, each with a name.

    *headings* and *row* are the columns of ``ls``, *described* is an object of its JSON. *named*
    gives those that the user named and *remove* takes one away: both raise if it is not there.
    *removal* is what the help says of ``rm``.
    """

    word: str
    purpose: str
    headings: tuple[str, ...]
    found: Callable[[], Sequence[_Thing]]
    named: Callable[[Sequence[str]], Sequence[_Thing]]
    row: Callable[[_Thing], tuple[str, ...]]
    described: Callable[[_Thing], dict[str, object]]
    remove: Callable[[str], object]
    removal: str

    def parser(self) -> tuple[Parser, Verbs]:
        """``isoscope WORD`` with the shared verbs, and where others are added."""
        parser = Parser(prog=f"isoscope {self.word}", description=self.purpose)
        verbs = parser.add_subparsers(required=True, metavar="VERB")
        listing = verbs.add_parser("ls", help=f"list the {self.word}s")
        listing.add_argument("--json", action="store_true", help="print JSON")
        listing.set_defaults(verb=self._list)
        inspect = verbs.add_parser(
            "inspect", help=f"print what is known of a {self.word}, as JSON"
        )
        inspect.add_argument("names", metavar="NAME", nargs="+")
        inspect.set_defaults(verb=self._inspect)
        remove = verbs.add_parser("rm", help=self.removal)
        remove.add_argument("names", metavar="NAME", nargs="+")
        remove.set_defaults(verb=self._remove)
        return parser, verbs

    def _list(self, arguments: argparse.Namespace) -> None:
        found = self.found()
        if arguments.json:
            print(json.dumps([self.described(each) for each in found], indent=2))
        else:
            print(table([self.headings, *map(self.row, found)]))

    def _inspect(self, arguments: argparse.Namespace) -> None:
        named = self.named(arguments.names)
        print(json.dumps([self.described(each) for each in named], indent=2))

    def _remove(self, arguments: argparse.Namespace) -> None:
        for name in arguments.names:
            self.remove(name)
            print(name)
