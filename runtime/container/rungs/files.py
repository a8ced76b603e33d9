"""Overlays, device files and control groups, tried where instances would have theirs."""

import os
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from runtime import syscalls
from runtime.container.cgroups import (
    LIMITED,
    Group,
    Hierarchy,
    place,
    plan_groups,
    plan_joining,
)
from runtime.container.launch.interpreter import run_steps
from runtime.container.rungs.attempt import refusal
from runtime.container.rungs.place import new_name, trial_directory
from runtime.container.rungs.rung import Rung
from runtime.container.spec import Limits
from runtime.container.state import instances_dir
from runtime.errors import RuntimeFault

_OPTIONS: Mapping[str, str] = {"memory": "--memory", "cpu": "--cpus", "pids": "--pids-limit"}
"""The option of ``run`` that is lost without a controller."""

_HOME = "set ISOSCOPE_HOME to a folder on a local disk (ext4, xfs, btrfs)"
_LAYERS = ("lower", "upper", "work", "root")


def overlay_rung() -> Rung:
    """An overlay in the state directory: reads through, writes aside, deletes by whiteout."""
    name, costs = "overlay", ("container",)
    try:
        with trial_directory(new_name()) as directory:
            for layer in _LAYERS:
                (directory / layer).mkdir()
            (directory / "lower" / "below").write_text("kept")
            why = refusal(partial(_overlaid, directory))
            kind = _file_system(directory, Path("/proc/self/mountinfo").read_text())
    except OSError as error:
        why, kind = _refused(error), ""
    return Rung(
        name=name,
        ok=why is None,
        found=f"reads, writes and deletes, on {kind}" if why is None else why,
        remedy=None if why is None else _HOME,
        costs=costs,
    )


def devices_rung() -> Rung:
    """A device file: made and read. Inside of another container that is often refused."""
    why = refusal(_with_devices)
    return Rung(
        name="device files",
        ok=why is None,
        found="made, and read through" if why is None else why,
        remedy=None if why is None else "start this outside of another container",
        costs=("container",),
    )


def groups_rung(hierarchies: tuple[Hierarchy, ...], mountinfo: str) -> Rung:
    """A control group in each hierarchy: made, limited, read back, entered, removed."""
    name, layout = "control groups", _layout(mountinfo)
    offered = {c for hierarchy in hierarchies for c in hierarchy.controllers}
    lacking = tuple(c for c in LIMITED if c not in offered)
    try:
        why = _group_refusal(hierarchies, offered)
        remedy = "make /sys/fs/cgroup writable: run as root outside of containers"
    except OSError as error:
        why, remedy = _refused(error), _HOME
    if why is not None:
        found, costs = f"{layout}; {why}", ("container",)
        return Rung(name=name, ok=False, found=found, remedy=remedy, costs=costs)
    limits = ", ".join(c for c in LIMITED if c in offered)
    return Rung(
        name=name,
        ok=not lacking,
        found=f"{layout}; limits read back: {limits or 'none'}"
        + (f"; no controller here: {', '.join(lacking)}" if lacking else ""),
        remedy="mount the controller, or enable it on the kernel's command line"
        if lacking
        else None,
        costs=tuple(_OPTIONS[c] for c in lacking) or tuple(_OPTIONS.values()),
    )


def _overlaid(directory: Path) -> None:
    lower, upper, work, root = (directory / layer for layer in _LAYERS)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    layers = f"lowerdir={lower},upperdir={upper},workdir={work},volatile"
    syscalls.mount("overlay", str(root), "overlay", syscalls.MS_NODEV, layers)
    (root / "new").write_text("aside")
    (root / "below").unlink()
    whiteout = (upper / "below").lstat()
    is_right = (
        (upper / "new").read_text() == "aside"
        and (lower / "below").read_text() == "kept"
        and stat.S_ISCHR(whiteout.st_mode)
        and whiteout.st_rdev == 0
    )
    if not is_right:
        raise RuntimeFault("what is written through it does not lie in its upper layer")


def _group_refusal(hierarchies: tuple[Hierarchy, ...], offered: set[str]) -> str | None:
    limits = Limits(
        memory_bytes=64 << 20 if "memory" in offered else None,
        cpus=0.5 if "cpu" in offered else None,
        pids=64 if "pids" in offered else None,
    )
    name = new_name()
    groups = place(hierarchies, name, None)
    with trial_directory(name, groups):
        try:
            return _grouped(groups, limits)
        except RuntimeFault as error:
            return error.message


def _grouped(groups: tuple[Group, ...], limits: Limits) -> str | None:
    steps = tuple(plan_groups(groups, limits))
    run_steps(steps)
    for step in steps:
        if step.call == "write" and not str(step.args[0]).endswith("cgroup.subtree_control"):
            path, wanted = map(str, step.args)
            found = Path(path).read_text().strip()
            if found != wanted:
                return f"{path} was set to {wanted} and says {found}"
    return refusal(partial(run_steps, tuple(plan_joining(groups))))


def _with_devices() -> None:
    """On a file system of our own, as a container has them: nothing of it is seen outside."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    syscalls.mount("tmpfs", "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    os.mknod("/dev/zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with Path("/dev/zero").open("rb", buffering=0) as zero:
        if zero.read(4) != bytes(4):
            raise RuntimeFault("the device file was made and is another device")


def _refused(error: OSError) -> str:
    return f"{error.filename or instances_dir()}: {error.strerror}"


def _layout(mountinfo: str) -> str:
    kinds = {line.partition(" - ")[2].split()[0] for line in mountinfo.splitlines()}
    match ("cgroup" in kinds, "cgroup2" in kinds):
        case (True, True):
            return "hybrid (v1 beside v2)"
        case (True, False):
            return "v1"
        case (False, True):
            return "v2"
        case _:
            return "not mounted"


def _file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system that holds *path*, by its device number."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[2] == number:
            return right.split()[0]
    return "a file system without a mount of its own"
