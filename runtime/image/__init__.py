"""OCI images: named, stored by content, verified on every read, unpacked into trees.

What stands here is what the rest of the project uses; the modules below may change. The arrows
between them run one way::

    cli -> bootstrap, snapshots, unpacking -> layer -> overlay -> tree, stack
                      snapshots -> changes (an upper directory becomes a layer) -> archive_writer
                      layer -> archive, compression
                      unpacking -> store -> index, blob, manifest -> document, reference
                                   store -> slots, rootfs (where unpacked things are kept)
    users -> inside -> stack (files of an image, read without leaving it)
    manifest -> markup (what a notebook shows)
"""

from runtime.errors import ImageError
from runtime.image.bootstrap import bootstrap_busybox
from runtime.image.changes import LayerMade, Times, imitate, write_layer
from runtime.image.find import find_image
from runtime.image.home import cache_dir, state_dir
from runtime.image.manifest import Descriptor, Image, ImageConfig, Manifest
from runtime.image.reference import Reference, parse_reference
from runtime.image.snapshots import Snapshots, keep_snapshot, using_snapshots
from runtime.image.stack import Rootfs
from runtime.image.store import Store
from runtime.image.unpacking import Unpacked, unpack, unpacked
from runtime.image.users import Identity, identity, lookup

__all__ = [
    "Descriptor",
    "Identity",
    "Image",
    "ImageConfig",
    "ImageError",
    "LayerMade",
    "Manifest",
    "Reference",
    "Rootfs",
    "Snapshots",
    "Store",
    "Times",
    "Unpacked",
    "bootstrap_busybox",
    "cache_dir",
    "find_image",
    "identity",
    "imitate",
    "keep_snapshot",
    "lookup",
    "parse_reference",
    "state_dir",
    "unpack",
    "unpacked",
    "using_snapshots",
    "write_layer",
]
