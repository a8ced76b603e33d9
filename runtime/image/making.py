"""Unpacking the layers that are missing, two at once: inflating, hashing and writing hold no lock.

A layer is unpacked apart from those below it. Where it has to know what lies there, it waits for
them; they were begun earlier, so nobody waits in a circle.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from runtime.errors import ImageError
from runtime.image.durable import sync_file_system
from runtime.image.following import Following, short_name
from runtime.image.layer import Layer, Limits, write_overlay
from runtime.image.progress import Showing
from runtime.image.removal import remove_tree
from runtime.image.room import Room
from runtime.image.slots import (
    Slot,
    SlotMeta,
    clear_slot,
    complete_slot,
    layers_dir,
    read_slot,
    uncovered,
)
from runtime.image.store import Store
from runtime.image.unpacking import allocated_bytes

if TYPE_CHECKING:
    from concurrent.futures import Future

AT_ONCE = 2
"""Layers that are unpacked at the same time."""


def make_snapshots(
    store: Store,
    slots: Sequence[Slot],
    missing: Sequence[Slot],
    limits: Limits | None,
    showing: Showing,
) -> None:
    """Unpack what is *missing* of *slots*, lowest first: all of it, or nothing is left.

    The caller has locked them. *limits* count for all layers together. Raises ImageError.
    """
    room = Room(path=layers_dir(), what="the unpacked image")
    with room.told(), showing() as watcher, ExitStack() as undo:
        following = Following(room=room, watcher=watcher)
        blobs = [slot.blob for slot in missing if slot.blob is not None]
        for blob in blobs:
            following.expect(short_name(blob), blob.size_bytes)
        following.require()  # it never unpacks to less
        for slot in missing:
            clear_slot(slot.path)
            undo.callback(remove_tree, slot.path)
        present = [read_slot(slot.path, slot.chain_id) for slot in slots if slot not in missing]
        known = [meta for meta in present if meta is not None]
        work = _Work(store, slots, limits or Limits(), known, following)
        made = work.unpack(missing)
        work.check()
        # A name may reach the disk before what it names; and nobody has to wait for it.
        sync_file_system(slots[0].path)
        for slot, meta in zip(missing, made, strict=True):
            complete_slot(slot.path, slot.chain_id, meta)
        undo.pop_all()


class _Work:
    """Unpacking some of *slots*, which may use what *done* leaves of *limits*."""

    def __init__(
        self,
        store: Store,
        slots: Sequence[Slot],
        limits: Limits,
        done: list[SlotMeta],
        following: Following,
    ) -> None:
        self._store = store
        self._slots = slots
        self._limits = limits
        self._done = done
        self._following = following
        self._waited: dict[Path, Future[SlotMeta]] = {}
        self._stopped = Event()

    def unpack(self, missing: Sequence[Slot]) -> list[SlotMeta]:
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

    def _unpack_one(self, slot: Slot) -> SlotMeta:
        tree = slot.path / "tree"
        tree.mkdir()
        tree.chmod(0o755)  # what the root directory is if no layer says
        os.utime(tree, ns=(0, 0))
        limits = left = self._left()
        started_ns = time.monotonic_ns()
        if slot.blob is not None:
            layer = Layer(
                store=self._store,
                blob=slot.blob,
                diff_id=slot.diff_id,
                stopped=self._stopped,
                following=self._following,
            )
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

    def _lower(self, slot: Slot) -> tuple[Path, ...]:
        """The trees under *slot*. They are waited for: all of them were begun earlier."""
        below = self._slots[: self._slots.index(slot)]
        for each in below:
            if each.path in self._waited:
                self._waited[each.path].result()
        return uncovered(below)
