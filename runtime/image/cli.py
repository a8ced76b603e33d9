"""``isoscope image``: make, list, inspect, move and remove images."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from runtime.commandline import Parser
from runtime.fault import printable
from runtime.image.bootstrap import bootstrap_busybox
from runtime.image.manifest import Image
from runtime.image.registry.cli import add_image_verbs
from runtime.image.store import Store


def main(argv: Sequence[str]) -> int:
    """Do what the words after ``isoscope image`` say; the exit status.

    Raises RuntimeFault for the caller to show; wrong usage exits with status 2 (argparse).
    """
    arguments = image_parser().parse_args(argv)
    status: int = arguments.verb(Store(), arguments)
    return status


def image_parser() -> Parser:
    """All the verbs of ``isoscope image``."""
    parser = Parser(
        prog="isoscope image", description="Make, list, inspect, move and remove images."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    bootstrap = verbs.add_parser("bootstrap", help="make an image without a registry")
    bootstrap.add_argument("kind", choices=["busybox"], help="from this machine's static busybox")
    bootstrap.add_argument("-t", "--tag", metavar="REFERENCE", help="name it so, not 'busybox'")
    bootstrap.set_defaults(verb=_bootstrap)

    listing = verbs.add_parser("ls", help="list the images")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--digests", action="store_true", help="print whole digests")
    listing.set_defaults(verb=_list)

    inspect = verbs.add_parser("inspect", help="print what an image says about itself, as JSON")
    inspect.add_argument("name", metavar="IMAGE")
    inspect.set_defaults(verb=_inspect)

    remove = verbs.add_parser("rm", help="remove names, and the images that lose their last")
    remove.add_argument("names", metavar="IMAGE", nargs="+")
    remove.set_defaults(verb=_remove)

    add_image_verbs(verbs)
    return parser


def _bootstrap(store: Store, arguments: argparse.Namespace) -> int:
    image = bootstrap_busybox(store, arguments.tag or arguments.kind)
    _say(image.digest)
    return 0


def _list(store: Store, arguments: argparse.Namespace) -> int:
    images = store.images()
    if arguments.json:
        _say(json.dumps([_summary(image) for image in images], indent=2))
        return 0
    rows = [("REFERENCE", "DIGEST" if arguments.digests else "IMAGE ID", "CREATED", "SIZE")]
    for image in images:
        identifier = image.digest if arguments.digests else image.short_id
        created = (image.created or "-")[:10]
        rows += [
            (printable(reference), identifier, created, f"{image.size_bytes / 1e6:.2f} MB")
            for reference in image.references or ("<none>",)
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        _say("  ".join(cells).rstrip())
    return 0


def _inspect(store: Store, arguments: argparse.Namespace) -> int:
    _say(json.dumps(_details(store.resolve(arguments.name)), indent=2))
    return 0


def _remove(store: Store, arguments: argparse.Namespace) -> int:
    for name in arguments.names:
        deleted = store.remove(name)
        _say(f"removed {printable(name)}")
        for digest in deleted:
            _say(f"deleted {digest}")
    return 0


def _summary(image: Image) -> dict[str, Any]:
    return {
        "digest": image.digest,
        "references": list(image.references),
        "created": image.created,
        "size_bytes": image.size_bytes,
    }


def _details(image: Image) -> dict[str, Any]:
    """The words that users of ``docker image inspect`` know, and their meaning here.

    ``Id`` is the configuration's digest, as there; ``Digest`` is the manifest's. ``Size`` is in
    bytes and counts blobs as they are stored, compressed.
    """
    config = image.config
    return {
        "Id": image.manifest.config.digest,
        "Digest": image.digest,
        "References": list(image.references),
        "Created": image.created,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size_bytes,
        "Config": {
            "User": config.user or "",
            "Env": [f"{name}={value}" for name, value in config.env],
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
            "WorkingDir": config.cwd,
            "StopSignal": config.stop_signal,
            "Labels": dict(config.labels),
        },
        "Layers": [
            {
                "Digest": layer.digest,
                "DiffId": diff_id,
                "MediaType": layer.media_type,
                "Size": layer.size_bytes,
            }
            for layer, diff_id in zip(image.manifest.layers, config.diff_ids, strict=True)
        ],
    }


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
