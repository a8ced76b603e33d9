"""Deleting a tree that hostile programs may have filled: any depth, two descriptors, no links."""

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


def remove_tree(path: Path) -> None:
    """Delete *path* and everything below it; what is not there is no error.

    Nothing outside is touched: each name is used relative to an open directory and no symbolic
    link is followed. Subdirectories are first moved up to the top, so that neither recursion nor
    the length of a path limits the depth. Raises OSError.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        remove_name(parent, path.name)
    finally:
        os.close(parent)


def remove_content(path: Path) -> None:
    """As remove_tree, for what is in the directory *path*, which stays."""
    directory = os.open(path, _DIRECTORY)
    try:
        for name in os.listdir(directory):  # noqa: PTH208 - of a descriptor
            remove_name(directory, name)
    finally:
        os.close(directory)


def remove_name(parent: int, name: str | bytes) -> None:
    """As remove_tree, for the entry *name* of the open directory *parent*."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        _empty(parent, name)
        os.rmdir(name, dir_fd=parent)


def _empty(parent: int, name: str | bytes) -> None:
    _make_writable(parent, name)
    top = os.open(name, _DIRECTORY, dir_fd=parent)
    free_names = (f".removed-{number}" for number in count())
    try:
        while subdirectories := _unlink_files(top):
            for subdirectory in subdirectories:
                if not _is_removed(top, subdirectory):
                    _lift_children(top, subdirectory, free_names)
                    os.rmdir(subdirectory, dir_fd=top)
    finally:
        os.close(top)


def _lift_children(top: int, name: str, free_names: Iterator[str]) -> None:
    """Empty the directory *name* of *top*: its files go, its directories move up to *top*."""
    _make_writable(top, name)
    directory = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        for child in _unlink_files(directory):
            if _is_removed(directory, child):
                continue
            _make_writable(directory, child)  # moving a directory rewrites its ".."
            _lift(directory, child, top, free_names)
    finally:
        os.close(directory)


def _lift(source: int, name: str, top: int, free_names: Iterator[str]) -> None:
    for target in free_names:  # the tree may hold such names itself: then the next one
        try:
            os.rename(name, target, src_dir_fd=source, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return


def _is_removed(parent: int, name: str) -> bool:
    """Remove the directory *name* if it is empty, as most are: then it need not be looked into."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _unlink_files(directory: int) -> list[str]:
    """Unlink all that is no directory in *directory*; the names of the directories."""
    with os.scandir(directory) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in names if is_directory]


def _make_writable(parent: int, name: str | bytes) -> None:
    """Who is not root needs the right to list and change a directory in order to empty it."""
    if os.geteuid() != 0:
        os.chmod(name, 0o700, dir_fd=parent)  # the caller knows that it is a directory
