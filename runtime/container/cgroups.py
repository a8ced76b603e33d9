"""Control groups: where they are, which files hold which limit (pure), and how to remove them.

Three layouts occur: v1, v2, and hybrid, where v1 owns the useful controllers and a v2 mount
owns none or a stray one. So nothing is assumed of the machine as a whole: every hierarchy is
looked at by itself. Sources: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
``tests/cgroup_v2`` runs the v2 half on a machine whose controllers are all bound to v2.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from errno import EEXIST, ENOENT
from pathlib import Path

from runtime.container.spec import Limits
from runtime.container.steps import Step
from runtime.errors import Unsupported

USED = ("memory", "cpu", "cpuacct", "pids", "freezer")
"""The v1 controllers in which an instance gets a group; memory, cpu and pids carry limits."""

LIMITED = ("memory", "cpu", "pids")
"""The controllers that limits need, under the same names in v1 and v2."""

_COUNTED = "io"
"""Handed down on v2 besides: what is written back is charged to whoever wrote it."""

_SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")
"""Of v1 and v2; a kernel that does not account for swap has neither."""

_MISSING = frozenset({ENOENT})
_PERIOD_US = 100_000
"""The length of one cpu accounting period, the kernel's own default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted tree of groups: *version* 1 or 2, its controllers, where, and our own place.

    *delegated* is the group in which an ordinary user may make some; root needs none.
    """

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    own_path: str
    delegated: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group to be: *path* is its directory, *base* the existing one that ours are made in."""

    hierarchy: Hierarchy
    base: str
    path: str


def parse_hierarchies(
    *,
    own: str,
    mountinfo: str,
    enabled: Callable[[str], tuple[str, ...]],
    used: tuple[str, ...] = USED,
) -> tuple[Hierarchy, ...]:
    """The hierarchies that own a controller of *used*, from /proc/self/{cgroup,mountinfo}.

    *enabled* tells the controllers of the v2 mount at a path. Such a mount counts only if it
    controls memory, cpu or pids; on a hybrid machine it does not.
    """
    paths = dict(_own_paths(own))
    found: dict[tuple[str, ...], Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mount_point = left.split()[3:5]
        fstype, _, options = right.split(maxsplit=2)
        if fstype == "cgroup":
            controllers = tuple(c for c in options.split(",") if c in used and c in paths)
        elif fstype == "cgroup2" and "" in paths:
            controllers = enabled(mount_point) if {*LIMITED} & {*enabled(mount_point)} else ()
        else:
            continue
        if controllers:
            version = 1 if fstype == "cgroup" else 2
            path = paths[controllers[0] if version == 1 else ""]
            hierarchy = Hierarchy(
                version=version,
                controllers=controllers,
                mount_point=mount_point,
                own_path="/" + path.removeprefix(root).lstrip("/"),
            )
            found.setdefault(controllers, hierarchy)  # a second mount shows the same tree
    return tuple(found.values())


def place(hierarchies: tuple[Hierarchy, ...], name: str, within: str | None) -> tuple[Group, ...]:
    """The groups of one instance, one in each hierarchy, *within* groups made before."""
    path = f"isoscope-{name}" if within is None else f"isoscope-{within}/{name}"
    return tuple(Group(hierarchy=h, base=_base(h), path=f"{_base(h)}/{path}") for h in hierarchies)


def plan_groups(groups: tuple[Group, ...], limits: Limits) -> Iterator[Step]:
    """Steps that make the groups and write the limits. Raises Unsupported for what none offers."""
    _check_offered(groups, limits)
    for group in groups:
        yield from _directories(group)
        for file, value, reason in _settings(group.hierarchy, limits):
            missing = _MISSING if file in _SWAP else frozenset[int]()
            yield Step("write", (f"{group.path}/{file}", value), reason, allow=missing)


def plan_limits(groups: tuple[Group, ...], limits: Limits) -> Iterator[Step]:
    """Steps that write *limits* for groups that are there. Raises Unsupported, as above."""
    _check_offered(groups, limits)
    for group in groups:
        for file, value, reason in _settings(group.hierarchy, limits):
            yield Step("write", (f"{group.path}/{file}", value), reason)


def plan_joining(groups: tuple[Group, ...]) -> Iterator[Step]:
    """Steps by which the calling process, which must have a single thread, enters the groups.

    On v1 it does so as a thread: for one thread that moves itself the kernel need not stop every
    fork and exit of the machine, which takes a grace period of RCU, milliseconds where it is busy.
    """
    for group in groups:
        names = ",".join(group.hierarchy.controllers)
        file = "tasks" if group.hierarchy.version == 1 else "cgroup.procs"
        yield Step("write", (f"{group.path}/{file}", "0"), f"be counted by {names}")


def plan_removal(groups: tuple[Group, ...]) -> Iterator[Step]:
    """Steps that remove the groups once nothing runs in them."""
    for group in groups:
        yield Step("rmdir", (group.path,), "the group has served")


def members(path: Path) -> Iterator[int]:
    """The pids in the group at *path* and in all groups below it."""
    for directory, _, _ in os.walk(path):
        with suppress(OSError):
            yield from map(int, (Path(directory) / "cgroup.procs").read_text().split())


def kill_members(path: Path) -> bool:
    """SIGKILL everything in the group at *path* and below; True if there was something.

    A frozen v1 group would not deliver the signal, so it is thawed first. On v2 the kernel kills
    all at once, so that nothing forks away from it (Linux 5.14).
    """
    with suppress(OSError):
        (path / "freezer.state").write_text("THAWED")
    victims = list(members(path))
    if (path / "cgroup.kill").exists():
        (path / "cgroup.kill").write_text("1")
        return bool(victims)
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(victims)


def remove_tree(path: Path) -> None:
    """Remove the empty group at *path* with all below it; what is gone already is fine."""
    for directory, _, _ in os.walk(path, topdown=False):
        with suppress(FileNotFoundError):
            Path(directory).rmdir()


def _check_offered(groups: tuple[Group, ...], limits: Limits) -> None:
    offered = {c for group in groups for c in group.hierarchy.controllers}
    for controller, limit in _wanted(limits):
        if controller not in offered:
            raise Unsupported(
                f"no cgroup hierarchy here controls {controller}, so {limit} cannot be enforced",
                remedy="mount the controller or leave the limit out",
            )


def _own_paths(own: str) -> Iterator[tuple[str, str]]:
    for line in own.splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        for controller in controllers.split(","):
            yield controller, path


def _base(hierarchy: Hierarchy) -> str:
    # v1: below our own group, so that limits set on us hold for what we start. v2: from the
    # root, because a group that holds processes cannot hand controllers to its children.
    # Where we are ourselves in a group of ours, as a worker is, its siblings' place is meant.
    own = hierarchy.own_path if hierarchy.version == 1 else "/"
    if hierarchy.delegated is not None:
        own = hierarchy.delegated
    own = own.partition("/isoscope-")[0]
    return f"{hierarchy.mount_point}{own.rstrip('/')}"


def _wanted(limits: Limits) -> Iterator[tuple[str, str]]:
    if limits.memory_bytes is not None:
        yield "memory", "a memory limit"
    if limits.cpus is not None:
        yield "cpu", "a cpu limit"
    if limits.pids is not None:
        yield "pids", "a limit of processes"


def _directories(group: Group) -> Iterator[Step]:
    *ancestors, own = group.path.removeprefix(group.base + "/").split("/")
    above = group.base
    for name in ancestors:
        yield from _delegation(group.hierarchy, above)
        above = f"{above}/{name}"
        yield Step("mkdir", (above, 0o755), "where our groups live", allow=frozenset({EEXIST}))
    yield from _delegation(group.hierarchy, above)
    yield Step("mkdir", (f"{above}/{own}", 0o755), "a group of its own")


def _delegation(hierarchy: Hierarchy, path: str) -> Iterator[Step]:
    """On v2 a group's children have only the controllers it hands down."""
    if hierarchy.version == 1:
        return
    handed = (c for c in (*LIMITED, _COUNTED) if c in hierarchy.controllers)
    wanted = " ".join(f"+{c}" for c in handed)
    yield Step("write", (f"{path}/cgroup.subtree_control", wanted), "hand controllers down")


def _settings(hierarchy: Hierarchy, limits: Limits) -> Iterator[tuple[str, str, str]]:
    """File, value and reason of each limit that this hierarchy controls."""
    one = hierarchy.version == 1
    if limits.memory_bytes is not None and "memory" in hierarchy.controllers:
        amount = str(limits.memory_bytes)
        yield ("memory.limit_in_bytes" if one else "memory.max"), amount, "its memory limit"
        swap = (_SWAP[0], amount) if one else (_SWAP[1], "0")
        yield *swap, "no swap beyond it"
    if limits.cpus is not None and "cpu" in hierarchy.controllers:
        quota_us = max(1000, round(limits.cpus * _PERIOD_US))
        if one:
            yield "cpu.cfs_period_us", str(_PERIOD_US), "its cpu period"
            yield "cpu.cfs_quota_us", str(quota_us), "its cpu time in each period"
        else:
            yield "cpu.max", f"{quota_us} {_PERIOD_US}", "its cpu time in each period"
    if limits.pids is not None and "pids" in hierarchy.controllers:
        yield "pids.max", str(limits.pids), "how many processes it may have"
