"""What instances leave on disk while they live, and how the remains of dead owners are removed.

Each instance has a directory with an ``owner.json``: who started it (pid and start time, since
numbers are reused) and which control groups it made. Whoever finds the owner dead may remove it.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from runtime.container.cgroups import kill_members, remove_tree
from runtime.image import state_dir

_REMOVAL_DEADLINE_S = 5.0


def instances_dir() -> Path:
    """Where instances keep what is their own."""
    return state_dir() / "instances"


def record_owner(directory: Path, groups: Sequence[Path]) -> None:
    """Write who owns *directory*, before anything that a crash could leave behind is made."""
    pid = os.getpid()
    text = json.dumps(
        {"pid": pid, "started_ticks": started_ticks(pid), "cgroups": [str(g) for g in groups]}
    )
    temporary = directory / ".owner.json"
    temporary.write_text(text)
    temporary.rename(directory / "owner.json")


def remove_instance(directory: Path) -> None:
    """Kill what still runs in the instance's groups, remove them, then its files."""
    for group in _groups(directory):
        _empty(group)
        remove_tree(group)
    shutil.rmtree(directory, ignore_errors=True)


def sweep() -> tuple[str, ...]:
    """Remove every instance whose owner is dead; their ids. Costs one listing if there is none."""
    try:
        directories = sorted(instances_dir().iterdir())
    except FileNotFoundError:
        return ()
    dead = [d for d in directories if not _owner_lives(d)]
    for directory in dead:
        remove_instance(directory)
    return tuple(d.name for d in dead)


def started_ticks(pid: int) -> int | None:
    """When *pid* started, in clock ticks since boot; None if it is gone, or waits to be reaped.

    Source: proc(5), stat.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _owner_lives(directory: Path) -> bool:
    owner = _owner(directory)
    if owner is None:
        # No record yet: the owner may be between two steps, so only an old one is dead.
        with suppress(OSError):
            age_s = time.clock_gettime(time.CLOCK_REALTIME) - directory.stat().st_mtime
            return age_s < _REMOVAL_DEADLINE_S
        return True
    pid, ticks = owner["pid"], owner["started_ticks"]
    return isinstance(pid, int) and ticks is not None and started_ticks(pid) == ticks


def _owner(directory: Path) -> dict[str, object] | None:
    try:
        record = json.loads((directory / "owner.json").read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"pid", "started_ticks"} <= set(record) else None


def _groups(directory: Path) -> tuple[Path, ...]:
    """The recorded groups, if they look like ours: below a cgroup mount, named as *directory*."""
    recorded = (_owner(directory) or {}).get("cgroups", [])
    paths = [Path(p) for p in recorded if isinstance(p, str)] if isinstance(recorded, list) else []
    return tuple(
        p
        for p in paths
        if p.name.removeprefix("isoscope-") == directory.name
        and p.is_relative_to("/sys/fs/cgroup")
    )


def _empty(group: Path) -> None:
    """Kill the group's members until none is left; a dying process leaves it a moment later."""
    deadline_ns = time.monotonic_ns() + int(_REMOVAL_DEADLINE_S * 1e9)
    while kill_members(group) and time.monotonic_ns() < deadline_ns:
        time.sleep(0.002)  # no event tells of a v1 group that became empty
