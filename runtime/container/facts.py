"""What the plan must know of this machine, read once and handed on as a value."""

import os
from dataclasses import dataclass
from pathlib import Path

from runtime.container.cgroups import Hierarchy, parse_hierarchies


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The machine, as far as a plan depends on it.

    ``machine`` is uname(2)'s; ``bounding_set`` our own, bit n for capability n;
    ``last_capability`` the highest that this kernel knows; ``hierarchies`` the cgroup mounts.
    """

    machine: str
    bounding_set: int
    last_capability: int
    hierarchies: tuple[Hierarchy, ...]


def host_facts() -> HostFacts:
    """Read the facts from /proc of the calling process (proc(5), cgroups(7))."""
    return HostFacts(
        machine=os.uname().machine,
        bounding_set=_bounding_set(Path("/proc/self/status").read_text()),
        last_capability=int(Path("/proc/sys/kernel/cap_last_cap").read_text()),
        hierarchies=parse_hierarchies(
            own=Path("/proc/self/cgroup").read_text(),
            mountinfo=Path("/proc/self/mountinfo").read_text(),
            enabled=_enabled_controllers,
        ),
    )


def _bounding_set(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    return int(line.split()[1], 16)


def _enabled_controllers(mount_point: str) -> tuple[str, ...]:
    try:
        return tuple(Path(mount_point, "cgroup.controllers").read_text().split())
    except OSError:
        return ()
