"""Reading files of an unpacked image without ever looking outside of its tree."""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from runtime.errors import ImageError
from runtime.image import stack

MAX_LINKS = 40
"""As the kernel's own limit, path_resolution(7)."""


def read_inside(rootfs: stack.Rootfs, path: str, *, limit_bytes: int) -> bytes | None:
    """The regular file *path* of *rootfs*, as a program chrooted to it would find it.

    None if there is none. Symbolic links are resolved by hand, component by component, from
    descriptors within the tree: the kernel would resolve them from the host's root. Raises
    ImageError if it is no regular file, is longer than *limit_bytes*, or leads in circles.
    """
    with ExitStack() as opened:
        try:
            found = _walk(rootfs, path, opened)
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise ImageError(f"{path} in the image is not a regular file")
            # An O_PATH descriptor is opened for reading through its own name in /proc.
            with Path(f"/proc/self/fd/{found}").open("rb") as file:
                data = file.read(limit_bytes + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImageError(f"cannot read {path} in the image: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise ImageError(f"{path} in the image is larger than {limit_bytes} bytes")
    return data


def _walk(rootfs: stack.Rootfs, path: str, opened: ExitStack) -> int:
    """An O_PATH descriptor of what *path* finally names; *opened* closes all that was opened."""
    trail = [opened.enter_context(stack.opened(rootfs))]
    waiting = path.split("/")[::-1]
    links = 0
    while waiting:
        name = waiting.pop()
        if name in {"", "."}:
            continue
        if name == "..":  # the root is its own parent
            del trail[max(1, len(trail) - 1) :]
            continue
        below = stack.lookup(trail[-1], name)
        opened.callback(stack.close, below)
        if not stat.S_ISLNK(os.fstat(below[0]).st_mode):
            trail.append(below)
            continue
        links += 1
        if links > MAX_LINKS:
            raise ImageError(f"{path} in the image leads through more than {MAX_LINKS} links")
        target = os.readlink("", dir_fd=below[0])
        if target.startswith("/"):
            del trail[1:]
        waiting += target.split("/")[::-1]
    return trail[-1][0]
