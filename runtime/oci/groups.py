"""Control groups of a bundle: where they are, and what its resources come to there.

v1, v2 and hybrid machines, looked at hierarchy by hierarchy as ``container.cgroups`` does; here
every controller of v1 gets a group, as runc does it. Conversions from v1 to v2: config-linux.md
and Documentation/admin-guide/cgroup-v2.rst. The v2 files have not run on a machine whose
controllers are bound to v2.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.errors import RuntimeFault, SpecError, Unsupported
from runtime.oci.document import Reader

_MOST = (1 << 63) - 1
_SIGKILL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted tree of groups and our own place in it."""

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    own_path: str


def hierarchies() -> tuple[Hierarchy, ...]:
    """Those of this machine; a v2 mount counts if it controls memory, or stands alone."""
    own = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own[names] = path
    found: dict[str, Hierarchy] = {}
    two = None
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        root, point = left.split(" ")[3:5]
        if kind == "cgroup2" and "" in own:
            two = two or _hierarchy(2, (), point, root, own[""])
        if kind == "cgroup":
            held = {*options.split(",")}
            names = next((n for n in own if n and {*n.split(",")} <= held), "")
            if names and names not in found:
                controllers = tuple(n for n in names.split(",") if not n.startswith("name="))
                if controllers:
                    found[names] = _hierarchy(1, controllers, point, root, own[names])
    if two is not None and not found:
        return (two,)
    return tuple(found.values())


def _hierarchy(
    version: int, controllers: tuple[str, ...], point: str, root: str, path: str
) -> Hierarchy:
    if version == 2:
        controllers = tuple(_read(f"{point}/cgroup.controllers").split())
    own = "/" + path.removeprefix(root).lstrip("/")
    return Hierarchy(version=version, controllers=controllers, mount_point=point, own_path=own)


def own_place(hierarchy: Hierarchy, path: str) -> str:
    """The directory of the group *path*; a relative one is below our own, on v2 below the top."""
    if not path.startswith("/") and hierarchy.version == 1:
        path = f"{hierarchy.own_path.rstrip('/')}/{path}"
    return f"{hierarchy.mount_point}/{path.strip('/')}"


def checked_path(path: str, name: str) -> str:
    """The group's path, of the container's own name if none is given. Raises SpecError."""
    path = path or f"/isoscope-oci-{name}"
    if ":" in path or {".", ".."} & {*path.split("/")} or path.strip("/") == "":
        raise SpecError(
            f"linux.cgroupsPath {path!r} is no path of a control group",
            remedy="give a path without : and ..; --systemd-cgroup is not supported",
        )
    return path


def settings(hierarchy: Hierarchy, resources: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """File and value for what *resources* ask of *hierarchy*. Raises SpecError."""
    reader = Reader(dict(resources), "linux.resources")
    reader.refuse("rdma")
    reader.refuse("hugepageLimits", "network")
    for controller, table in (("memory", _memory), ("cpu", _cpu), ("cpuset", _cpuset)):
        if controller in hierarchy.controllers:
            inner = reader.inner("cpu" if controller == "cpuset" else controller)
            yield from table(inner, hierarchy.version)
    pids = reader.inner("pids").number("limit", None, low=-1, high=_MOST)
    if pids is not None and pids != 0 and "pids" in hierarchy.controllers:
        yield "pids.max", "max" if pids < 0 else str(pids)
    if "devices" in hierarchy.controllers and hierarchy.version == 1:
        yield from _devices(reader)
    weight = reader.inner("blockIO").number("weight", None, high=1000)
    if weight and "blkio" in hierarchy.controllers:
        yield "blkio.bfq.weight", str(weight)
    if weight and "io" in hierarchy.controllers:
        yield "io.bfq.weight", str(1 + (weight - 10) * 9999 // 990)
    reader.inner("blockIO").refuse(
        "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice",
        "throttleReadIOPSDevice", "throttleWriteIOPSDevice",
    )  # fmt: skip
    if hierarchy.version == 2:
        yield from reader.mapping("unified").items()


def _memory(reader: Reader, version: int) -> Iterator[tuple[str, str]]:  # noqa: C901 - a table
    numbers = {
        name: reader.number(name, None, low=-1, high=_MOST)
        for name in ("limit", "swap", "reservation", "kernel", "kernelTCP")
    }
    limit, swap = numbers["limit"], numbers["swap"]
    if version == 1:
        if limit:
            yield "memory.limit_in_bytes", str(limit)
        if swap:
            yield "memory.memsw.limit_in_bytes", str(swap)
        if numbers["reservation"]:
            yield "memory.soft_limit_in_bytes", str(numbers["reservation"])
        swappiness = reader.number("swappiness", None, high=100)
        if swappiness is not None:
            yield "memory.swappiness", str(swappiness)
        if reader.flag("disableOOMKiller"):
            yield "memory.oom_control", "1"
        return
    if swap and swap > 0:
        if not limit or limit < 0 or swap < limit:
            raise SpecError("linux.resources.memory.swap is below its limit", remedy="raise it")
        yield "memory.swap.max", str(swap - limit)
    elif swap:
        yield "memory.swap.max", "max"
    if limit:
        yield "memory.max", "max" if limit < 0 else str(limit)
    if numbers["reservation"]:
        low = numbers["reservation"]
        yield "memory.low", "max" if low < 0 else str(low)


def _cpu(reader: Reader, version: int) -> Iterator[tuple[str, str]]:
    reader.refuse("realtimeRuntime", "realtimePeriod")
    shares = reader.number("shares", None, high=262144)
    quota = reader.number("quota", None, low=-1, high=_MOST)
    period = reader.number("period", None, high=1_000_000)
    burst, idle = reader.number("burst"), reader.number("idle", None, low=0, high=1)
    if version == 1:
        names = {
            "cpu.shares": shares, "cpu.cfs_period_us": period, "cpu.cfs_quota_us": quota,
            "cpu.cfs_burst_us": burst,
        }  # fmt: skip
        yield from ((file, str(value)) for file, value in names.items() if value)
    else:
        if shares:
            yield "cpu.weight", str(1 + (max(shares, 2) - 2) * 9999 // 262142)
        if quota or period:
            most = str(quota) if quota and quota > 0 else "max"
            yield "cpu.max", f"{most} {period or 100_000}"
        if burst:
            yield "cpu.max.burst", str(burst)
    if idle is not None:
        yield "cpu.idle", str(idle)


def _cpuset(reader: Reader, _: int) -> Iterator[tuple[str, str]]:
    for name in ("cpus", "mems"):
        if value := reader.text(name, ""):
            yield f"cpuset.{name}", value


def _devices(reader: Reader) -> Iterator[tuple[str, str]]:
    """v1: a list of rules, the last word of which counts, and what every container needs."""
    for rule in reader.objects("devices"):
        kind, access = rule.text("type", "a"), rule.text("access", "rwm")
        if kind not in {"a", "b", "c", "u", "p"} or not access or {*access} - {*"rwm"}:
            raise SpecError(f"{rule.place} is no device rule", remedy="correct it")
        numbers = [rule.number(n, -1, low=-1, high=(1 << 20) - 1) for n in ("major", "minor")]
        major, minor = ("*" if n in (-1, None) else str(n) for n in numbers)
        file = "devices.allow" if rule.flag("allow") else "devices.deny"
        yield file, "a" if kind == "a" else f"{kind} {major}:{minor} {access}"
    if reader.has("devices"):
        for line in ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                     "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"):  # fmt: skip
            yield "devices.allow", line


def check_devices(found: tuple[Hierarchy, ...], resources: Mapping[str, object]) -> None:
    """Raise Unsupported where device rules could not be kept: they are no file in v2."""
    rules = list(Reader(dict(resources), "linux.resources").objects("devices"))
    if rules and not any("devices" in h.controllers for h in found):
        raise Unsupported(
            "linux.resources.devices needs the devices controller of cgroup v1 here",
            remedy="leave the rules out, or use runc on this machine",
        )


def make(found: tuple[Hierarchy, ...], path: str, resources: Mapping[str, object]) -> list[str]:
    """Make the groups and write *resources*; the directories. Raises RuntimeFault."""
    made = []
    for hierarchy in found:
        place = own_place(hierarchy, path)
        _make_down(hierarchy, place)
        made.append(place)
    write(found, path, resources)
    return made


def write(found: tuple[Hierarchy, ...], path: str, resources: Mapping[str, object]) -> None:
    """Write what *resources* ask for. Raises RuntimeFault, SpecError."""
    for hierarchy in found:
        place = own_place(hierarchy, path)
        retry = []
        for file, value in settings(hierarchy, resources):
            try:
                _write(f"{place}/{file}", value)
            except FileNotFoundError:
                if file not in {
                    "blkio.bfq.weight",
                    "io.bfq.weight",
                    "memory.memsw.limit_in_bytes",
                }:
                    raise RuntimeFault(f"this kernel has no {file}") from None
            except OSError:
                retry.append((file, value))  # limit and swap must be raised in another order
        for file, value in reversed(retry):
            try:
                _write(f"{place}/{file}", value)
            except OSError as error:
                raise RuntimeFault(f"cannot write {value} to {file}: {error.strerror}") from None


def _make_down(hierarchy: Hierarchy, place: str) -> None:
    at = hierarchy.mount_point
    for part in place.removeprefix(at).strip("/").split("/"):
        if hierarchy.version == 2:
            for name in hierarchy.controllers:
                try:
                    _write(f"{at}/cgroup.subtree_control", f"+{name}")
                except OSError:
                    pass  # one that cannot be handed down is missed when a limit is written
        above, at = at, f"{at}/{part}"
        try:
            os.mkdir(at, 0o755)
        except FileExistsError:
            pass
        if "cpuset" in hierarchy.controllers and hierarchy.version == 1:
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not _read(f"{at}/{file}").strip():
                    _write(f"{at}/{file}", _read(f"{above}/{file}").strip())


def members(places: list[str]) -> list[int]:
    """The pids in the groups and all below them."""
    found: set[int] = set()
    for place in places:
        for directory, _, _ in os.walk(place):
            try:
                found |= {*map(int, _read(f"{directory}/cgroup.procs").split())}
            except OSError:
                continue
    return sorted(found - {0})


def freeze(places: list[str], *, frozen: bool) -> None:
    """Stop or go on. Raises Unsupported where there is no freezer."""
    for place in places:
        if os.path.exists(f"{place}/cgroup.freeze"):
            _write(f"{place}/cgroup.freeze", "1" if frozen else "0")
            return
        if os.path.exists(f"{place}/freezer.state"):
            _write(f"{place}/freezer.state", "FROZEN" if frozen else "THAWED")
            return
    raise Unsupported("no control group of this container can be frozen", remedy="use cgroup v2")


def is_frozen(places: list[str]) -> bool:
    """Whether the groups are stopped."""
    for place in places:
        for file, words in (("freezer.state", ("FROZEN", "FREEZING")), ("cgroup.freeze", ("1",))):
            try:
                if _read(f"{place}/{file}").strip() in words:
                    return True
            except OSError:
                continue
    return False


def kill_all(places: list[str], number: int = _SIGKILL) -> bool:
    """Signal everything in the groups; whether there was something."""
    found = members(places)
    for pid in found:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return bool(found)


def remove(places: list[str]) -> None:
    """Remove the empty groups with all below them; what is gone is fine. Raises OSError."""
    for place in places:
        for directory, _, _ in os.walk(place, topdown=False):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
