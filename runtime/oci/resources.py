"""``linux.resources``: what it comes to in the files of each hierarchy, and how that is written.

Conversions from v1 to v2: config-linux.md and Documentation/admin-guide/cgroup-v2.rst. What no
hierarchy of this machine can keep is refused by name before anything is done.
"""

import os
from collections.abc import Iterator, Mapping

from runtime.errors import RuntimeFault, SpecError, Unsupported
from runtime.oci.document import Reader
from runtime.oci.groups import Hierarchy, own_place, write_file

_MOST = (1 << 63) - 1
_SWAP = "memory.memsw.limit_in_bytes"
"""What a kernel that does not account for swap lacks."""
_MEMBERS = {"cpuset": "cpu.cpus and cpu.mems", "blkio": "blockIO"}
"""Controller -> its member of ``linux.resources``, where that has another name."""
_ALL = Hierarchy(
    version=1, controllers=("memory", "cpu", "cpuset", "pids", "blkio"),
    mount_point="", own_path="/",
)  # fmt: skip
"""What v1 can have; it yields a setting for every member that asks for something."""
_UNLIMITED = frozenset({"-1", "max"})

DeviceRule = tuple[bool, str, int | None, int | None, str]
"""Whether it allows, the kind (``a`` for all), major, minor, access; None is every number."""
_EVERY_CONTAINERS: tuple[DeviceRule, ...] = (
    (True, "c", None, None, "m"), (True, "b", None, None, "m"),
    *((True, "c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    (True, "c", 5, 0, "rwm"), (True, "c", 5, 2, "rwm"), (True, "c", 136, None, "rwm"),
)  # fmt: skip


def check(found: tuple[Hierarchy, ...], resources: Mapping[str, object]) -> None:
    """Raise SpecError for what is wrong, Unsupported for what no hierarchy here could keep."""
    for hierarchy in found:
        list(settings(hierarchy, resources))
    offered = {controller for hierarchy in found for controller in hierarchy.controllers}
    offered |= {"blkio"} if "io" in offered else set()
    for file, value in settings(_ALL, resources):
        controller = file.partition(".")[0]
        if controller not in offered and value not in _UNLIMITED:
            member = _MEMBERS.get(controller, controller)
            raise Unsupported(
                f"linux.resources.{member}: no cgroup hierarchy here controls {controller}",
                remedy="mount the controller or leave the limit out",
            )
    versions = {hierarchy.version for hierarchy in found}
    if "devices" not in offered and 2 not in versions and any(device_rules(resources)):
        raise Unsupported(
            "linux.resources.devices: no cgroup hierarchy here controls devices",
            remedy="mount the controller or leave the rules out",
        )
    if 2 not in versions and Reader(dict(resources), "linux.resources").mapping("unified"):
        raise Unsupported(
            "linux.resources.unified: no cgroup v2 controls anything here",
            remedy="boot with cgroup v2, or use the other members",
        )


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
        yield from map(_line, device_rules(resources))
    weight = reader.inner("blockIO").number("weight", None, high=1000)
    if weight and "blkio" in hierarchy.controllers:
        yield "blkio.bfq.weight", str(weight)
    if weight and "io" in hierarchy.controllers:
        yield "io.bfq.weight", str(1 + (weight - 10) * 9999 // 990)
    reader.inner("blockIO").refuse(
        "weightDevice", "throttleReadBpsDevice", "throttleWriteBpsDevice",
        "throttleReadIOPSDevice", "throttleWriteIOPSDevice",
    )  # fmt: skip
    for file, value in reader.mapping("unified").items():
        if "/" in file or "." not in file:
            raise SpecError(f"linux.resources.unified: {file!r} is no file", remedy="correct it")
        if hierarchy.version == 2:
            yield file, value


def _memory(reader: Reader, version: int) -> Iterator[tuple[str, str]]:  # noqa: C901 - a table
    numbers = {
        name: reader.number(name, None, low=-1, high=_MOST)
        for name in ("limit", "swap", "reservation")
    }
    reader.refuse("kernel", "kernelTCP")
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
    reader.refuse("swappiness", "disableOOMKiller", remedy="cgroup v2 has no such file")
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


def device_rules(resources: Mapping[str, object]) -> Iterator[DeviceRule]:
    """The list of rules, the last word of which counts, and what every container needs."""
    reader = Reader(dict(resources), "linux.resources")
    for rule in reader.objects("devices"):
        kind, access = rule.text("type", "a"), rule.text("access", "rwm")
        if kind not in {"a", "b", "c", "u", "p"} or not access or {*access} - {*"rwm"}:
            raise SpecError(f"{rule.place} is no device rule", remedy="correct it")
        major, minor = (_device_number(rule, name) for name in ("major", "minor"))
        if kind == "a":
            major, minor, access = None, None, "rwm"
        kind = "c" if kind == "u" else kind
        if kind != "p":  # a pipe is nobody's device
            yield rule.flag("allow"), kind, major, minor, access
    if reader.has("devices"):
        yield from _EVERY_CONTAINERS


def _device_number(rule: Reader, name: str) -> int | None:
    number = rule.number(name, -1, low=-1, high=(1 << 20) - 1)
    return None if number == -1 else number


def _line(rule: DeviceRule) -> tuple[str, str]:
    """v1: a file and the line that is written to it."""
    allow, kind, major, minor, access = rule
    numbers = ":".join("*" if number is None else str(number) for number in (major, minor))
    line = "a" if kind == "a" else f"{kind} {numbers} {access}"
    return ("devices.allow" if allow else "devices.deny"), line


def write(found: tuple[Hierarchy, ...], path: str, resources: Mapping[str, object]) -> None:
    """Write what *resources* ask for. Raises RuntimeFault, SpecError."""
    for hierarchy in found:
        place = own_place(hierarchy, path)
        retry = []
        for file, value in settings(hierarchy, resources):
            try:
                write_file(f"{place}/{file}", value)
            except FileNotFoundError:
                if file != _SWAP:
                    raise RuntimeFault(f"this kernel has no {file}") from None
            except OSError:
                retry.append((file, value))  # limit and swap must be raised in another order
        for file, value in reversed(retry):
            try:
                write_file(f"{place}/{file}", value)
            except OSError as error:
                raise RuntimeFault(f"cannot write {value} to {file}: {error.strerror}") from None


def list_devices(found: tuple[Hierarchy, ...], path: str, resources: Mapping[str, object]) -> None:
    """On a machine of v2 let a program decide on devices, as v1 does by a list in a file."""
    rules = tuple(device_rules(resources))
    two = next((hierarchy for hierarchy in found if hierarchy.version == 2), None)
    if not rules or two is None or any("devices" in h.controllers for h in found):
        return
    from runtime import syscalls  # noqa: PLC0415 - v1 needs no system call
    from runtime.container.device_program import Rule, device_program  # noqa: PLC0415

    program = device_program(
        tuple(
            Rule(kind=None if k == "a" else k, major=major, minor=minor, access=a, allow=allow)
            for allow, k, major, minor, a in rules
        )
    )
    directory = os.open(own_place(two, path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = syscalls.bpf_prog_load(program)
        try:
            syscalls.bpf_prog_attach(directory, loaded)
        finally:
            os.close(loaded)
    finally:
        os.close(directory)
