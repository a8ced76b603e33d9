"""Device files that a container is given, and what keeps it from all others.

A container without CAP_MKNOD has no way to a device but the files in its /dev: nothing else is
mounted so that device files work. Only one that may make device files, or is given some, needs
the kernel to ask at each opening; then it gets a list of what is allowed, in the words of each
cgroup version. Sources: Documentation/admin-guide/cgroup-v1/devices.rst, cgroup-v2.rst ("Device
controller").
"""

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EEXIST
from pathlib import Path
from typing import Literal

from runtime.container.device_program import NOTHING, Rule, device_program
from runtime.container.steps import Slot, Step
from runtime.errors import SpecError

OURS = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0),
}  # fmt: skip
"""What every container has. Name -> major, minor (Documentation/admin-guide/devices.txt)."""

RESERVED = frozenset(
    {*OURS, "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue", "console"}
)
"""The names in /dev that are the container's own."""

_TERMINALS = (("c", 5, 2), ("c", 136, None))
"""The multiplexer, and the terminals that come of it; None is every minor number."""

_ACCESS = re.compile(r"r?w?m?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device file at *path* in the container; *access* of r(ead), w(rite), m(ake another)."""

    path: str
    kind: Literal["b", "c"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


def find_device(text: str) -> Device:
    """The device that ``HOST[:PATH][:rwm]`` asks for, as it is on this machine now.

    Raises SpecError.
    """
    host, path, access = _parts(text)
    try:
        status = Path(host).stat()
    except OSError as error:
        raise SpecError(
            f"no device {host!r} here: {error.strerror}", remedy="see: ls -l /dev"
        ) from None
    except ValueError:
        raise SpecError(f"{host!r} holds a NUL character", remedy="remove it") from None
    return _device(path, status, access, host)


def host_devices() -> tuple[Device, ...]:
    """Every device file of this machine's /dev that a container does not have of its own."""
    found = []
    for directory, names, files in os.walk("/dev"):
        if directory == "/dev":
            names[:] = [name for name in names if name not in RESERVED]
        for name in files:
            path = posixpath.join(directory, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:  # unplugged meanwhile
                continue
            is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
            if is_device and path.removeprefix("/dev/") not in RESERVED:
                found.append(_device(path, status, "rwm", path))
    return tuple(sorted(found, key=lambda device: device.path))


def plan_devices(devices: tuple[Device, ...]) -> Iterator[Step]:
    """Steps that make the files of *devices*; our own /dev is there and still empty."""
    made: set[str] = set()
    for device in devices:
        for above in _above(device.path):
            if above not in made:
                made.add(above)
                yield Step(
                    "mkdir", (above, 0o755), "somewhere to put it", allow=frozenset({EEXIST})
                )
        kind = stat.S_IFBLK if device.kind == "b" else stat.S_IFCHR
        number = os.makedev(device.major, device.minor)
        yield Step("mknod", (device.path, kind | device.mode, number), "a device it was given")
        if (device.uid, device.gid) != (0, 0):
            yield Step("chown", (device.path, device.uid, device.gid), "as it is on the host")


def rules(devices: tuple[Device, ...]) -> tuple[Rule, ...]:
    """All that a container which was given *devices* may reach.

    Each may be made, since its file is made in the container; what it is made for stays limited.
    """
    own = (Rule(kind="c", major=major, minor=minor) for major, minor in OURS.values())
    terminals = (Rule(kind=kind, major=major, minor=minor) for kind, major, minor in _TERMINALS)
    given = (
        Rule(kind=d.kind, major=d.major, minor=d.minor, access=d.access.rstrip("m") + "m")
        for d in devices
    )
    return (*own, *terminals, *given)


def plan_list(path: str, version: int, devices: tuple[Device, ...]) -> Iterator[Step]:
    """Steps that let the group at *path* reach *devices*, what it has anyway, and nothing else."""
    allowed = rules(devices)
    if version == 1:
        yield Step("write", (f"{path}/devices.deny", "a"), "no device at all, but:")
        for rule in allowed:
            minor = "*" if rule.minor is None else rule.minor
            text = f"{rule.kind} {rule.major}:{minor} {rule.access}"
            yield Step("write", (f"{path}/devices.allow", text), "it may reach this one")
        return
    directory = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    yield Step("openat2", (-100, path, directory, 0), "the group itself", opens="group")
    why = f"a program that lets {len(allowed)} kinds of devices pass"
    yield Step("bpf_prog_load", (device_program((NOTHING, *allowed)),), why, opens="list")
    yield Step("bpf_prog_attach", (Slot("group"), Slot("list")), "it is asked at each opening")
    yield Step("close", (Slot("list"),), "the group keeps it")
    yield Step("close", (Slot("group"),), "that was all")


def _parts(text: str) -> tuple[str, str, str]:
    """The host's path, the container's, the access."""
    host, *more = text.split(":")
    path, access = host, "rwm"
    if more and (more[0].startswith("/") or len(more) > 1):
        path, *more = more
    if more:
        access, *more = more
    if more or not host.startswith("/") or not access or not _ACCESS.fullmatch(access):
        raise SpecError(
            f"{text[:80]!r} is no device",
            remedy="write /dev/NAME[:/dev/NAME][:rwm], letters in this order",
        )
    return host, path, access


def _device(path: str, status: os.stat_result, access: str, host: str) -> Device:
    is_block = stat.S_ISBLK(status.st_mode)
    if not is_block and not stat.S_ISCHR(status.st_mode):
        raise SpecError(f"{host!r} is no device file", remedy="see: ls -l /dev")
    normal = posixpath.normpath(path)
    if "\0" in path or not normal.startswith("/dev/") or normal.split("/")[2] in RESERVED:
        raise SpecError(
            f"a device cannot be put at {path!r}: it must be below /dev, beside what is there",
            remedy="write /dev/NAME:/dev/OTHER",
        )
    return Device(
        path=normal,
        kind="b" if is_block else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode) & 0o777,
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")[2:-1]
    for depth in range(1, len(parts) + 1):
        yield "/dev/" + "/".join(parts[:depth])
