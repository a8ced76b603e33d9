"""What a container makes in the image only to mount on it, and how that is taken out again.

A RUN sees /proc, a resolv.conf, its mounts. Where the image has nothing of that name, an empty
directory or file has to be made first; it is no change that the command made, so the layer must
not have it.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from runtime.build.rootfs import Rootfs
from runtime.errors import BuildError
from runtime.image.stack import is_opaque
from runtime.image.tree import attributes_of

_KERNEL = ("/proc", "/dev", "/sys")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def stubs(view: Path, targets: Iterable[str]) -> tuple[str, ...]:
    """The real paths that mounting on *targets* will make in *view*, parents first."""
    missing: dict[str, None] = {}
    with Rootfs(view) as rootfs:
        for target in (*_KERNEL, *targets):
            here, above = rootfs.real(target), []
            while here and rootfs.status(here) is None:
                above.append(here)
                here = here.rpartition("/")[0]
            missing.update(dict.fromkeys(reversed(above)))
    return tuple(missing)


def remove_stubs(made: Iterable[str], upper: Path, view: Path) -> None:
    """Remove those of *made* from *upper* in which nothing was put.

    So are the directories that overlayfs copied up for them, if they look as they do in *view*.
    """
    with Rootfs(upper) as rootfs:
        for real in reversed(tuple(made)):
            _remove(rootfs, real)
            above = real.rpartition("/")[0]
            while above and above not in made and _is_plain_copy(upper, view, above):
                _remove(rootfs, above)
                above = above.rpartition("/")[0]


def _remove(rootfs: Rootfs, real: str) -> None:
    status = rootfs.status(real)
    if status is None:
        return
    parent, name = rootfs.at(real)
    with suppress(OSError):  # somebody put something into it, so it stays
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif stat.S_ISREG(status.st_mode) and status.st_size == 0:
            os.unlink(name, dir_fd=parent)


def _is_plain_copy(upper: Path, view: Path, real: str) -> bool:
    """Whether the directory *real* is empty in *upper* and in nothing else than it was."""
    try:
        with Rootfs(upper) as top, Rootfs(view) as whole:
            own, before = top.open(real, _DIRECTORY), whole.open(real, _DIRECTORY)
    except BuildError:
        return False
    try:
        if os.listdir(own) or is_opaque(own):  # noqa: PTH208 - of a descriptor
            return False
        mine, theirs = attributes_of(own), attributes_of(before)
        return (mine.mode, mine.uid, mine.gid, dict(mine.xattrs)) == (
            theirs.mode, theirs.uid, theirs.gid, dict(theirs.xattrs),
        )  # fmt: skip
    finally:
        os.close(own)
        os.close(before)
