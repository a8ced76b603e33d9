"""``isoscope volume``: make, list, inspect and remove volumes."""

import argparse
import json
from collections.abc import Sequence

from runtime.commandline import Parser
from runtime.noun_cli import Noun
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
    parser, verbs = Noun(
        word="volume",
        purpose="Make, list, inspect and remove directories that outlive containers.",
        headings=("NAME", "CREATED", "USED BY"),
        found=volumes.volumes,
        named=lambda names: [volumes.resolve(name) for name in names],
        row=_row,
        described=_described,
        remove=volumes.remove,
        removal="delete volumes and all that is in them",
    ).parser()
    create = verbs.add_parser("create", help="make a volume; one that is there stays as it is")
    create.add_argument("names", metavar="NAME", nargs="+")
    create.set_defaults(verb=_create)
    prune = verbs.add_parser("prune", help="delete every volume that no container uses")
    prune.add_argument("--json", action="store_true", help="print JSON")
    prune.set_defaults(verb=_prune)
    return parser


def _create(arguments: argparse.Namespace) -> None:
    for name in arguments.names:
        print(volumes.create(name).name)


def _prune(arguments: argparse.Namespace) -> None:
    removed = volumes.prune()
    print(json.dumps(removed) if arguments.json else "\n".join(removed) or "no volume is unused")


def _row(volume: Volume) -> tuple[str, ...]:
    users = ", ".join(volumes.users_of(volume.name)) or "-"
    return (volume.name, volume.created[:10], users)


def _described(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "created": volume.created,
        "directory": str(volume.directory),
        "used_by": list(volumes.users_of(volume.name)),
    }
