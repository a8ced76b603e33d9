"""Where images are made of packages: one directory, for one maker at a time, else empty."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.image.durable import locked, locked_if_free
from runtime.image.home import cache_dir, state_dir
from runtime.image.removal import remove_tree

_FOLDER = "bootstrap"


@contextmanager
def workplace(say: Callable[[str], None]) -> Iterator[Path]:
    """The directory, which is gone after the block; *say* is told if another has to end first."""
    folder = cache_dir(_FOLDER)
    with locked_if_free(folder / "lock") as free:
        if free:
            with _emptied(folder / "work"):
                yield folder / "work"
            return
    say("waiting for another bootstrap to end")
    with locked(folder / "lock"), _emptied(folder / "work"):
        yield folder / "work"


def sweep() -> tuple[str, ...]:
    """Delete what a maker left that was killed; what it was. Costs one look where nothing is."""
    folder = state_dir() / _FOLDER
    if not (folder / "work").exists():
        return ()
    with locked_if_free(folder / "lock") as free:
        if free:
            remove_tree(folder / "work")
    return ("unfinished bootstrap of an image",) if free else ()


@contextmanager
def _emptied(directory: Path) -> Iterator[None]:
    remove_tree(directory)  # of one that was killed
    directory.mkdir(mode=0o700)
    try:
        yield
    finally:
        remove_tree(directory)
