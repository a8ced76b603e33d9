"""Reads what an instance costs, from outside: memory by several definitions, disk as allocated.

The definitions disagree by design; each reading names its own. Sources: proc_pid_smaps_rollup(5),
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst, stat(2).
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backend import Reading

_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """One process's memory: its share, what is its alone, all that it has mapped; in bytes."""

    pss_bytes: int
    uss_bytes: int
    rss_bytes: int


def rollup(pid: int) -> Rollup | None:
    """The memory of *pid*, or None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    fields = {
        line.partition(":")[0]: int(line.split()[1]) * _KIB
        for line in text.splitlines()[1:]
        if line.endswith("kB")
    }
    if "Pss" not in fields:
        return None
    return Rollup(
        pss_bytes=fields["Pss"],
        uss_bytes=fields["Private_Clean"] + fields["Private_Dirty"],
        rss_bytes=fields["Rss"],
    )


def memory(pids: Iterable[int]) -> Mapping[str, Reading]:
    """``pss``, ``uss`` and ``rss`` summed over *pids*; one that ended meanwhile adds nothing."""
    parts = [part for pid in pids if (part := rollup(pid)) is not None]
    source = f"/proc/PID/smaps_rollup of {len(parts)} process(es)"
    return {
        "pss": Reading(value_bytes=sum(p.pss_bytes for p in parts), method=f"Pss in {source}"),
        "uss": Reading(value_bytes=sum(p.uss_bytes for p in parts), method=f"Private in {source}"),
        "rss": Reading(value_bytes=sum(p.rss_bytes for p in parts), method=f"Rss in {source}"),
    }


def descendants(pid: int) -> tuple[int, ...]:
    """The processes that descend from *pid*, without it. Source: proc(5), task/TID/children."""
    found: list[int] = []
    for task in _tasks(pid):
        with suppress(OSError):
            children = [int(child) for child in (task / "children").read_text().split()]
            for child in children:
                found += [child, *descendants(child)]
    return tuple(found)


def allocated_bytes(directory: Path) -> int:
    """What is under *directory* occupies, in blocks of its own file system, links once."""
    device = directory.lstat().st_dev
    blocks: dict[int, int] = {}
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            with suppress(OSError):
                status = (Path(parent) / name).lstat()
                if status.st_dev == device:
                    blocks[status.st_ino] = status.st_blocks
                elif name in directories:
                    directories.remove(name)  # something is mounted there
    return sum(blocks.values()) * 512


def group_usage(group: Path) -> Reading | None:
    """What the kernel charges to the control group *group* and all below it, or None."""
    for name in ("memory.current", "memory.usage_in_bytes"):
        with suppress(OSError, ValueError):
            amount = int((group / name).read_text())
            return Reading(
                value_bytes=amount,
                method=f"{name} of the group in which engine and instance were born: "
                "anonymous, kernel and page-cache memory first touched there",
            )
    return None


def _tasks(pid: int) -> Iterable[Path]:
    try:
        return sorted(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return ()
