"""Artefacts that are made once and kept: made in a temporary place, published by one rename.

Everything is under ``cache_dir("vm")`` and named by what it was made from, so nothing is ever
stale; removing the directory only costs the time to make it again.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.image import cache_dir


def vm_cache(*parts: str) -> Path:
    """The path of an artefact, without links: QEMU's account must be able to walk it.

    Its parent directory exists.
    """
    path = cache_dir("vm").resolve().joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def made_once(target: Path, make: Callable[[Path], None]) -> bool:
    """Make *target* unless it is there; True if it had to be made now.

    *make* is given a path that does not exist, beside the target, and leaves a file or a directory
    there. Of several processes one makes it and the others wait.
    """
    if target.exists():
        return False
    with locked(target):
        if target.exists():
            return False
        _remove_abandoned(target)
        with _scratch(target) as scratch:
            make(scratch / target.name)
            _sync_tree(scratch / target.name)
            (scratch / target.name).rename(target)
    _sync(target.parent)
    return True


def publish_bytes(target: Path, content: bytes) -> None:
    """Replace *target* by *content* in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(target) as scratch:
        draft = scratch / target.name
        draft.write_bytes(content)
        _sync(draft)
        draft.replace(target)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock that belongs to *target*; the kernel releases it if we die (flock(2))."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=f".{target.name}.making-", dir=target.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """What a maker that was killed left; whoever holds the lock is the only maker."""
    for scratch in target.parent.glob(f".{target.name}.making-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _sync_tree(path: Path) -> None:
    for entry in [path, *path.rglob("*")]:
        if not entry.is_symlink() and (entry.is_file() or entry.is_dir()):
            _sync(entry)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
