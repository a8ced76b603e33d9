"""The file systems of a container: its root, /proc, /dev, /sys, and what is hidden there (pure).

Every mount but the root is made after pivot_root, when no path can lead out of the container
any more, whatever symbolic links the image holds; and the directories we mount on must not be
links at all. Masked and read-only paths are those that Docker uses (moby, oci/defaults.go).
"""

import os
import stat
from collections.abc import Iterator
from errno import EEXIST, ENOENT

from runtime import syscalls
from runtime.container.cgroups import Hierarchy
from runtime.container.devices import OURS, Device, plan_devices
from runtime.container.facts import HostFacts
from runtime.container.protection import Protection
from runtime.container.spec import HOST_NETWORK, ContainerSpec
from runtime.container.steps import Slot, Step
from runtime.volume.mount import Mount

_NO_PROGRAMS = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
MAX_OPTIONS_BYTES = 4095

_EXISTS = frozenset({EEXIST})
_MISSING = frozenset({ENOENT})

_TTY_GROUP = 5
"""The group of terminals, the same in all distributions."""

_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}

_MASKED_FILES = (
    "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/interrupts",
)  # fmt: skip
_MASKED_DIRECTORIES = (
    "/proc/asound", "/proc/acpi", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def plan_root(spec: ContainerSpec, facts: HostFacts) -> Iterator[Step]:
    """Steps after which ``/`` is the image under a writable layer, and nothing else is left."""
    root = f"{spec.directory}/root"
    told = overlay_options(
        spec.lower, spec.directory, facts.owned_ids, is_volatile=not spec.is_kept
    )
    private = syscalls.MS_REC | syscalls.MS_PRIVATE
    yield Step("mount", ("", "/", "", private, ""), "nothing we mount shows outside")
    yield from _plan_sources(spec.mounts)
    if facts.owned_ids is not None:
        yield from _plan_borrowing(spec.network)
    if base := _common(spec.lower):
        yield Step("chdir", (base,), "many layers are named from here: mount(2) has little room")
    yield Step(
        "mount",
        ("overlay", root, "overlay", _root_flags(spec.protection), told),
        "the image below, what this instance writes above"
        + ("" if spec.protection.is_privileged else "; device files of the image are dead"),
    )
    yield Step("chdir", (root,), "pivot_root wants to be told where it stands")
    yield Step("pivot_root", (".", "."), "the image becomes the root, the old root lies on top")
    yield Step(
        "umount2", (".", syscalls.MNT_DETACH), "the host's files are gone", phase="prepared"
    )
    yield Step("chdir", ("/",), "stand in the new root")


def overlay_options(
    lower: tuple[str, ...], directory: str, owned_ids: int | None, *, is_volatile: bool = True
) -> str:
    """What overlayfs is told; more than MAX_OPTIONS_BYTES do not arrive (mount(2): one page).

    Redirects and metadata-only copies are off, so that the upper directory holds whole files; they
    are with userxattr, by which the root of a user namespace has attributes that he may write. A
    volatile one syncs nothing, and what is in it counts for nothing after a crash.
    """
    base = _common(lower)
    names = ":".join(os.path.relpath(path, base) if base else path for path in lower)
    own = f"upperdir={directory}/upper,workdir={directory}/work"
    whole = "redirect_dir=off,metacopy=off" if owned_ids is None else "userxattr"
    told = f"lowerdir={names},{own},{whole}"
    return f"{told},volatile" if is_volatile else told


def _common(lower: tuple[str, ...]) -> str:
    """The directory that all of *lower* lie in, nothing if there is but one."""
    return os.path.commonpath(lower) if len(lower) > 1 else ""


def plan_locking(protection: Protection) -> Step:
    """The step after which the image cannot be changed; what is mounted on it still can."""
    locked = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY
    arguments = ("", "/", "", locked | _root_flags(protection), "")
    return Step("mount", arguments, "the image's files are read-only")


def _root_flags(protection: Protection) -> int:
    return 0 if protection.is_privileged else syscalls.MS_NODEV


def plan_kernel_files(facts: HostFacts, protection: Protection) -> Iterator[Step]:
    """Steps that give /proc, /dev and /sys, with what they should not show masked."""
    lock = 0 if protection.is_privileged else syscalls.MS_RDONLY
    manner = "writable" if protection.is_privileged else "read-only"
    yield Step("umask", (0,), "the modes below are meant exactly")
    flags = _NO_PROGRAMS | lock
    if facts.owned_ids is None:
        yield from _mount_on("/proc", "proc", _NO_PROGRAMS, "", "its own processes")
        yield from _plan_dev(facts.owned_ids, protection.devices)
        yield from _mount_on("/sys", "sysfs", flags, "", f"its own network devices, {manner}")
    else:
        yield from _plan_moving("/proc")
        yield from _plan_dev(facts.owned_ids, protection.devices)
        yield from _plan_moving("/sys")
    yield from _plan_cgroups(facts.hierarchies, flags, f"its own limits, {manner}")
    if not protection.is_privileged:
        yield from _plan_masks()
    yield Step("umask", (0o022,), "what programs expect")


def plan_mounts(mounts: tuple[Mount, ...], *, on_devices: bool) -> Iterator[Step]:
    """Steps that put each mount in its place: those below /dev later, when that is ours.

    The others come before /proc and /sys, so that no link of the image brings them on top of
    what is masked there. We stand inside already: a link leads to a place in the container.
    """
    chosen = [
        (number, mount)
        for number, mount in enumerate(mounts)
        if mount.target.startswith("/dev/") == on_devices
    ]
    if chosen:
        yield Step("umask", (0o022,), "places to mount on are made as programs would make them")
    for number, mount in chosen:
        yield from _plan_place(mount)
        if mount.source:
            kind = "a directory" if mount.is_directory else "a file"
            yield from _plan_attaching(
                f"mount{number}", mount.target, f"{mount.source}, {kind}, is seen here",
                is_directory=mount.is_directory, follows_links=mount.follows_links,
            )  # fmt: skip
        else:
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
            flags |= 0 if mount.exec else syscalls.MS_NOEXEC
            flags |= syscalls.MS_RDONLY if mount.read_only else 0
            arguments = ("tmpfs", mount.target, "tmpfs", flags, mount.options)
            yield Step("mount", arguments, "memory of its own")


def _plan_sources(mounts: tuple[Mount, ...]) -> Iterator[Step]:
    """Take hold of what comes from the host while it can be seen: copies of its mounts."""
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE
    for number, mount in enumerate(mounts):
        if not mount.source:
            continue
        slot = f"mount{number}"
        reason = f"what {mount.target} is to show, with all that is mounted below it"
        yield Step("open_tree", (-100, mount.source, copied), reason, opens=slot)
        locks = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        reason = "its device files are dead, its set-user-ID bits too"
        if mount.read_only:
            locks, reason = locks | syscalls.MOUNT_ATTR_RDONLY, f"{reason}, nothing is written"
        yield Step("mount_setattr", (Slot(slot), locks), reason)


def _plan_place(mount: Mount) -> Iterator[Step]:
    """Directories down to the target, and a file if what is shown is one."""
    parts = mount.target.strip("/").split("/")
    directories = parts if mount.is_directory else parts[:-1]
    for depth in range(1, len(directories) + 1):
        path = "/" + "/".join(directories[:depth])
        yield Step("mkdir", (path, 0o755), "somewhere to mount", allow=_EXISTS)
    if not mount.is_directory:
        mode = stat.S_IFREG | 0o644
        yield Step("mknod", (mount.target, mode, 0), "a file to mount on", allow=_EXISTS)


def _plan_attaching(
    held: str, target: str, reason: str, *, is_directory: bool, follows_links: bool = False
) -> Iterator[Step]:
    """Let *target* show what the slot *held* holds."""
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    flags |= os.O_DIRECTORY if is_directory else 0
    where = (-100, target, flags, syscalls.RESOLVE_IN_ROOT)
    yield Step("openat2", where, "the place, inside of the container", opens="place")
    yield Step("move_mount", (Slot(held), Slot("place")), reason)
    yield Step("close", (Slot("place"),), "nothing stays open")
    yield Step("close", (Slot(held),), "that leads outside")


def _plan_borrowing(network: str) -> Iterator[Step]:
    """Take hold of what root of a namespace cannot make, or only while the host's is seen.

    Devices are the host's. A /proc or /sys is given only to who sees a whole one already
    (fs/namespace.c of the kernel, mount_too_revealing), a /sys only with a network of its own.
    """
    copied = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC
    for name in OURS:
        reason = f"the host's /dev/{name}: none can be made here"
        yield Step("open_tree", (-100, f"/dev/{name}", copied), reason, opens=f"device-{name}")
    yield Step("mount", ("proc", "/proc", "proc", _NO_PROGRAMS, ""), "its own processes")
    yield Step("open_tree", (-100, "/proc", copied), "to be moved into it", opens="proc")
    if network == HOST_NETWORK:
        reason = "the host's, for its network devices are"
        yield Step(
            "open_tree", (-100, "/sys", copied | syscalls.AT_RECURSIVE), reason, opens="sys"
        )
        locks = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_RDONLY
        yield Step("mount_setattr", (Slot("sys"), locks), "nothing is written")
    else:
        read_only = _NO_PROGRAMS | syscalls.MS_RDONLY
        yield Step("mount", ("sysfs", "/sys", "sysfs", read_only, ""), "its own network devices")
        yield Step("open_tree", (-100, "/sys", copied), "to be moved into it", opens="sys")


def _plan_moving(path: str) -> Iterator[Step]:
    yield Step("mkdir", (path, 0o755), "somewhere to mount", allow=_EXISTS)
    yield from _plan_attaching(path.strip("/"), path, f"{path} is seen here", is_directory=True)


def plan_cwd(cwd: str) -> Iterator[Step]:
    """Steps that make the working directory, as images expect it, and enter it."""
    parts = [part for part in cwd.split("/") if part]
    for depth in range(1, len(parts) + 1):
        path = "/" + "/".join(parts[:depth])
        yield Step("mkdir", (path, 0o755), "the working directory exists", allow=_EXISTS)
    yield Step("chdir", (cwd,), "the working directory")


def _mount_on(
    path: str, fstype: str, flags: int, data: str, reason: str, *, source: str | None = None
) -> Iterator[Step]:
    yield Step("mkdir", (path, 0o755), "somewhere to mount", allow=_EXISTS)
    yield Step(
        "openat2",
        (-100, path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, syscalls.RESOLVE_NO_SYMLINKS),
        "a directory of the image, no link that would move the mount",
        opens="place",
    )
    yield Step("close", (Slot("place"),), "nothing stays open that a working directory could name")
    yield Step("mount", (source or fstype, path, fstype, flags, data), reason)


def _plan_dev(owned_ids: int | None, given: tuple[Device, ...]) -> Iterator[Step]:
    no_suid = syscalls.MS_NOSUID | syscalls.MS_STRICTATIME
    yield from _mount_on("/dev", "tmpfs", no_suid, "mode=755,size=65536k", "devices of its own")
    for name, (major, minor) in OURS.items():
        if owned_ids is None:
            mode = stat.S_IFCHR | 0o666
            device = os.makedev(major, minor)
            yield Step("mknod", (f"/dev/{name}", mode, device), f"/dev/{name}")
        else:
            place = (f"/dev/{name}", stat.S_IFREG | 0o666, 0)
            yield Step("mknod", place, "a file to mount on")
            yield from _plan_attaching(
                f"device-{name}", f"/dev/{name}", f"/dev/{name}", is_directory=False
            )
    for name, target in _LINKS.items():
        yield Step("symlink", (target, f"/dev/{name}"), f"/dev/{name}")
    yield from plan_devices(given)
    no_suid_exec = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    terminals = "newinstance,ptmxmode=0666,mode=0620"
    if owned_ids is None or owned_ids > _TTY_GROUP:
        terminals += f",gid={_TTY_GROUP}"
    yield from _mount_on("/dev/pts", "devpts", no_suid_exec, terminals, "terminals of its own")
    yield from _mount_on(
        "/dev/shm",  # noqa: S108 - the mount point itself
        "tmpfs", _NO_PROGRAMS, "mode=1777,size=65536k", "shared memory of its own",
        source="shm",
    )  # fmt: skip
    yield from _mount_on("/dev/mqueue", "mqueue", _NO_PROGRAMS, "", "message queues of its own")


def _plan_cgroups(hierarchies: tuple[Hierarchy, ...], flags: int, reason: str) -> Iterator[Step]:
    """Let the instance read its own limits, as programs that size themselves by them expect."""
    top = "/sys/fs/cgroup"
    if any(h.version == 2 for h in hierarchies):
        yield Step("mount", ("cgroup", top, "cgroup2", flags, ""), reason)
        return
    yield Step(
        "mount", ("cgroup", top, "tmpfs", _NO_PROGRAMS, "mode=755"), "room for the controllers"
    )
    for hierarchy in hierarchies:
        names = ",".join(hierarchy.controllers)
        place = f"{top}/{hierarchy.mount_point.rpartition('/')[2]}"
        yield Step("mkdir", (place, 0o755), "somewhere to mount")
        yield Step("mount", ("cgroup", place, "cgroup", flags, names), reason)
    locked = syscalls.MS_REMOUNT | syscalls.MS_BIND | flags
    yield Step("mount", ("", top, "", locked, ""), "no room for more")


def _plan_masks() -> Iterator[Step]:
    for path in _MASKED_FILES:
        yield Step(
            "mount",
            ("/dev/null", path, "", syscalls.MS_BIND, ""),
            "tells of the host",
            allow=_MISSING,
        )
    for path in _MASKED_DIRECTORIES:
        flags = _NO_PROGRAMS | syscalls.MS_RDONLY
        yield Step(
            "mount", ("tmpfs", path, "tmpfs", flags, ""), "tells of the host", allow=_MISSING
        )
    for path in _READ_ONLY:
        bind = syscalls.MS_BIND | syscalls.MS_REC
        yield Step(
            "mount", (path, path, "", bind, ""), "a mount that can be locked", allow=_MISSING
        )
        lock = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _NO_PROGRAMS
        yield Step("mount", ("", path, "", lock, ""), "steers the host: read-only", allow=_MISSING)
