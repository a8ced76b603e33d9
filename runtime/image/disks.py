"""Disks of virtual machines, made of images: where they are, what they occupy, which must go.

``vm/disks/HEX/`` with ``disk.ext4`` is made by ``vmbackend.disk``, once an image; its time says
when it was used last. A disk goes with its image, and the least recently used go when all together
are larger than a limit. QEMU locks a disk as long as a machine has it (locking in its file driver:
open file description locks, fcntl(2)), and what is locked stays.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.image.durable import locked_if_free
from runtime.image.home import state_dir
from runtime.image.removal import remove_tree

LIMIT = "ISOSCOPE_VM_DISKS"
"""The variable of the environment that says what all disks together may occupy."""

LIMIT_BYTES = 20 << 30

_FRESH_NS = 60 * 10**9
"""Who asked for a disk this recently may be about to start a machine on it."""

_FLOCK = struct.Struct("hhqqi4x")  # struct flock, 64-bit


def disk_slot(digest: str) -> Path:
    """The directory for the disk of the image *digest*; it may not exist."""
    return state_dir() / "vm" / "disks" / digest.removeprefix("sha256:")[:32]


def disk_bytes(digest: str) -> dict[str, int]:
    """What the disk of the image *digest* occupies, by the name of its slot; empty without one."""
    slot = disk_slot(digest)
    occupied_bytes = _occupied_bytes(slot)
    return {slot.name: occupied_bytes} if occupied_bytes else {}


def disks_bytes() -> int:
    """What all disks occupy, those of images that are gone too."""
    return sum(_occupied_bytes(slot) for slot in _slots())


def disks_limit_bytes() -> int:
    """What all disks together may occupy. Raises ImageError."""
    from runtime.image.limits import limit_bytes  # noqa: PLC0415 - argparse

    return limit_bytes(LIMIT, LIMIT_BYTES)


def remove_disk(digest: str) -> bool:
    """Delete the disk of the image *digest*, unless a machine has it; whether it is gone now."""
    slot = disk_slot(digest)
    return not slot.is_dir() or _removed(slot)


def shrink_disks(keep: Path | None = None) -> tuple[str, ...]:
    """Delete disks, least recently used first, until the rest is within the limit; their names.

    Those that machines have stay, those asked for in the last minute, and *keep*.
    """
    known = {slot: _occupied_bytes(slot) for slot in _slots()}
    excess_bytes = sum(known.values()) - disks_limit_bytes()
    gone = []
    newest_ns = time.time_ns() - _FRESH_NS
    for slot in sorted(known, key=_used_ns):
        if excess_bytes <= 0 or _used_ns(slot) > newest_ns:
            break
        if slot.name != (keep and keep.name) and _removed(slot):
            excess_bytes -= known[slot]
            gone.append(slot.name)
    return tuple(gone)


def _slots() -> Iterator[Path]:
    return (state_dir() / "vm" / "disks").glob("[!.]*")


def _removed(slot: Path) -> bool:
    """Delete *slot* if nobody makes or has it; the lock is that of who makes one."""
    with locked_if_free(slot.with_name(f".{slot.name}.lock")) as alone:
        if not alone or _has_machine(slot / "disk.ext4"):
            return False
        doomed = slot.with_name(f".{slot.name}.making-gone")  # what a kill leaves is swept there
        remove_tree(doomed)
        try:
            slot.rename(doomed)
        except FileNotFoundError:
            return True
        remove_tree(doomed)
        return True


def _has_machine(disk: Path) -> bool:
    """Whether a process has locked *disk*: any lock conflicts with one for writing."""
    try:
        descriptor = os.open(disk, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        wish = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wish)
        return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _occupied_bytes(slot: Path) -> int:
    try:
        return (slot / "disk.ext4").lstat().st_blocks * 512
    except OSError:
        return 0


def _used_ns(slot: Path) -> int:
    try:
        return slot.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
