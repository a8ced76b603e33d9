"""The file systems of a bundle as steps: its root, its mounts, devices, what is hidden (pure).

What comes from the host is taken hold of while it can be seen (open_tree(2)). Everything is
mounted after pivot_root, on places that openat2(2) resolves inside the container, so that no link
of the image leads out.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EBADF, EEXIST, ENOENT, ENOTDIR

from runtime import syscalls
from runtime.container.steps import Slot, Step
from runtime.errors import SpecError
from runtime.oci.config import Config, Device, Mount
from runtime.oci.groups import Hierarchy, own_place

_FLAGS: dict[str, tuple[int, int]] = {
    "ro": (syscalls.MS_RDONLY, 1), "nosuid": (syscalls.MS_NOSUID, 1),
    "nodev": (syscalls.MS_NODEV, 1), "noexec": (syscalls.MS_NOEXEC, 1),
    "sync": (syscalls.MS_SYNCHRONOUS, 1), "dirsync": (syscalls.MS_DIRSYNC, 1),
    "mand": (syscalls.MS_MANDLOCK, 1), "noatime": (syscalls.MS_NOATIME, 1),
    "nodiratime": (syscalls.MS_NODIRATIME, 1), "relatime": (syscalls.MS_RELATIME, 1),
    "strictatime": (syscalls.MS_STRICTATIME, 1), "bind": (syscalls.MS_BIND, 1),
    "rbind": (syscalls.MS_BIND | syscalls.MS_REC, 1), "remount": (syscalls.MS_REMOUNT, 1),
    "rw": (syscalls.MS_RDONLY, 0), "suid": (syscalls.MS_NOSUID, 0),
    "dev": (syscalls.MS_NODEV, 0), "exec": (syscalls.MS_NOEXEC, 0),
    "async": (syscalls.MS_SYNCHRONOUS, 0), "nomand": (syscalls.MS_MANDLOCK, 0),
    "atime": (syscalls.MS_NOATIME, 0), "diratime": (syscalls.MS_NODIRATIME, 0),
    "norelatime": (syscalls.MS_RELATIME, 0), "nostrictatime": (syscalls.MS_STRICTATIME, 0),
    "defaults": (0, 1),
}  # fmt: skip
"""Option of mount(8) -> flag of mount(2), and whether it sets it."""
PROPAGATION = {
    "shared": syscalls.MS_SHARED, "slave": syscalls.MS_SLAVE, "private": syscalls.MS_PRIVATE,
    "unbindable": syscalls.MS_UNBINDABLE,
}  # fmt: skip
_ATTRIBUTES = {
    syscalls.MS_RDONLY: syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_NOSUID: syscalls.MOUNT_ATTR_NOSUID,
    syscalls.MS_NODEV: syscalls.MOUNT_ATTR_NODEV, syscalls.MS_NOEXEC: syscalls.MOUNT_ATTR_NOEXEC,
    syscalls.MS_NODIRATIME: syscalls.MOUNT_ATTR_NODIRATIME,
    syscalls.MS_NOATIME: syscalls.MOUNT_ATTR_NOATIME,
    syscalls.MS_STRICTATIME: syscalls.MOUNT_ATTR_STRICTATIME, syscalls.MS_RELATIME: 0,
}  # fmt: skip
"""Flag of mount(2) -> attribute of mount_setattr(2)."""
_ATIMES = syscalls.MS_NOATIME | syscalls.MS_STRICTATIME | syscalls.MS_RELATIME
_RECURSIVE = {"rro": "ro", "rrw": "rw", "rnosuid": "nosuid", "rsuid": "suid", "rnodev": "nodev",
              "rdev": "dev", "rnoexec": "noexec", "rexec": "exec"}  # fmt: skip
_REFUSED = ("tmpcopyup", "idmap", "ridmap", "copy-symlink", "dest-nofollow", "src-nofollow")

_HERE = os.O_PATH | os.O_CLOEXEC
_IN_ROOT = syscalls.RESOLVE_IN_ROOT
_EXISTS = frozenset({EEXIST})
_ABSENT = frozenset({ENOENT, ENOTDIR})
_LINKS = {
    "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx", "/dev/core": "/proc/kcore",
}  # fmt: skip
DEVICES = tuple(
    Device(path=f"/dev/{name}", mode=0o020666, number=os.makedev(*number), uid=0, gid=0)
    for name, number in {
        "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
        "tty": (5, 0),
    }.items()
)  # fmt: skip
"""What every container has (config-linux.md, default devices)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a mount, read: flags set and cleared, propagation, and what is left."""

    flags: int
    cleared: int
    recursive: int
    propagation: tuple[tuple[int, int], ...]
    data: str


def read_options(mount: Mount) -> Options:
    """Sort the options of *mount*. Raises SpecError for one that is not done."""
    flags = cleared = recursive = 0
    data: list[str] = []
    propagation: list[tuple[int, int]] = []
    for option in mount.options:
        name = _RECURSIVE.get(option, option)
        if option in _REFUSED:
            raise SpecError(
                f"mounts: option {option!r} of {mount.destination} is not supported",
                remedy="leave it out",
            )
        if name in _FLAGS:
            flag, is_set = _FLAGS[name]
            flags, cleared = (
                (flags | flag, cleared & ~flag) if is_set else (flags & ~flag, cleared | flag)
            )
            recursive |= flag if option in _RECURSIVE else 0
        elif option.removeprefix("r") in PROPAGATION or option in PROPAGATION:
            below = 0 if option in PROPAGATION else syscalls.AT_RECURSIVE
            kind = option if option in PROPAGATION else option.removeprefix("r")
            propagation.append((PROPAGATION[kind], below))
        else:
            data.append(option)
    return Options(
        flags=flags, cleared=cleared, recursive=recursive,
        propagation=tuple(propagation), data=",".join(data),
    )  # fmt: skip


def plan_root(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[Step]:
    """Steps after which the bundle's root is ours, with all that the document mounts on it."""
    read = [(mount, read_options(mount)) for mount in config.mounts]
    whole = PROPAGATION.get(config.propagation.removeprefix("r"), syscalls.MS_SLAVE)
    root, recursive = config.root, syscalls.MS_REC
    yield Step("mount", ("", "/", "", whole | recursive, ""), "how mounts spread, in and out")
    single = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
    for number in range(len(config.masked)):
        cover = (-100, "/dev/null", single)
        yield Step("open_tree", cover, "hides a file", opens=f"cover{number}")
    for number, (mount, options) in enumerate(read):
        if options.flags & syscalls.MS_BIND:
            yield from _plan_source(number, mount, options)
    if syscalls.CLONE_NEWCGROUP not in config.namespaces:
        yield from _plan_groups(config, hierarchies)
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE
    yield Step(
        "open_tree", (-100, root, copied), "the bundle's tree, to be a mount", opens="rootfs"
    )
    yield Step("mount_setattr", (Slot("rootfs"), 0, 0, syscalls.MS_PRIVATE, 0), "movable")
    yield Step("openat2", (-100, root, _HERE, 0), "its place", opens="place")
    # The mount it lies on may be shared; pivot_root(2) wants neither to be.
    yield Step("mount", ("", "/", "", syscalls.MS_SLAVE | recursive, ""), "nothing goes out")
    yield Step("move_mount", (Slot("rootfs"), Slot("place")), "on itself")
    yield Step("close", (Slot("place"),), "of the host")
    yield Step("fchdir", (Slot("rootfs"),), "pivot_root wants to be told where it stands")
    yield Step("openat2", (-100, ".", _HERE, 0), "the root to be", opens="root")
    yield Step("pivot_root", (".", "."), "the bundle's tree becomes the root")
    # At once: as long as it lies on top, ".." of the root leads into it.
    yield Step(
        "umount2", (".", syscalls.MNT_DETACH), "the host's files are gone", phase="prepared"
    )
    yield Step("chdir", ("/",), "stand in the new root")
    yield Step("umask", (0o022,), "places to mount on are made as programs would make them")
    for number, (mount, options) in enumerate(read):
        yield from _plan_mount(number, mount, options, config, hierarchies)
    yield from _plan_devices(config)
    yield from _plan_masks(config)
    yield Step("chdir", ("/",), "stand in the new root")


def plan_end(config: Config) -> Iterator[Step]:
    """Steps after the last write to the root: it may be read-only now, and spread its mounts."""
    if config.read_only:
        lock = (Slot("rootfs"), syscalls.MOUNT_ATTR_RDONLY, 0, 0, 0)
        yield Step("mount_setattr", lock, "the root is read-only")
    if config.propagation:
        kind = config.propagation
        below = 0 if kind in PROPAGATION else syscalls.AT_RECURSIVE
        if kind.removeprefix("r") not in PROPAGATION and kind not in PROPAGATION:
            raise SpecError(f"linux.rootfsPropagation {kind!r} is unknown", remedy="use rprivate")
        spread = PROPAGATION[kind if kind in PROPAGATION else kind.removeprefix("r")]
        yield Step("mount_setattr", (Slot("rootfs"), 0, 0, spread, below), "as was asked")
    yield Step("close", (Slot("rootfs"),), "nothing stays open")
    yield Step("close", (Slot("root"),), "that a working directory could name")


def _plan_source(number: int, mount: Mount, options: Options) -> Iterator[Step]:
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
    copied |= syscalls.AT_RECURSIVE if options.flags & syscalls.MS_REC else 0
    what = f"what {mount.destination} is to show"
    yield Step("open_tree", (-100, mount.source, copied), what, opens=f"mount{number}")


def _plan_mount(
    number: int,
    mount: Mount,
    options: Options,
    config: Config,
    hierarchies: tuple[Hierarchy, ...],
) -> Iterator[Step]:
    bind = options.flags & syscalls.MS_BIND
    is_file = bool(bind) and os.path.exists(mount.source) and not os.path.isdir(mount.source)
    yield from _plan_place(mount.destination, is_file=is_file)
    if bind:
        yield from _plan_attach(f"mount{number}", mount.destination, options)
    elif mount.kind in {"cgroup", "cgroup2"}:
        yield from _plan_cgroup(mount, options, config, hierarchies)
    else:
        yield from _plan_file_system(mount, options)


def _plan_place(path: str, *, is_file: bool) -> Iterator[Step]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    for depth in range(1, len(parts) + (0 if is_file else 1)):
        made = "/" + "/".join(parts[:depth])
        yield Step("mkdir", (made, 0o755), "somewhere to mount", allow=_EXISTS)
    if is_file:
        file = stat.S_IFREG | 0o644
        yield Step("mknod", ("/" + "/".join(parts), file, 0), "a file to mount on", allow=_EXISTS)


def _plan_attach(slot: str, path: str, options: Options) -> Iterator[Step]:
    yield Step("openat2", (Slot("root"), path, _HERE, _IN_ROOT), "inside", opens="place")
    for below in (0, syscalls.AT_RECURSIVE):
        chosen = options.recursive if below else ~options.recursive
        sets, clears = _attributes(options.flags & chosen, options.cleared & chosen)
        if sets or clears:
            yield Step("mount_setattr", (Slot(slot), sets, clears, 0, below), "as was asked")
    yield Step("move_mount", (Slot(slot), Slot("place")), f"is seen at {path}")
    yield Step("close", (Slot("place"),), "nothing stays open")
    for kind, below in options.propagation:
        yield Step("mount_setattr", (Slot(slot), 0, 0, kind, below), "how mounts below it spread")
    yield Step("close", (Slot(slot),), "that leads outside")


def _attributes(flags: int, cleared: int) -> tuple[int, int]:
    sets = sum(value for flag, value in _ATTRIBUTES.items() if flags & flag)
    clears = sum(value for flag, value in _ATTRIBUTES.items() if cleared & flag)
    if flags & _ATIMES:
        clears |= syscalls.MOUNT_ATTR__ATIME
    return sets, clears


def _plan_file_system(mount: Mount, options: Options) -> Iterator[Step]:
    path = mount.destination
    how = _HERE | os.O_DIRECTORY
    # /proc and /sys of the image must be directories: a link would move what is masked there.
    strict = syscalls.RESOLVE_NO_SYMLINKS if mount.kind in {"proc", "sysfs"} else 0
    yield Step("openat2", (Slot("root"), path, how, _IN_ROOT | strict), "inside", opens="place")
    yield Step("fchdir", (Slot("place"),), "mount here, whatever path leads to it")
    flags = options.flags & ~syscalls.MS_REC
    source = mount.source or mount.kind
    yield Step("mount", (source, ".", mount.kind, flags, options.data), f"is at {path}")
    yield Step("close", (Slot("place"),), "nothing stays open")
    if options.propagation:
        yield Step("openat2", (Slot("root"), path, how, _IN_ROOT), "on top", opens="place")
        for kind, below in options.propagation:
            yield Step("mount_setattr", (Slot("place"), 0, 0, kind, below), "how it spreads")
        yield Step("close", (Slot("place"),), "nothing stays open")


def _plan_cgroup(
    mount: Mount, options: Options, config: Config, hierarchies: tuple[Hierarchy, ...]
) -> Iterator[Step]:
    """Its own groups: mounted where it has a cgroup namespace, else bound, all seen from there."""
    has_namespace = syscalls.CLONE_NEWCGROUP in config.namespaces
    top = mount.destination
    flags = options.flags & ~syscalls.MS_REC
    one = [h for h in hierarchies if h.version == 1]
    if not one:
        if has_namespace:
            yield from _plan_file_system(Mount(destination=top, kind="cgroup2", source="cgroup",
                options=()), Options(flags=flags, cleared=0, recursive=0, data="",
                propagation=options.propagation))  # fmt: skip
        else:
            yield from _plan_attach("group0", top, _plain(flags))
        return
    room = Options(flags=flags & ~syscalls.MS_RDONLY, cleared=0, recursive=0, data="mode=755",
                   propagation=options.propagation)  # fmt: skip
    yield from _plan_file_system(
        Mount(destination=top, kind="tmpfs", source="cgroup", options=()), room
    )
    for number, hierarchy in enumerate(one):
        name = hierarchy.mount_point.rpartition("/")[2]
        yield Step("mkdir", (f"{top}/{name}", 0o755), "somewhere to mount", allow=_EXISTS)
        controllers = ",".join(hierarchy.controllers)
        if has_namespace:
            data = Options(flags=flags, cleared=0, recursive=0, data=controllers, propagation=())
            yield from _plan_file_system(
                Mount(destination=f"{top}/{name}", kind="cgroup", source="cgroup", options=()),
                data,
            )
        else:
            yield from _plan_attach(f"group{number}", f"{top}/{name}", _plain(flags))
        for alias in hierarchy.controllers if len(hierarchy.controllers) > 1 else ():
            yield Step("symlink", (name, f"{top}/{alias}"), "by its own name", allow=_EXISTS)
    if flags & syscalls.MS_RDONLY:
        how = (Slot("root"), top, _HERE, _IN_ROOT)
        yield Step("openat2", how, "the directory of all", opens="place")
        lock = (Slot("place"), syscalls.MOUNT_ATTR_RDONLY, 0, 0, 0)
        yield Step("mount_setattr", lock, "no room for more")
        yield Step("close", (Slot("place"),), "nothing stays open")


def _plain(flags: int) -> Options:
    return Options(flags=flags, cleared=0, recursive=0, data="", propagation=())


def _plan_groups(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[Step]:
    """Take hold of its groups, which it will see in place of all others."""
    if any(mount.kind in {"cgroup", "cgroup2"} for mount in config.mounts):
        copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
        for number, hierarchy in enumerate(hierarchies):
            place = own_place(hierarchy, config.cgroups_path)
            yield Step("open_tree", (-100, place, copied), "its group", opens=f"group{number}")


def _plan_devices(config: Config) -> Iterator[Step]:
    if any(
        m.destination.rstrip("/") == "/dev" and {"bind", "rbind"} & {*m.options}
        for m in config.mounts
    ):
        return  # the host's own, or whatever was prepared for it
    asked = {device.path for device in config.devices}
    yield Step("umask", (0,), "the modes below are meant exactly")
    for device in (*(d for d in DEVICES if d.path not in asked), *config.devices):
        parents = device.path.split("/")[1:-1]
        for depth in range(1, len(parents) + 1):
            made = "/" + "/".join(parents[:depth])
            yield Step("mkdir", (made, 0o755), "where devices are", allow=_EXISTS)
        how = (device.path, device.mode, device.number)
        yield Step("mknod", how, device.path, allow=_EXISTS)
        if device.uid or device.gid:
            yield Step("chown", (device.path, device.uid, device.gid), "its owner")
    for path, target in _LINKS.items():
        yield Step("symlink", (target, path), path, allow=_EXISTS)
    yield Step("umask", (0o022,), "what programs expect")


def _plan_masks(config: Config) -> Iterator[Step]:
    """Files are covered by /dev/null, directories by an empty one; which it is, shows then."""
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_EMPTY_PATH
    for number, path in enumerate(config.masked):
        cover = Slot(f"cover{number}")
        place = (Slot("root"), path, _HERE, _IN_ROOT)
        yield Step("openat2", place, "tells of the host", allow=_ABSENT, skips=5, opens="place")
        is_file = frozenset({ENOTDIR})
        yield Step("fchdir", (Slot("place"),), "a directory?", allow=is_file, skips=2)
        empty = ("tmpfs", ".", "tmpfs", syscalls.MS_RDONLY, "")
        yield Step("mount", empty, "a directory is empty")
        yield Step("close", (-1,), "that was all", allow=frozenset({EBADF}), skips=1)
        yield Step("move_mount", (cover, Slot("place")), "a file is empty")
        yield Step("close", (Slot("place"),), "nothing stays open")
        yield Step("close", (cover,), "nothing stays open")
    for path in config.read_only_paths:
        place = (Slot("root"), path, _HERE, _IN_ROOT)
        yield Step("openat2", place, "steers the host", allow=_ABSENT, skips=5, opens="place")
        recursive = copied | syscalls.AT_RECURSIVE
        yield Step("open_tree", (Slot("place"), "", recursive), "a mount to lock", opens="cover")
        yield Step("mount_setattr", (Slot("cover"), syscalls.MOUNT_ATTR_RDONLY), "read-only")
        yield Step("move_mount", (Slot("cover"), Slot("place")), "in its place")
        yield Step("close", (Slot("cover"),), "nothing stays open")
        yield Step("close", (Slot("place"),), "nothing stays open")


def known_options() -> list[str]:
    """The options that are read; what is none of them goes to the file system."""
    spread = [*PROPAGATION, *(f"r{kind}" for kind in PROPAGATION)]
    return sorted({*_FLAGS, *_RECURSIVE, *spread})
