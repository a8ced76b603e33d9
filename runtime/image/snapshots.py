"""From an image to the directories that overlayfs lays over each other: each layer unpacked once.

A snapshot is a layer in overlayfs's own form, shared by all images that have it on the same
layers. Two are unpacked at once: inflating, hashing and writing do not hold the interpreter.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import ImageError, Unsupported
from runtime.image.changes import LayerMade, normalise
from runtime.image.durable import locked_directory, sync_file_system
from runtime.image.home import cache_dir
from runtime.image.layer import Layer, Limits, write_overlay
from runtime.image.manifest import Image
from runtime.image.removal import remove_tree
from runtime.image.slots import (
    SlotMeta,
    chain_ids,
    clear_slot,
    complete_slot,
    layers_dir,
    read_slot,
    slot_of,
)
from runtime.image.stack import is_opaque
from runtime.image.store import Store
from runtime.image.unpacking import allocated_bytes

if TYPE_CHECKING:
    from concurrent.futures import Future

AT_ONCE = 2
"""Layers that are unpacked at the same time."""

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
    store: Store, image: Image, *, limits: Limits | None = None
) -> Iterator[Snapshots]:
    """The snapshots of *image*, made where they are missing; nobody removes them in the block.

    Processes that ask at the same time wait for the first. Raises ImageError, and Unsupported
    for who is not root.
    """
    if os.geteuid() != 0:
        raise Unsupported(
            "only root can keep layers as overlayfs takes them",
            remedy="run isoscope as root, or use --on vm",
        )
    slots = _slots(store, image)
    with ExitStack() as held:
        with _told():
            cached = _hold(slots, limits or Limits(), held)
            found = _describe(slots, cached=cached)
        yield found


def keep_snapshot(tree: Path, diff_ids: Sequence[str], made: LayerMade) -> Path:
    """Let *tree*, the upper directory that *made* was written from, be its snapshot.

    *diff_ids* are those of all layers of the new image, lowest first, so the last is that of
    *made*. Nothing may be mounted on *tree* any more; it must lie in the state directory, and is
    moved away, unless there is such a snapshot already. Returns the snapshot. Raises ImageError.
    """
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """One layer's place; ``layer`` is None where there is nothing to unpack."""

    path: Path
    chain_id: str
    layer: Layer | None


def _slots(store: Store, image: Image) -> tuple[_Slot, ...]:
    """The places for the layers of *image*, lowest first; without layers one empty place."""
    diff_ids = image.config.diff_ids
    return tuple(
        _Slot(
            path=slot_of(chain_id),
            chain_id=chain_id,
            layer=Layer(store=store, blob=blob, diff_id=diff_id),
        )
        for chain_id, blob, diff_id in zip(
            chain_ids(diff_ids), image.manifest.layers, diff_ids, strict=True
        )
    ) or (_Slot(path=slot_of(_EMPTY), chain_id=_EMPTY, layer=None),)


def _hold(slots: Sequence[_Slot], limits: Limits, held: ExitStack) -> bool:
    """Leave shared locks on complete slots in *held*; whether all were complete before.

    Locks are taken from the lowest layer up, by everybody, so nobody waits in a circle.
    """
    cache_dir("layers")
    cached = True
    while missing := [slot for slot in slots if not _is_complete(slot, held)]:
        cached = False
        _make(slots, missing, limits)
        held.close()
    return cached


def _is_complete(slot: _Slot, held: ExitStack) -> bool:
    """Lock *slot*: shared if it is complete, else for us alone."""
    while True:
        for shared in (True, False):
            with ExitStack() as lock:
                lock.enter_context(locked_directory(slot.path, shared=shared))
                is_complete = read_slot(slot.path, slot.chain_id) is not None
                if is_complete == shared:
                    held.push(lock.pop_all())
                    return is_complete


def _make(slots: Sequence[_Slot], missing: Sequence[_Slot], limits: Limits) -> None:
    """Unpack what is *missing*: all of it, or nothing is left."""
    with ExitStack() as undo:
        for slot in missing:
            clear_slot(slot.path)
            undo.callback(remove_tree, slot.path)
        present = [read_slot(slot.path, slot.chain_id) for slot in slots if slot not in missing]
        work = _Work(slots, limits, [meta for meta in present if meta is not None])
        made = work.unpack(missing)
        work.check()
        # A name may reach the disk before what it names; and nobody has to wait for it.
        sync_file_system(slots[0].path)
        for slot, meta in zip(missing, made, strict=True):
            complete_slot(slot.path, slot.chain_id, meta)
        undo.pop_all()


class _Work:
    """Unpacking some of *slots*, which may use what *done* leaves of *limits*."""

    def __init__(self, slots: Sequence[_Slot], limits: Limits, done: list[SlotMeta]) -> None:
        self._slots = slots
        self._limits = limits
        self._done = done
        self._waited: dict[Path, Future[SlotMeta]] = {}
        self._stopped = threading.Event()

    def unpack(self, missing: Sequence[_Slot]) -> list[SlotMeta]:
        """Unpack *missing*, lowest first. Raises what the lowest that fails raises."""
        if len(missing) == 1:
            return [self._unpack_one(missing[0])]
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - imports logging

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for slot in missing:
                    self._waited[slot.path] = pool.submit(self._unpack_one, slot)
                return [future.result() for future in self._waited.values()]
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)

    def check(self) -> None:
        """Raise ImageError if all layers together are more than the limits allow."""
        left = self._left()
        if left.total_bytes < 0:
            raise ImageError(f"the image unpacks to more than {self._limits.total_bytes} bytes")
        if left.entries < 0:
            raise ImageError("the image has too many entries")

    def _unpack_one(self, slot: _Slot) -> SlotMeta:
        tree = slot.path / "tree"
        tree.mkdir()
        tree.chmod(0o755)  # what the root directory is if no layer says
        os.utime(tree, ns=(0, 0))
        limits = left = self._left()
        started_ns = time.monotonic_ns()
        if slot.layer is not None:
            layer = replace(slot.layer, stopped=self._stopped)
            left = write_overlay(layer, tree, limits, partial(self._lower, slot))
        made = SlotMeta(
            duration_ns=time.monotonic_ns() - started_ns,
            disk_bytes=allocated_bytes(tree),
            tar_bytes=limits.total_bytes - left.total_bytes,
            entries=limits.entries - left.entries,
        )
        self._done.append(made)
        return made

    def _left(self) -> Limits:
        return Limits(
            total_bytes=self._limits.total_bytes - sum(meta.tar_bytes for meta in self._done),
            entries=self._limits.entries - sum(meta.entries for meta in self._done),
        )

    def _lower(self, slot: _Slot) -> tuple[Path, ...]:
        """The trees under *slot*. They are waited for: all of them were begun earlier."""
        below = self._slots[: self._slots.index(slot)]
        for each in below:
            if each.path in self._waited:
                self._waited[each.path].result()
        return _uncovered(below)


def _uncovered(slots: Sequence[_Slot]) -> tuple[Path, ...]:
    """The trees of *slots*, topmost first, down to one that hides all below.

    To overlayfs the roots always merge, so it would not see that by itself.
    """
    trees = []
    for slot in reversed(slots):
        trees.append(slot.path / "tree")
        if is_opaque(trees[-1]):
            break
    return tuple(trees)


def _describe(slots: Sequence[_Slot], *, cached: bool) -> Snapshots:
    known = [read_slot(slot.path, slot.chain_id) for slot in slots]
    return Snapshots(
        paths=_uncovered(slots),
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
