"""From an image to a tree of files: made complete or not at all, and kept for the next time."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.document import parse_document, render_document
from runtime.image.durable import (
    locked_directory,
    sync_directory,
    sync_file_system,
    write_whole,
)
from runtime.image.following import Following, short_name
from runtime.image.home import cache_dir
from runtime.image.layer import Layer, Limits, apply_layer
from runtime.image.manifest import Image
from runtime.image.progress import Showing, nobody
from runtime.image.removal import remove_tree
from runtime.image.room import Room
from runtime.image.rootfs import rootfs_slot
from runtime.image.store import Store
from runtime.image.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A tree in the cache.

    ``duration_ns`` is what unpacking took when it was done, ``cached`` whether that was earlier.
    ``disk_bytes`` is what the tree occupies, a file with several names counted once.
    """

    path: Path
    duration_ns: int
    disk_bytes: int
    cached: bool


def unpack(
    store: Store,
    image: Image,
    target: Path,
    *,
    limits: Limits | None = None,
    showing: Showing = nobody,
) -> None:
    """Make *target*, which must not exist, the tree of *image*.

    It appears complete or not at all: the work is done in a hidden directory beside it, which is
    gone after a failure and, after a death, at the next call. *showing* gives who watches.
    Raises ImageError.
    """
    room = Room(path=target.absolute().parent, what="the unpacked image")
    try:
        with (
            room.told(),
            showing() as watcher,
            _staged(target) as staging,
            Tree(staging) as tree,
        ):
            following = Following(room=room, watcher=watcher)
            for blob in image.manifest.layers:
                following.expect(short_name(blob), blob.size_bytes)
            following.require()  # it never unpacks to less
            left = limits or Limits()
            layers = zip(image.manifest.layers, image.config.diff_ids, strict=True)
            for number, (blob, diff_id) in enumerate(layers):
                layer = Layer(store=store, blob=blob, diff_id=diff_id, following=following)
                left = apply_layer(layer, tree, left, has_lower=number > 0)
    except OSError as error:
        raise ImageError(f"cannot unpack {image.digest} to {target}: {error.strerror}") from error


def unpacked(store: Store, image: Image, *, purpose: str, showing: Showing = nobody) -> Unpacked:
    """The cached tree of *image* for *purpose*, made if it is missing. Raises ImageError.

    Who writes into a tree takes a purpose of his own; those that only read may share one.
    Processes that ask at the same time wait for the first.
    """
    cache_dir("rootfs")
    slot = rootfs_slot(image.digest, purpose)
    try:
        with locked_directory(slot):
            found = _read_meta(slot)
            return _make(store, image, slot, showing) if found is None else found
    except OSError as error:
        raise ImageError(
            f"cannot keep a tree in {slot}: {error.strerror}",
            remedy="set ISOSCOPE_HOME to a directory of yours with room in it",
        ) from error


def _make(store: Store, image: Image, slot: Path, showing: Showing) -> Unpacked:
    tree = slot / "tree"
    # What is here now is not complete: its maker was killed, or somebody deleted a part of it.
    (slot / "meta.json").unlink(missing_ok=True)
    remove_tree(tree)
    started_ns = time.monotonic_ns()
    unpack(store, image, tree, showing=showing)
    duration_ns = time.monotonic_ns() - started_ns
    disk_bytes = allocated_bytes(tree)
    # A rename may reach the disk before what it names; then a crash would leave a tree of empty
    # files that says it is complete. Not part of the duration: nobody has to wait for it.
    sync_file_system(slot)
    meta = {"image": image.digest, "duration_ns": duration_ns, "disk_bytes": disk_bytes}
    write_whole(slot / "meta.json", render_document(meta))
    return Unpacked(path=tree, duration_ns=duration_ns, disk_bytes=disk_bytes, cached=False)


def _read_meta(slot: Path) -> Unpacked | None:
    """The tree that is in *slot*, or None if there is none that is known to be complete."""
    try:
        meta = parse_document((slot / "meta.json").read_bytes(), str(slot / "meta.json"))
        duration_ns, disk_bytes = meta["duration_ns"].size(), meta["disk_bytes"].size()
    except (FileNotFoundError, ImageError):
        return None
    tree = slot / "tree"
    if not tree.is_dir():
        return None
    return Unpacked(path=tree, duration_ns=duration_ns, disk_bytes=disk_bytes, cached=True)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A directory that becomes *target* if the block ends well, and nothing if it does not."""
    if target.is_symlink() or target.exists():
        raise ImageError(f"{target} exists already", remedy="name a path that does not")
    staging = target.with_name(f".{target.name}.partial")
    with locked_directory(staging):
        try:
            for name in os.listdir(staging):  # noqa: PTH208 - names, not paths
                remove_tree(staging / name)
            staging.chmod(0o755)  # what the root directory is if no layer says
            os.utime(staging, ns=(0, 0))
            yield staging
            staging.rename(target)
        except BaseException:
            remove_tree(staging)
            raise
    sync_directory(target.parent)


def allocated_bytes(root: Path) -> int:
    """What the tree at *root* occupies: blocks of 512 bytes (stat(2)), each inode once."""
    blocks = root.lstat().st_blocks
    linked: set[tuple[int, int]] = set()
    for _, directories, files, descriptor in os.fwalk(root):
        for name in (*directories, *files):
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            inode = (status.st_dev, status.st_ino)
            if inode in linked:
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                linked.add(inode)
            blocks += status.st_blocks
    return blocks * 512
