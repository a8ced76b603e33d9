"""``isoscope volume``: make, list, inspect and remove volumes."""

import argparse
import json
from collections.abc import Sequence

from runtime.commandline import Parser, table
from runtime.volume import volumes
from runtime.volume.volumes import Volume


def main(argv: Sequence[str]) -> int:
    """Do what the words after ``isoscope volume`` say; the exit status.

    Raises RuntimeFault for the caller to show; wrong usage exits with status 2 (argparse).
    """
    arguments = volume_parser().parse_args(argv)
    arguments.verb(arguments)
    return 0


def volume_parser() -> Parser:
    """All the verbs of ``isoscope volume``."""
    parser = Parser(
        prog="isoscope volume",
        description="Make, list, inspect and remove directories that outlive containers.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = verbs.add_parser("create", help="make a volume; one that is there stays as it is")
    create.add_argument("names", metavar="NAME", nargs="+")
    create.set_defaults(verb=_create)

    listing = verbs.add_parser("ls", help="list the volumes")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(verb=_list)

    inspect = verbs.add_parser("inspect", help="print what is known of a volume, as JSON")
    inspect.add_argument("names", metavar="NAME", nargs="+")
    inspect.set_defaults(verb=_inspect)

    remove = verbs.add_parser("rm", help="delete volumes and all that is in them")
    remove.add_argument("names", metavar="NAME", nargs="+")
    remove.set_defaults(verb=_remove)

    prune = verbs.add_parser("prune", help="delete every volume that no container uses")
    prune.add_argument("--json", action="store_true", help="print JSON")
    prune.set_defaults(verb=_prune)
    return parser


def _create(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        print(volumes.create(name).name)


def _list(arguments: argparse.Namespace) -> None:
    found = volumes.volumes()
    if arguments.json:
        print(json.dumps([_described(each) for each in found], indent=2))
        return
    rows = [("NAME", "CREATED", "USED BY")]
    rows += [
        (each.name, each.created[:10], ", ".join(volumes.users_of(each.name)) or "-")
        for each in found
    ]
    print(table(rows))


def _inspect(arguments: argparse.Namespace) -> None:
    found = [volumes.resolve(name) for name in arguments.names]
    print(json.dumps([_described(each) for each in found], indent=2))


def _remove(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        volumes.remove(name)
        print(name)


def _prune(arguments: argparse.Namespace) -> None:
    removed = volumes.prune()
    print(json.dumps(removed) if arguments.json else "\n".join(removed) or "no volume is unused")


def _described(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "created": volume.created,
        "directory": str(volume.directory),
        "used_by": list(volumes.users_of(volume.name)),
    }
