"""OCI images: named, stored by content, verified on every read, unpacked into trees.

What stands here is what the rest of the project uses; the modules below may change. The arrows
between them run one way::

    cli -> bootstrap, unpacking -> layer -> tree, archive, compression
                      unpacking -> store -> index, blob, manifest -> document, reference
    users -> inside (files of an unpacked tree, read without leaving it)
    manifest -> markup (what a notebook shows)
"""

from runtime.errors import ImageError
from runtime.image.bootstrap import bootstrap_busybox
from runtime.image.find import find_image
from runtime.image.home import cache_dir, state_dir
from runtime.image.manifest import Descriptor, Image, ImageConfig, Manifest
from runtime.image.reference import Reference, parse_reference
from runtime.image.store import Store
from runtime.image.unpacking import Unpacked, unpack, unpacked
from runtime.image.users import Identity, identity, lookup

__all__ = [
    "Descriptor",
    "Identity",
    "Image",
    "ImageConfig",
    "ImageError",
    "Manifest",
    "Reference",
    "Store",
    "Unpacked",
    "bootstrap_busybox",
    "cache_dir",
    "find_image",
    "identity",
    "lookup",
    "parse_reference",
    "state_dir",
    "unpack",
    "unpacked",
]
