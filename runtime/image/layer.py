"""Applying a layer: the OCI image-spec's change sets (``layer.md``), from hostile hands.

Whiteouts concern lower layers only, wherever in the archive they stand. Where a layer is written
over others the archive is therefore read twice: first its whiteouts are done, then its entries
are written. Nothing of the layer has to be remembered, so memory stays flat.
"""

import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

from runtime.errors import ImageError
from runtime.image.archive import ArchiveReader, Entry, Kind
from runtime.image.blob import CHUNK_BYTES, Reader
from runtime.image.compression import LayerStream
from runtime.image.following import Following, short_name
from runtime.image.manifest import Descriptor
from runtime.image.overlay import OutOfOrderError, OverlayTree
from runtime.image.removal import remove_content
from runtime.image.store import Store
from runtime.image.tree import Attributes, Parts, RefusedError, Tree

MAX_PATH_BYTES = 4096
"""Longer names are refused: PATH_MAX, so no program could use them."""

WHITEOUT = b".wh."
"""Before the name of what is deleted."""
OPAQUE_NAME = b".wh..wh..opq"
"""In a directory of which nothing older is left."""

_RESERVED = b".wh..wh."  # what aufs kept for itself; other engines skip it too
_ZEROS = bytes(CHUNK_BYTES)
_NO_ID = (1 << 32) - 1  # to chown(2) it means "leave it"
_DEVICE_TYPES = {Kind.CHARACTER_DEVICE: stat.S_IFCHR, Kind.BLOCK_DEVICE: stat.S_IFBLK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a stranger's layers may unpack to: tar bytes and entries."""

    total_bytes: int = 64 << 30
    entries: int = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of *store* and what its tar must hash to.

    ``stopped`` ends its reading early, ``following`` is told how far it is.
    """

    store: Store
    blob: Descriptor
    diff_id: str
    stopped: Event | None = None
    following: Following | None = None


@dataclass(frozen=True, slots=True)
class _Stoppable:
    """A blob that fails to be read once another thread says so."""

    blob: Reader
    stopped: Event

    def read(self, size: int = -1, /) -> bytes:
        if self.stopped.is_set():
            raise ImageError("it was not needed any more")
        return self.blob.read(size)


def apply_layer(layer: Layer, tree: Tree, limits: Limits, *, has_lower: bool) -> Limits:
    """Apply *layer* to *tree*; returns what it leaves of *limits* for the next.

    *has_lower* says that *tree* holds lower layers. Raises ImageError naming layer and entry for
    whatever is corrupt, hostile or too large; *tree* is then of no use.
    """
    if has_lower:
        _each_entry(layer, limits, partial(_delete, tree))
    return _each_entry(layer, limits, partial(_write, tree))


def write_overlay(
    layer: Layer, root: Path, limits: Limits, lower: Callable[[], tuple[Path, ...]]
) -> Limits:
    """Write *layer* alone into the empty directory *root*, in overlayfs's form.

    *lower* gives the snapshots below, topmost first; it may wait for them. The archive is read
    once, or, if it deletes what it has just written over, a second time. Returns what it leaves
    of *limits*. Raises ImageError as apply_layer; *root* is then of no use.
    """
    try:
        with OverlayTree(root, lower, ordered=True) as tree:
            return _each_entry(layer, limits, partial(_change, tree))
    except OutOfOrderError:
        remove_content(root)
    with OverlayTree(root, lower, ordered=False) as tree:
        return apply_layer(layer, tree, limits, has_lower=True)


def _each_entry(
    layer: Layer, limits: Limits, action: Callable[[Parts, Entry, ArchiveReader], None]
) -> Limits:
    """Do *action* for each entry of a layer that proves to be what its diff_id says."""
    left = limits.entries
    entry: Entry | None = None
    try:
        with _room(layer), layer.store.open_blob(layer.blob) as blob:
            stream = LayerStream(
                _followed(layer, blob), diff_id=layer.diff_id, limit_bytes=limits.total_bytes
            )
            archive = ArchiveReader(stream)
            for entry in archive:
                left = _one_less(left)
                action(_parts(entry.name), entry, archive)
            entry = None
            stream.drain()
    except (RefusedError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{_where(layer, entry)}: {why}") from error
    except ImageError as error:
        message = f"{_where(layer, entry)}: {error.message}"
        raise ImageError(message, remedy=error.remedy) from error
    return Limits(total_bytes=limits.total_bytes - stream.seen_bytes, entries=left)


def _room(layer: Layer) -> AbstractContextManager[None]:
    """In which a full disk is told as such."""
    room = layer.following and layer.following.room
    return room.told() if room else nullcontext()


def _followed(layer: Layer, blob: Reader) -> Reader:
    source = blob if layer.stopped is None else _Stoppable(blob, layer.stopped)
    if layer.following is None:
        return source
    name = short_name(layer.blob)
    return layer.following.reader(source, name, layer.blob.size_bytes, "unpacking")


def _where(layer: Layer, entry: Entry | None) -> str:
    where = f"layer {layer.blob.digest}"
    return where if entry is None else f"{where}: {entry.name[:256]!r}"


def _one_less(entries: int) -> int:
    if entries == 0:
        raise ImageError("the image has too many entries")
    return entries - 1


def _change(tree: OverlayTree, parts: Parts, entry: Entry, archive: ArchiveReader) -> None:
    _delete(tree, parts, entry, archive)
    _write(tree, parts, entry, archive)


def _delete(tree: Tree, parts: Parts, _: Entry, __: ArchiveReader) -> None:
    if not _is_whiteout(parts):
        return
    if parts[-1] == OPAQUE_NAME:
        tree.clear(parts[:-1])
    elif not parts[-1].startswith(_RESERVED):
        tree.remove((*parts[:-1], parts[-1].removeprefix(WHITEOUT)))


def _is_whiteout(parts: Parts) -> bool:
    if any(part.startswith(WHITEOUT) for part in parts[:-1]):
        raise RefusedError("is in a directory named as a whiteout")
    if parts and parts[-1] in {WHITEOUT, WHITEOUT + b".", WHITEOUT + b".."}:
        raise RefusedError("is a whiteout of no name")
    return bool(parts) and parts[-1].startswith(WHITEOUT)


def _write(tree: Tree, parts: Parts, entry: Entry, archive: ArchiveReader) -> None:
    if _is_whiteout(parts):
        return
    attributes = _attributes(entry)
    if entry.kind is Kind.DIRECTORY:
        tree.directory(parts, attributes)
    elif not parts:
        raise RefusedError("would replace the root directory")
    elif entry.kind is Kind.FILE:
        _write_file(tree, parts, attributes, archive)
    elif entry.kind is Kind.HARD_LINK:
        tree.hard_link(parts, _hard_link_target(entry))
    elif entry.kind is Kind.SYMBOLIC_LINK:
        tree.symbolic_link(parts, _symbolic_link_target(entry), attributes)
    elif entry.kind is Kind.FIFO:
        tree.special(parts, stat.S_IFIFO, 0, attributes)
    else:
        tree.special(parts, _DEVICE_TYPES[entry.kind], _device(entry), attributes)


def _write_file(tree: Tree, parts: Parts, attributes: Attributes, archive: ArchiveReader) -> None:
    descriptor = tree.new_file(parts)
    try:
        size_bytes = written_bytes = 0
        for chunk in archive.chunks(CHUNK_BYTES):
            size_bytes += len(chunk)
            if chunk == _ZEROS:  # a hole; what follows is written where it belongs
                continue
            written_bytes = size_bytes
            _write_at(descriptor, chunk, size_bytes - len(chunk))
        if written_bytes < size_bytes:
            os.ftruncate(descriptor, size_bytes)
        tree.finish_file(descriptor, attributes)
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, chunk: bytes, offset_bytes: int) -> None:
    left = memoryview(chunk)
    while left:
        count = os.pwrite(descriptor, left, offset_bytes)
        left, offset_bytes = left[count:], offset_bytes + count


def _parts(name: bytes, subject: str = "is a name that") -> Parts:
    """The components of *name*, which must stay below the root."""
    if name.startswith(b"/"):
        raise RefusedError(f"{subject} is absolute")
    if b"\0" in name:
        raise RefusedError(f"{subject} has a NUL")
    if len(name) > MAX_PATH_BYTES:
        raise RefusedError(f"{subject} is longer than {MAX_PATH_BYTES} bytes")
    parts = tuple(part for part in name.split(b"/") if part not in {b"", b"."})
    if b".." in parts:
        raise RefusedError(f"{subject} leads upwards")
    return parts


def _hard_link_target(entry: Entry) -> Parts:
    target = _parts(entry.link, "is a hard link whose target")
    if not target:
        raise RefusedError("is a hard link to the root directory")
    return target


def _symbolic_link_target(entry: Entry) -> bytes:
    if not entry.link or b"\0" in entry.link or len(entry.link) >= MAX_PATH_BYTES:
        raise RefusedError("is a symbolic link to nothing that could be a path")
    return entry.link


def _device(entry: Entry) -> int:
    major, minor = entry.device
    if major >= 1 << 12 or minor >= 1 << 20:
        raise RefusedError(f"is a device with impossible numbers {entry.device}")
    return os.makedev(major, minor)


def _attributes(entry: Entry) -> Attributes:
    if entry.uid >= _NO_ID or entry.gid >= _NO_ID:
        raise RefusedError(f"has an impossible owner {entry.uid}:{entry.gid}")
    for name in entry.xattrs:
        if "\0" in name:
            raise RefusedError(f"has an impossible extended attribute {name!r}")
    return Attributes(
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        xattrs=entry.xattrs,
    )
