"""From an image to the directories that overlayfs lays over each other: each layer unpacked once.

A snapshot is a layer in overlayfs's own form, shared by all images that have it on the same
layers. Most starts find all of them, so what unpacks is imported when something is missing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import ImageError, Unsupported
from runtime.image.durable import locked_directory, sync_file_system
from runtime.image.home import cache_dir
from runtime.image.manifest import Image
from runtime.image.progress import Showing, nobody
from runtime.image.slots import (
    Slot,
    SlotMeta,
    chain_ids,
    clear_slot,
    complete_slot,
    layers_dir,
    read_slot,
    slot_of,
    uncovered,
)
from runtime.image.store import Store

if TYPE_CHECKING:
    from runtime.image.changes import LayerMade
    from runtime.image.layer import Limits

_EMPTY = "sha256:" + "0" * 64  # hashes nothing: the place of the tree of an image without layers


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """The snapshots of an image, topmost first, as ``lowerdir=`` takes them.

    ``duration_ns`` adds up what unpacking each layer took when it was done, ``cached`` says that
    all was done earlier, ``disk_bytes`` is what they occupy, shared with other images or not.
    """

    paths: tuple[Path, ...]
    duration_ns: int
    disk_bytes: int
    cached: bool


def snapshots(store: Store, image: Image) -> tuple[Path, ...]:
    """The directories that make the tree of *image*, topmost first. Raises ImageError.

    Where the image is removed meanwhile they may go: see ``using_snapshots``.
    """
    with using_snapshots(store, image) as stack:
        return stack.paths


@contextmanager
def using_snapshots(
    store: Store, image: Image, *, limits: "Limits | None" = None, showing: Showing = nobody
) -> Iterator[Snapshots]:
    """The snapshots of *image*, made where they are missing; nobody removes them in the block.

    Processes that ask at the same time wait for the first. *showing* gives who watches what is
    made. Raises ImageError, and Unsupported
    for who is not root.
    """
    if os.geteuid() != 0:
        raise Unsupported(
            "only root can keep layers as overlayfs takes them",
            remedy="run isoscope as root, or use --on vm",
        )
    slots = _slots(image)
    with ExitStack() as held:
        with _told():
            cached = _hold(store, slots, limits, held, showing)
            found = _describe(slots, cached=cached)
        yield found


def keep_snapshot(tree: Path, diff_ids: Sequence[str], made: "LayerMade") -> Path:
    """Let *tree*, the upper directory that *made* was written from, be its snapshot.

    *diff_ids* are those of all layers of the new image, lowest first, so the last is that of
    *made*. Nothing may be mounted on *tree* any more; it must lie in the state directory, and is
    moved away, unless there is such a snapshot already. Returns the snapshot. Raises ImageError.
    """
    from runtime.image.changes import normalise  # noqa: PLC0415 - who keeps one has written it
    from runtime.image.unpacking import allocated_bytes  # noqa: PLC0415

    chain_id = chain_ids(diff_ids)[-1]
    slot = slot_of(chain_id)
    cache_dir("layers")
    with _told(), locked_directory(slot):
        if read_slot(slot, chain_id) is None:
            clear_slot(slot)
            normalise(tree, made.times)
            tree.rename(slot / "tree")
            sync_file_system(slot)
            meta = SlotMeta(
                duration_ns=0,
                disk_bytes=allocated_bytes(slot / "tree"),
                tar_bytes=made.tar_bytes,
                entries=made.entries,
            )
            complete_slot(slot, chain_id, meta)
    return slot / "tree"


def _slots(image: Image) -> tuple[Slot, ...]:
    """The places for the layers of *image*, lowest first; without layers one empty place."""
    diff_ids = image.config.diff_ids
    return tuple(
        Slot(path=slot_of(chain_id), chain_id=chain_id, blob=blob, diff_id=diff_id)
        for chain_id, blob, diff_id in zip(
            chain_ids(diff_ids), image.manifest.layers, diff_ids, strict=True
        )
    ) or (Slot(path=slot_of(_EMPTY), chain_id=_EMPTY, blob=None, diff_id=""),)


def _hold(
    store: Store,
    slots: Sequence[Slot],
    limits: "Limits | None",
    held: ExitStack,
    showing: Showing,
) -> bool:
    """Leave shared locks on complete slots in *held*; whether all were complete before.

    Locks are taken from the lowest layer up, by everybody, so nobody waits in a circle.
    """
    cache_dir("layers")
    cached = True
    while missing := [slot for slot in slots if not _is_complete(slot, held)]:
        from runtime.image.making import make_snapshots  # noqa: PLC0415 - seldom needed

        cached = False
        make_snapshots(store, slots, missing, limits, showing)
        held.close()
    return cached


def _is_complete(slot: Slot, held: ExitStack) -> bool:
    """Lock *slot*: shared if it is complete, else for us alone."""
    while True:
        for shared in (True, False):
            with ExitStack() as lock:
                lock.enter_context(locked_directory(slot.path, shared=shared))
                is_complete = read_slot(slot.path, slot.chain_id) is not None
                if is_complete == shared:
                    held.push(lock.pop_all())
                    return is_complete


def _describe(slots: Sequence[Slot], *, cached: bool) -> Snapshots:
    known = [read_slot(slot.path, slot.chain_id) for slot in slots]
    return Snapshots(
        paths=uncovered(slots),
        duration_ns=sum(meta.duration_ns for meta in known if meta),
        disk_bytes=sum(meta.disk_bytes for meta in known if meta),
        cached=cached,
    )


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the disk refuses into an ImageError that says where and what helps."""
    try:
        yield
    except OSError as error:
        where = error.filename or layers_dir()
        raise ImageError(
            f"cannot keep unpacked layers: {where}: {error.strerror}",
            remedy="set ISOSCOPE_HOME to a directory of yours with room in it",
        ) from error
