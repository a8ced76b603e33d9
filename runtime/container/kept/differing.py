"""What a container has changed of its image: read off its upper directory, nothing compared."""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.container.kept.kept import Kept
from runtime.image import Store, using_snapshots
from runtime.image.stack import close, is_opaque, is_whiteout, lookup, opened

Kind = Literal["A", "C", "D"]
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Change:
    """*kind* is added, changed or deleted; a directory counts as changed with what is in it."""

    kind: Kind
    path: str


def changes(kept: Kept) -> Iterator[Change]:
    """What *kept* has changed, in order of the paths. Raises OSError."""
    image = Store().resolve(kept.record.image)
    with using_snapshots(Store(), image) as layers, opened(layers.paths) as lower:
        upper = os.open(kept.directory / "upper", _DIRECTORY)
        try:
            yield from _below(upper, lower, "")
        finally:
            os.close(upper)


def _below(upper: int, lower: tuple[int, ...], path: str) -> Iterator[Change]:
    names = set(os.listdir(upper))
    hides = is_opaque(f"/proc/self/fd/{upper}")
    for name in sorted(names | (_names(lower) if hides else set())):
        with ExitStack() as undo:
            here = f"{path}/{name}"
            under: tuple[int, ...] = ()
            with suppress(FileNotFoundError, NotADirectoryError):
                under = lookup(lower, name)
                undo.callback(close, under)
            if name not in names:
                yield Change("D", here)
                continue
            status = os.stat(name, dir_fd=upper, follow_symlinks=False)
            if is_whiteout(status):
                yield Change("D", here)
                continue
            yield Change("C" if under else "A", here)
            if stat.S_ISDIR(status.st_mode):
                below = os.open(name, _DIRECTORY, dir_fd=upper)
                undo.callback(os.close, below)
                merges = under and stat.S_ISDIR(os.fstat(under[0]).st_mode)
                yield from _below(below, under if merges else (), here)


def _names(lower: tuple[int, ...]) -> set[str]:
    found: set[str] = set()
    for directory in lower:
        found |= {entry.name for entry in Path(f"/proc/self/fd/{directory}").iterdir()}
    return found
