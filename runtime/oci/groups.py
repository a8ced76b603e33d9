"""Control groups of a bundle: where they are, who is in them, how they are made and removed.

v1, v2 and hybrid machines, looked at hierarchy by hierarchy as ``container.cgroups`` does; here
every controller of v1 gets a group, as runc does it. What is written to them is in ``resources``.
"""

import os
from dataclasses import dataclass

from runtime.errors import SpecError, Unsupported

_LIMITED = {"memory", "cpu", "pids"}
_SIGKILL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted tree of groups and our own place in it."""

    version: int
    controllers: tuple[str, ...]
    mount_point: str
    own_path: str


def hierarchies() -> tuple[Hierarchy, ...]:
    """Those of this machine; a v2 mount counts if limits can be set there, or it stands alone."""
    own = {}
    for line in read_file("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own[names] = path
    found: dict[str, Hierarchy] = {}
    two = None
    for line in read_file("/proc/self/mountinfo").splitlines():
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
    if two is not None and (not found or _LIMITED & {*two.controllers}):
        return (*found.values(), two)
    return tuple(found.values())


def _hierarchy(
    version: int, controllers: tuple[str, ...], point: str, root: str, path: str
) -> Hierarchy:
    if version == 2:
        controllers = tuple(read_file(f"{point}/cgroup.controllers").split())
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


def make(found: tuple[Hierarchy, ...], path: str) -> None:
    """Make the group *path* in every hierarchy."""
    for hierarchy in found:
        _make_down(hierarchy, own_place(hierarchy, path))


def _make_down(hierarchy: Hierarchy, place: str) -> None:
    at = hierarchy.mount_point
    for part in place.removeprefix(at).strip("/").split("/"):
        if hierarchy.version == 2:
            for name in hierarchy.controllers:
                try:
                    write_file(f"{at}/cgroup.subtree_control", f"+{name}")
                except OSError:
                    pass  # one that cannot be handed down is missed when a limit is written
        above, at = at, f"{at}/{part}"
        try:
            os.mkdir(at, 0o755)
        except FileExistsError:
            pass
        if "cpuset" in hierarchy.controllers and hierarchy.version == 1:
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not read_file(f"{at}/{file}").strip():
                    write_file(f"{at}/{file}", read_file(f"{above}/{file}").strip())


def members(places: list[str]) -> list[int]:
    """The pids in the groups and all below them."""
    found: set[int] = set()
    for place in places:
        for directory, _, _ in os.walk(place):
            try:
                found |= {*map(int, read_file(f"{directory}/cgroup.procs").split())}
            except OSError:
                continue
    return sorted(found - {0})


def freeze(places: list[str], *, frozen: bool) -> None:
    """Stop or go on. Raises Unsupported where there is no freezer."""
    for place in places:
        if os.path.exists(f"{place}/cgroup.freeze"):
            write_file(f"{place}/cgroup.freeze", "1" if frozen else "0")
            return
        if os.path.exists(f"{place}/freezer.state"):
            write_file(f"{place}/freezer.state", "FROZEN" if frozen else "THAWED")
            return
    raise Unsupported("no control group of this container can be frozen", remedy="use cgroup v2")


def is_frozen(places: list[str]) -> bool:
    """Whether the groups are stopped."""
    for place in places:
        for file, words in (("freezer.state", ("FROZEN", "FREEZING")), ("cgroup.freeze", ("1",))):
            try:
                if read_file(f"{place}/{file}").strip() in words:
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
        try:
            os.rmdir(place)
        except FileNotFoundError:
            continue
        except OSError:  # there are groups below it
            _remove_below(place)


def _remove_below(place: str) -> None:
    for directory, _, _ in os.walk(place, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue


def read_file(path: str) -> str:
    """What a file of the kernel tells."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def write_file(path: str, value: str) -> None:
    """Tell a file of the kernel *value*, in one call. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
