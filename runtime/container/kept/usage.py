"""What a running container uses: read from its control groups and from /proc, when asked.

Sources: cgroup-v1/memory.rst, cpuacct.rst, cgroup-v2.rst, proc(5), proc_pid_net(5).
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.container.cgroups import Group, members, place, plan_limits
from runtime.container.kept.record import Record
from runtime.container.launch.interpreter import run_steps
from runtime.container.spec import Limits
from runtime.errors import StepError

_NO_LIMIT_BYTES = 1 << 62
"""What the kernel shows of a v1 group without a limit is more than this."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a container. None is what nothing here counts.

    *memory_bytes* is without the page cache that the kernel would give back first.
    """

    at_ns: int
    cpu_ns: int | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    processes: int | None
    received_bytes: int | None
    sent_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process inside, as the host sees it."""

    pid: int
    parent: int
    uid: int
    cpu_s: float
    command: str


def read_usage(record: Record, pid: int) -> Reading:
    """What the container uses now whose init is the process *pid*."""
    groups = _groups(record)
    received, sent = _network(pid)
    return Reading(
        at_ns=time.monotonic_ns(),
        cpu_ns=_cpu_ns(groups),
        memory_bytes=_memory_bytes(groups),
        memory_limit_bytes=_limit_bytes(groups),
        processes=_first(groups, "pids", "pids.current", "pids.current"),
        received_bytes=received,
        sent_bytes=sent,
    )


def running_in(record: Record, init: int) -> tuple[Running, ...]:
    """The processes of the container whose init is the process *init*."""
    pids = {pid for group in _groups(record) for pid in members(Path(group.path))} or {init}
    found = (_running(pid) for pid in sorted(pids))
    return tuple(each for each in found if each is not None)


def write_limits(record: Record, limits: Limits) -> None:
    """Give the groups of a running container new limits. Raises Unsupported, StepError.

    On v1 memory may not exceed memory with swap at any moment: one of two orders works.
    """
    steps = tuple(plan_limits(_groups(record), limits))
    try:
        run_steps(steps)
    except StepError:
        run_steps(tuple(reversed(steps)))
        run_steps(steps)


def _groups(record: Record) -> tuple[Group, ...]:
    return place(record.hierarchies, record.id, None)


def _first(groups: Sequence[Group], controller: str, one: str, two: str) -> int | None:
    """The number in the file *one* (v1) or *two* (v2) of the group that has *controller*."""
    for group in groups:
        if controller in group.hierarchy.controllers:
            with suppress(OSError, ValueError):
                name = one if group.hierarchy.version == 1 else two
                return int((Path(group.path) / name).read_text())
    return None


def _cpu_ns(groups: Sequence[Group]) -> int | None:
    for group in groups:
        with suppress(OSError, StopIteration, ValueError):
            if group.hierarchy.version == 2:
                return _field(Path(group.path) / "cpu.stat", "usage_usec") * 1000
            if "cpuacct" in group.hierarchy.controllers:
                return int((Path(group.path) / "cpuacct.usage").read_text())
    return None


def _memory_bytes(groups: Sequence[Group]) -> int | None:
    used = _first(groups, "memory", "memory.usage_in_bytes", "memory.current")
    for group in groups:
        if used is not None and "memory" in group.hierarchy.controllers:
            name = "total_inactive_file" if group.hierarchy.version == 1 else "inactive_file"
            with suppress(OSError, StopIteration, ValueError):
                return max(0, used - _field(Path(group.path) / "memory.stat", name))
    return used


def _limit_bytes(groups: Sequence[Group]) -> int | None:
    """None is no limit: in v2 that is the word ``max``, which is no number."""
    limit = _first(groups, "memory", "memory.limit_in_bytes", "memory.max")
    return None if limit is None or limit >= _NO_LIMIT_BYTES else limit


def _field(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == name)


def _network(pid: int) -> tuple[int | None, int | None]:
    """Bytes received and sent by all interfaces of the process's network but the loopback."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return None, None
    counts = [
        line.partition(":")[2].split() for line in lines if line.split(":")[0].strip() != "lo"
    ]
    return sum(int(each[0]) for each in counts), sum(int(each[8]) for each in counts)


def _running(pid: int) -> Running | None:
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        name = stat.partition("(")[2].rpartition(")")[0]
        fields = stat.rpartition(")")[2].split()
        raw = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
        return Running(
            pid=pid,
            parent=int(fields[1]),
            uid=Path(f"/proc/{pid}").stat().st_uid,
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
            command=raw.replace(b"\0", b" ").decode(errors="replace") or f"[{name}]",
        )
    return None


def cpus_used(before: Reading | None, now: Reading) -> float | None:
    """How many cpus it has used between two looks."""
    if before is None or before.cpu_ns is None or now.cpu_ns is None:
        return None
    return (now.cpu_ns - before.cpu_ns) / max(1, now.at_ns - before.at_ns)
