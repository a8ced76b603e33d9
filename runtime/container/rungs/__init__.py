"""What this machine can do for containers: each rung is tried for real, and leaves nothing.

Milliseconds each. What a process could not undo is tried in a process of its own (``attempt``),
what lies in the file system or in control groups is recorded first as an instance's would be, so
that the next start of anything removes it if we are killed in between. To be climbed by a process
with one thread.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from runtime.container.facts import host_facts
from runtime.container.rungs.files import devices_rung, groups_rung, overlay_rung
from runtime.container.rungs.links import NETWORKS, network_rung
from runtime.container.rungs.programs import executor_rung
from runtime.container.rungs.rights import (
    capabilities_rung,
    namespaces_rung,
    root_rung,
    seccomp_rung,
    user_namespace_rungs,
)
from runtime.container.rungs.rung import Rung

__all__ = ["Rung", "rungs"]


def rungs() -> Iterator[Rung]:
    """The rungs from who we are to networks, each tried when it is asked for."""
    root = root_rung()
    yield root
    status = Path("/proc/self/status").read_text()
    yield _upon(root, "capabilities", partial(capabilities_rung, status))
    yield from user_namespace_rungs()
    namespaces = _upon(root, "namespaces", namespaces_rung)
    yield namespaces
    yield _upon(namespaces, "overlay", overlay_rung)
    yield _upon(namespaces, "device files", devices_rung)
    mountinfo = Path("/proc/self/mountinfo").read_text()
    yield _upon(root, "control groups", partial(groups_rung, host_facts().hierarchies, mountinfo))
    yield seccomp_rung(os.uname().machine)
    yield executor_rung()
    yield _upon(namespaces, "network", network_rung, costs=NETWORKS)


def _upon(
    below: Rung,
    name: str,
    attempt: Callable[[], Rung],
    *,
    costs: tuple[str, ...] = ("container",),
) -> Rung:
    """What stands on a rung that is not there would only repeat its refusal."""
    if below.ok:
        return attempt()
    is_root_missing = below.name == "root" or below.ok is None
    why = "only root could use it" if is_root_missing else f"{below.name} failed"
    return Rung(name=name, ok=None, found=f"not tried: {why}", costs=costs)
