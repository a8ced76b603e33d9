"""What is shown inside beside the image: files and directories from outside (pure).

The source is opened as a detached mount while the host's files are still there, and attached
when only the container's are: so neither end can be led astray by a link of the image. Sources:
open_tree(2), move_mount(2), mount_setattr(2).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from errno import EEXIST

from runtime import syscalls
from runtime.container.spec import Bind
from runtime.container.steps import Slot, Step

_HERE = -100  # AT_FDCWD
_EXISTS = frozenset({EEXIST})
_SAFE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV


def plan_sources(binds: Sequence[Bind]) -> Iterator[Step]:
    """Steps, before the root is changed, that hold each source as a mount nobody sees yet."""
    for number, bind in enumerate(binds):
        name = f"bind{number}"
        flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE
        yield Step("open_tree", (_HERE, bind.source, flags), f"for {bind.target}", opens=name)
        attributes = _SAFE | (syscalls.MOUNT_ATTR_RDONLY if bind.read_only else 0)
        how = "read-only" if bind.read_only else "writable"
        yield Step("mount_setattr", (Slot(name), attributes), f"{how}, no set-uid, no devices")


def plan_targets(binds: Sequence[Bind]) -> Iterator[Step]:
    """Steps, in the new root, that make each target where it is missing and attach its source."""
    for number, bind in enumerate(binds):
        name = f"bind{number}"
        yield from _plan_place(bind)
        yield Step(
            "openat2",
            (_HERE, bind.target, os.O_PATH | os.O_CLOEXEC, syscalls.RESOLVE_NO_MAGICLINKS),
            "where it goes",
            opens="place",
        )
        yield Step("move_mount", (Slot(name), Slot("place")), f"{bind.target} from outside")
        yield Step("close", (Slot("place"),), "nothing stays open")
        yield Step("close", (Slot(name),), "nothing stays open")


def _plan_place(bind: Bind) -> Iterator[Step]:
    parts = [part for part in bind.target.split("/") if part]
    above = parts if bind.directory else parts[:-1]
    for depth in range(1, len(above) + 1):
        path = "/" + "/".join(above[:depth])
        yield Step("mkdir", (path, 0o755), "the way to it exists", allow=_EXISTS)
    if not bind.directory:
        regular = stat.S_IFREG | 0o644
        yield Step("mknod", (bind.target, regular, 0), "something to lay it over", allow=_EXISTS)
