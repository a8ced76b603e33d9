"""How large the build cache may become: what was used least recently goes first.

What is counted is what would be given back: a layer that an image of the store has as well costs
nothing here. A layer goes with the steps that are found by it, a cache mount goes whole.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.build.cache import Cache, Made, disk_bytes, record
from runtime.errors import ImageError
from runtime.image import Store
from runtime.image.durable import locked_if_free
from runtime.image.limits import limit_bytes
from runtime.image.removal import remove_tree

LIMIT = "ISOSCOPE_BUILD_CACHE"
"""The variable of the environment that says what the build cache may occupy."""

LIMIT_BYTES = 20 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What goes at once: a layer with its steps, or a cache mount."""

    used_ns: int
    occupied_bytes: int
    paths: tuple[Path, ...]


def cache_limit_bytes() -> int:
    """What the build cache may occupy. Raises ImageError."""
    return limit_bytes(LIMIT, LIMIT_BYTES)


def cache_bytes(store: Store) -> int:
    """What emptying the build cache would give back."""
    root = Cache(store).root
    return disk_bytes(root) if root.is_dir() else 0


def shrink(store: Store) -> int:
    """Delete from the build cache until it is within its limit; the bytes that were given back.

    Nothing is done while a build runs: it does this itself when it ends. Raises ImageError.
    """
    root = Cache(store).root
    if not root.is_dir():
        return 0
    with locked_if_free(root / "lock") as alone:
        if not alone:
            return 0
        excess_bytes = before_bytes = disk_bytes(root) - cache_limit_bytes()
        if excess_bytes <= 0:
            return 0
        for part in sorted(_parts(root), key=lambda part: part.used_ns):
            if excess_bytes <= 0:
                break
            for path in part.paths:
                remove_tree(path)
            excess_bytes -= part.occupied_bytes
    return before_bytes - excess_bytes


def _parts(root: Path) -> Iterator[_Part]:
    steps: dict[str, list[Path]] = defaultdict(list)
    for path in root.glob("steps/*.json"):
        steps[_layer_of(path)].append(path)
    for path in root.glob("layers/*"):
        finders = steps.pop(path.name, [])
        yield _Part(
            used_ns=max((_used_ns(finder) for finder in finders), default=0),
            occupied_bytes=sum(_freed_bytes(each) for each in (*finders, path)),
            paths=(*finders, path),  # the steps first: a step without its layer is not found
        )
    for path in root.glob("mounts/*"):
        occupied_bytes = disk_bytes(path)
        yield _Part(used_ns=_used_ns(path), occupied_bytes=occupied_bytes, paths=(path,))


def _layer_of(path: Path) -> str:
    """The name of the layer that the step in *path* made; empty if it made none."""
    try:
        made = Made.from_node(record(path))
    except (OSError, ImageError):
        return ""
    return "" if made.layer is None else made.layer.blob.digest.removeprefix("sha256:")


def _freed_bytes(path: Path) -> int:
    """What deleting the file *path* gives back: nothing while it has another name."""
    status = path.lstat()
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _used_ns(path: Path) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
