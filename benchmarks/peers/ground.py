"""Where peers run: a mount namespace of the worker's own, in which nothing of the machine changes.

Peers keep state below ``/run``, ``/etc`` and ``/var`` whatever they are told, leave overlays and
network namespaces mounted when they are killed, and expect that a path of control groups means
the same in every hierarchy. So the worker enters a mount namespace in which

* ``/run`` is empty, and what is written below ``/etc``, ``/var/lib`` and ``/var/cache`` is
  written to memory; only isoscope's own state stays what it is;
* every v1 hierarchy begins at the group in which the worker was born, and a v2 mount beside
  v1 ones is hidden: crun refuses such a mixture.

All of that ends with the last process in the namespace, however it ends. Sources:
mount_namespaces(7), cgroups(7), Documentation/filesystems/overlayfs.rst.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.backend import Limit, Unavailable
from runtime import syscalls
from runtime.container.cgroups import Hierarchy
from runtime.container.facts import HostFacts, host_facts
from runtime.container.state import instances_dir, record_owner
from runtime.errors import SyscallError
from runtime.image import state_dir

RUN = Path("/run/isoscope")
"""Where a worker's peers keep sockets: a short path, because those of sockets end at 108 bytes."""

_COVERED = ("/etc", "/var/lib", "/var/cache")
_LIMITS: dict[str, Limit] = {"cpu": "cpus", "memory": "memory", "pids": "pids"}
_MS_MOVE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What peers can build on; *within* is as for a backend."""

    facts: HostFacts
    within: str | None
    obstacle: Unavailable | None = None

    @property
    def parent(self) -> str:
        """The path of the group in which those of instances are made, in every hierarchy."""
        return f"/isoscope-{self.within}"

    @property
    def enforces(self) -> frozenset[Limit]:
        """Limits that a control group hierarchy here can enforce."""
        offered = {c for h in self.facts.hierarchies for c in h.controllers}
        return frozenset(limit for name, limit in _LIMITS.items() if name in offered)

    def adopt(self, pid: int) -> None:
        """Let what *pid* starts from now on be charged as engine of the instance."""
        for hierarchy in self.facts.hierarchies:
            group = Path(f"{hierarchy.mount_point}{self.parent}/engine")
            (group / "cgroup.procs").write_text(str(pid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A mounted v1 hierarchy, and the group in it in which this worker was born."""

    mount_point: str
    born: str


@contextmanager
def ground(within: str | None) -> Iterator[Ground]:
    """The ground, entered; the old mount namespace is back when the block is left.

    *within* is as for a backend: ``NAME/instance``. The process must have a single thread.
    """
    facts = host_facts()
    if os.geteuid() != 0 or within is None:
        why = Unavailable(
            reason="peers get mounts and control groups of their own, which needs root",
            remedy="run isoscope as root, with cgroups mounted",
        )
        yield Ground(facts=facts, within=within, obstacle=why)
        return
    name = within.partition("/")[0]
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            hierarchies = mounted(
                own=Path("/proc/self/cgroup").read_text(),
                mountinfo=Path("/proc/self/mountinfo").read_text(),
                worker=f"/isoscope-{name}/worker",
            )
            _claim(name, hierarchies, facts.hierarchies)
            _enter(hierarchies)
            made = Ground(facts=facts, within=within)
        except SyscallError as refused:
            why = Unavailable(
                reason=f"a mount namespace of our own cannot be furnished: {refused}",
                remedy="run isoscope as root, with CAP_SYS_ADMIN",
            )
            made = Ground(facts=facts, within=within, obstacle=why)
        yield made
    finally:
        syscalls.setns(before, syscalls.CLONE_NEWNS)
        os.close(before)


def mounted(*, own: str, mountinfo: str, worker: str) -> tuple[Mounted, ...]:
    """The v1 hierarchies of /proc/self/{cgroup,mountinfo}, each once. Pure.

    *worker* is the end of our path where the worker already has a group of its own.
    """
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Mounted] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        root, mount_point = left.split()[3:5]
        kind, _, options = right.split(maxsplit=2)
        named = [paths[o] for o in options.split(",") if o in paths]
        if kind == "cgroup" and named:
            born = named[0].removesuffix(worker).removeprefix(root if root != "/" else "")
            found.setdefault(mount_point, Mounted(mount_point=mount_point, born=born or "/"))
    return tuple(found.values())


def _claim(name: str, all_v1: tuple[Mounted, ...], used: tuple[Hierarchy, ...]) -> None:
    """Write down, as the worker's, the groups that peers will make in hierarchies it does not use.

    So they go when it ends, and a killed worker's when its remains are swept.
    """
    tops = {f"{m.mount_point}{m.born.rstrip('/')}/isoscope-{name}" for m in all_v1}
    tops |= {f"{h.mount_point}/isoscope-{name}" for h in used if h.version == 2}
    record_owner(instances_dir() / name, [Path(top) for top in sorted(tops)])


def _enter(hierarchies: tuple[Mounted, ...]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    state = state_dir().resolve()
    kept = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "")
        RUN.mkdir(mode=0o700)
        for path in _COVERED:
            _cover(path)
        if any(state.is_relative_to(path) for path in ("/run", *_COVERED)):
            state.mkdir(parents=True, exist_ok=True)
            bind = syscalls.MS_BIND | syscalls.MS_REC
            syscalls.mount(f"/proc/self/fd/{kept}", str(state), "", bind, "")
    finally:
        os.close(kept)
    for hierarchy in hierarchies:
        _begin_where_born(hierarchy)
    if hierarchies:
        _hide_v2()


def _cover(path: str) -> None:
    """What is written below *path* goes to memory."""
    layers = RUN / "covered" / path.strip("/").replace("/", "-")
    upper, work = layers / "upper", layers / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    options = f"lowerdir={path},upperdir={upper},workdir={work}"
    syscalls.mount("overlay", path, "overlay", 0, options)


def _begin_where_born(hierarchy: Mounted) -> None:
    if hierarchy.born == "/":
        return
    aside = RUN / "aside"
    aside.mkdir(exist_ok=True)
    place = hierarchy.mount_point
    syscalls.mount(f"{place}{hierarchy.born}", str(aside), "", syscalls.MS_BIND, "")
    syscalls.umount2(place, syscalls.MNT_DETACH)
    syscalls.mount(str(aside), place, "", _MS_MOVE, "")


def _hide_v2() -> None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            syscalls.umount2(left.split()[4], syscalls.MNT_DETACH)
