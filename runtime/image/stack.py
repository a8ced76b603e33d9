"""Directories laid over each other, read as overlayfs shows them: topmost first, no link followed.

A name is looked for from the top down. What is found first counts; only directories go on below
and merge with what lies there, until one is opaque. A whiteout, a character device 0:0, hides
what is below it. Source: the kernel's Documentation/filesystems/overlayfs.rst.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from runtime.user_namespace import owned_ids


@cache
def opaque_name() -> str:
    """The extended attribute of an opaque directory: ``user.`` for the root of a namespace.

    Source: Documentation/filesystems/overlayfs.rst, userxattr.
    """
    return f"{'trusted' if owned_ids() is None else 'user'}.overlay.opaque"


Rootfs = Path | tuple[Path, ...]
"""A tree of files: one directory, or several that make it together, topmost first."""


def is_whiteout(status: os.stat_result) -> bool:
    """Whether *status* is that of a file that hides its name in the layers below."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: Path | str | int) -> bool:
    """Whether *directory* hides what the layers below have in it."""
    with suppress(OSError):
        return os.getxattr(directory, opaque_name()) == b"y"
    return False


@contextmanager
def opened(rootfs: Rootfs) -> Iterator[tuple[int, ...]]:
    """Descriptors of the root directory, to give to ``lookup``. Raises OSError."""
    roots = rootfs if isinstance(rootfs, tuple) else (rootfs,)
    descriptors: list[int] = []
    try:
        for root in roots:  # one by one: what is open is closed if the next cannot be opened
            descriptors += [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        yield tuple(descriptors)
    finally:
        close(descriptors)


def lookup(directory: Sequence[int], name: str | bytes) -> tuple[int, ...]:
    """What *name* is in *directory*: O_PATH descriptors, which the caller closes.

    One, of a file, a link or a device; of a directory as many as merge there. Raises OSError,
    FileNotFoundError where nothing has that name.
    """
    found: list[int] = []
    try:
        for number, layer in enumerate(directory, start=1):
            try:
                descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=layer)
            except FileNotFoundError:
                continue
            found.append(descriptor)
            status = os.fstat(descriptor)
            is_directory = stat.S_ISDIR(status.st_mode)
            if is_whiteout(status) or (len(found) > 1 and not is_directory):
                os.close(found.pop())
                break
            if not is_directory or number == len(directory):
                break
            if is_opaque(f"/proc/self/fd/{descriptor}"):
                break
    except BaseException:
        close(found)
        raise
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    return tuple(found)


def close(descriptors: Sequence[int]) -> None:
    """Close what ``lookup`` has opened."""
    for descriptor in descriptors:
        os.close(descriptor)
