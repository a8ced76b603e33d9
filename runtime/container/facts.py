"""What the plan must know of this machine, read once and handed on as a value."""

import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from runtime.container.cgroups import Hierarchy, parse_hierarchies
from runtime.user_namespace import owned_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The machine, as far as a plan depends on it.

    ``machine`` is uname(2)'s; ``bounding_set`` our own, bit n for capability n;
    ``last_capability`` the highest that this kernel knows; ``hierarchies`` the cgroup mounts,
    but for ``devices``, v1's list of devices, which few containers need.
    ``owned_ids`` is how many user ids we are root over, None for all of them: fewer in a user
    namespace, where the kernel makes no devices and no file of /sys or of a group is ours.
    """

    machine: str
    bounding_set: int
    last_capability: int
    hierarchies: tuple[Hierarchy, ...]
    owned_ids: int | None = None
    devices: Hierarchy | None = None


def host_facts() -> HostFacts:
    """Read the facts from /proc of the calling process (proc(5), cgroups(7))."""
    own = Path("/proc/self/cgroup").read_text()
    mountinfo = Path("/proc/self/mountinfo").read_text()
    lists = parse_hierarchies(
        own=own, mountinfo=mountinfo, enabled=lambda _: (), used=("devices",)
    )
    hierarchies = parse_hierarchies(own=own, mountinfo=mountinfo, enabled=_enabled_controllers)
    if owned_ids() is not None:
        hierarchies = tuple(h for h in map(_delegated, hierarchies) if h is not None)
    return HostFacts(
        machine=os.uname().machine,
        bounding_set=_bounding_set(Path("/proc/self/status").read_text()),
        last_capability=int(Path("/proc/sys/kernel/cap_last_cap").read_text()),
        hierarchies=hierarchies,
        owned_ids=owned_ids(),
        devices=next(iter(lists), None),
    )


def _delegated(hierarchy: Hierarchy) -> Hierarchy | None:
    """*hierarchy* with the topmost group on the way to ours that was given to this user.

    On v2 processes move only below a group that is the user's, and whoever delegates leaves none
    in it. Source: Documentation/admin-guide/cgroup-v2.rst, "Delegation Containment".
    """
    ours = PurePosixPath(hierarchy.own_path)
    for group in (*reversed(ours.parents), ours):
        path = f"{hierarchy.mount_point}{group}"
        if os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK):
            return replace(hierarchy, delegated=str(group))
    return None


def _bounding_set(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    return int(line.split()[1], 16)


def _enabled_controllers(mount_point: str) -> tuple[str, ...]:
    try:
        return tuple(Path(mount_point, "cgroup.controllers").read_text().split())
    except OSError:
        return ()
