"""OCI images: named, stored by content, verified on every read, unpacked into trees.

What stands here is what the rest of the project uses; the modules below may change. The arrows
between them run one way. What makes, unpacks and reads trees is imported when it is first named:
who only looks an image up pays for no more than that::

    cli -> bootstrap, snapshots, unpacking -> layer -> overlay -> tree, stack
                      snapshots -> making (what is missing) -> layer
                      snapshots -> changes (an upper directory becomes a layer) -> archive_writer
                      layer -> archive, compression
                      unpacking -> store -> index, blob, manifest -> document, reference
                                   store -> slots, rootfs, disks (where unpacked things are kept)
    users -> inside -> stack (files of an image, read without leaving it)
    manifest -> markup (what a notebook shows)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from runtime.errors import ImageError
from runtime.image.find import find_image
from runtime.image.home import cache_dir, state_dir
from runtime.image.manifest import Descriptor, Image, ImageConfig, Manifest
from runtime.image.reference import Reference, parse_reference
from runtime.image.store import Store

if TYPE_CHECKING:
    from runtime.image.bootstrap import bootstrap_busybox
    from runtime.image.changes import LayerMade, Times, write_layer
    from runtime.image.disks import disk_slot, shrink_disks
    from runtime.image.snapshots import Snapshots, keep_snapshot, using_snapshots
    from runtime.image.stack import Rootfs
    from runtime.image.tree import imitate
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
    "disk_slot",
    "find_image",
    "identity",
    "imitate",
    "keep_snapshot",
    "lookup",
    "parse_reference",
    "shrink_disks",
    "state_dir",
    "unpack",
    "unpacked",
    "using_snapshots",
    "write_layer",
]

_LATER = {
    "bootstrap_busybox": "bootstrap",
    "disk_slot": "disks",
    "shrink_disks": "disks",
    "LayerMade": "changes",
    "Times": "changes",
    "imitate": "tree",
    "write_layer": "changes",
    "Snapshots": "snapshots",
    "keep_snapshot": "snapshots",
    "using_snapshots": "snapshots",
    "Rootfs": "stack",
    "Unpacked": "unpacking",
    "unpack": "unpacking",
    "unpacked": "unpacking",
    "Identity": "users",
    "identity": "users",
    "lookup": "users",
}
"""Name -> the module that has it, of those that are imported when first named."""


def __getattr__(name: str) -> Any:
    """One of the names of ``_LATER`` (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
