"""``isoscope image``: make, list, inspect, move and remove images."""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from runtime.commandline import Parser
from runtime.fault import printable
from runtime.image.bootstrap import bootstrap_busybox
from runtime.image.manifest import Image
from runtime.image.registry.cli import add_image_verbs
from runtime.image.show import amount, say, table
from runtime.image.store import Store
from runtime.image.store_cli import BuildCache, InUse, add_store_verbs, bootstrap_debian_verb

_NO_CACHE = BuildCache(size_bytes=lambda: 0, limit_bytes=lambda: 0, empty=lambda: 0)


def main(
    argv: Sequence[str], *, in_use: InUse = lambda _: (), build_cache: BuildCache = _NO_CACHE
) -> int:
    """Do what the words after ``isoscope image`` say; the exit status.

    *in_use* tells who stands on an image, which is then not removed. *build_cache* is what builds,
    which stand above images, keep beside them. Raises RuntimeFault for the
    caller to show; wrong usage exits with status 2 (argparse).
    """
    arguments = image_parser().parse_args(argv)
    arguments.in_use = in_use
    arguments.build_cache = build_cache
    status: int = arguments.verb(Store(), arguments)
    return status


def image_parser() -> Parser:
    """All the verbs of ``isoscope image``."""
    parser = Parser(
        prog="isoscope image", description="Make, list, inspect, move and remove images."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    bootstrap = verbs.add_parser("bootstrap", help="make an image without a registry")
    kinds = bootstrap.add_subparsers(required=True, metavar="KIND")
    busybox = kinds.add_parser("busybox", help="from this machine's static busybox")
    busybox.add_argument("-t", "--tag", metavar="NAME", help="name it so, not 'busybox'")
    busybox.set_defaults(verb=_bootstrap_busybox)
    debian = kinds.add_parser("debian", help="from this machine's apt sources; half a minute")
    debian.add_argument("-t", "--tag", metavar="NAME", help="name it so, not 'debian'")
    debian.add_argument(
        "--include", action="append", default=[], metavar="PKG,…", help="more packages, in a layer"
    )
    debian.add_argument("--init", choices=["systemd"], help="with a kernel, for a machine to boot")
    debian.set_defaults(verb=bootstrap_debian_verb)

    # Read by runtime.build, which stands above images; here it is only told of.
    verbs.add_parser("build", add_help=False, help="make an image from a Dockerfile")

    listing = verbs.add_parser("ls", help="list the images")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--digests", action="store_true", help="print whole digests")
    listing.set_defaults(verb=_list)

    inspect = verbs.add_parser("inspect", help="print what an image says about itself, as JSON")
    inspect.add_argument("name", metavar="IMAGE")
    inspect.set_defaults(verb=_inspect)

    add_store_verbs(verbs)
    add_image_verbs(verbs)
    return parser


def _bootstrap_busybox(store: Store, arguments: argparse.Namespace) -> int:
    say(bootstrap_busybox(store, arguments.tag or "busybox").digest)
    return 0


def _list(store: Store, arguments: argparse.Namespace) -> int:
    images = store.images()
    if arguments.json:
        say(json.dumps([_summary(image) for image in images], indent=2))
        return 0
    rows = [("REFERENCE", "DIGEST" if arguments.digests else "IMAGE ID", "CREATED", "SIZE")]
    for image in images:
        identifier = image.digest if arguments.digests else image.short_id
        created = (image.created or "-")[:10]
        rows += [
            (printable(reference), identifier, created, amount(image.size_bytes))
            for reference in image.references or ("<none>",)
        ]
    say(table(rows))
    return 0


def _inspect(store: Store, arguments: argparse.Namespace) -> int:
    say(json.dumps(_details(store.resolve(arguments.name)), indent=2))
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
