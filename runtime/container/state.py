"""What instances leave on disk while they live, and how the remains of dead owners are removed.

Each instance has a directory with an ``owner.json``: who started it (pid and start time, since
numbers are reused) and which control groups it made. Whoever finds the owner dead may remove it,
unless its ``record.json`` says that it is kept; then only its groups go.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runtime.container.cgroups import kill_members, remove_tree
from runtime.errors import RuntimeFault
from runtime.image import state_dir
from runtime.image.durable import locked_directory_if_free, locked_if_free
from runtime.image.removal import remove_tree as remove_files

RECORD = "record.json"
"""Stands in the directory of an instance that can be found again; see ``kept.record``."""

READERS = "readers"
"""Who reads what an instance left holds a shared lock on this file in its directory."""

_REMOVAL_DEADLINE_S = 5.0
_NAME = re.compile(r"(?:[a-z]-)?[0-9a-f]{10,12}")
"""How instances, workers and trials are called."""


def instances_dir() -> Path:
    """Where instances keep what is their own."""
    return state_dir() / "instances"


def new_directory(name: str) -> Path:
    """Make the directory of a new instance, for its owner's eyes only.

    What a container writes lies below it, set-uid programs included: nobody else on this machine
    may reach them. Raises OSError.
    """
    parent = instances_dir()
    parent.mkdir(parents=True, exist_ok=True)
    parent.chmod(0o700)
    directory = parent / name
    directory.mkdir(mode=0o700)
    return directory


def record_owner(
    directory: Path, groups: Sequence[Path], *, image: str | None = None, pid: int | None = None
) -> None:
    """Write who owns *directory*, before anything that a crash could leave behind is made.

    *image* is the digest of the image whose unpacked tree the instance stands on. *pid* is the
    owner's if it is not this process: the executor's, where it is to stay when we go.
    """
    record = {
        "pid": os.getpid() if pid is None else pid,
        "started_ticks": _our_ticks(os.getpid()) if pid is None else started_ticks(pid),
        "cgroups": [str(group) for group in groups],
        "image": image,
    }
    text = json.dumps(record)
    temporary = directory / ".owner.json"
    temporary.write_text(text)
    temporary.rename(directory / "owner.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an instance ended that nobody waited for; *ended_ns* is of CLOCK_REALTIME."""

    exit_status: int
    ended_ns: int


def read_end(directory: Path) -> End | None:
    """What the executor of the instance in *directory* wrote down; None if it has not ended."""
    try:
        record = json.loads((directory / "end.json").read_text())
    except FileNotFoundError:
        return None
    return End(exit_status=record["exit_status"], ended_ns=record["ended_ns"])


def open_gate(directory: Path) -> None:
    """Start what waits at the FIFO ``gate`` of *directory*. RuntimeFault if nothing does."""
    try:
        gate = os.open(directory / "gate", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:  # ENXIO: nobody holds it open
        raise RuntimeFault(f"{directory.name} does not wait to be started") from error
    try:
        os.write(gate, b"S")
    finally:
        os.close(gate)


def remove_instance(directory: Path, groups: Sequence[Path] | None = None) -> None:
    """Kill what still runs in the instance's groups, remove them, then its files.

    The *groups* are those recorded, unless the caller knows them.
    """
    for group in groups_of(directory) if groups is None else groups:
        _remove_group(group)
    _remove_mark(directory)
    remove_files(directory)


def instances_of(image: str) -> tuple[str, ...]:
    """The ids of the living or kept instances that stand on the image with the digest *image*."""
    try:
        directories = sorted(instances_dir().iterdir())
    except FileNotFoundError:
        return ()
    return tuple(
        d.name
        for d in directories
        if (_owner(d) or {}).get("image") == image and (_owner_lives(d) or is_kept(d))
    )


def sweep() -> tuple[str, ...]:
    """Remove every instance whose owner is dead; their ids. Costs one listing if there is none.

    Of those that are kept only the groups are removed, and they are not told of.
    """
    try:
        directories = sorted(instances_dir().iterdir())
    except FileNotFoundError:
        return ()
    dead = [d for d in directories if not _owner_lives(d)]
    return tuple(d.name for d in dead if not _is_tidied(d) and _removed(d))


def is_kept(directory: Path) -> bool:
    """Whether the instance in *directory* is to stay when it has ended.

    A record that cannot be read is kept: it is somebody's, and ``rm`` removes it.
    """
    try:
        record = json.loads((directory / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return not isinstance(record, dict) or record.get("is_kept") is not False


def remove_groups(directory: Path) -> None:
    """Kill what still runs in the recorded groups of *directory*, and remove them."""
    for group in groups_of(directory):
        _remove_group(group)


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


@cache
def _our_ticks(pid: int) -> int | None:
    """As ``started_ticks``, of this very process: it cannot change."""
    return started_ticks(pid)


def _is_tidied(directory: Path) -> bool:
    """Whether nothing is left to do for the ended instance in *directory*: it is to stay."""
    if not is_kept(directory):
        return False
    with suppress(OSError), locked_directory_if_free(directory) as is_ours:
        if is_ours and not _owner_lives(directory):  # nobody starts it again meanwhile
            remove_groups(directory)
    return True


def _removed(directory: Path) -> bool:
    """Whether *directory* could be removed; one that cannot be must not keep the others.

    Who waits for its end may still read how it was.
    """
    with suppress(OSError), ExitStack() as undo:
        if (directory / READERS).exists() and not undo.enter_context(
            locked_if_free(directory / READERS)
        ):
            return False
        remove_instance(directory)
    return not directory.exists()


def _remove_group(group: Path) -> None:
    if not _is_removed(group):
        _empty(group)
        remove_tree(group)


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


def groups_of(directory: Path) -> tuple[Path, ...]:
    """The recorded groups, if they look like ours: below a cgroup mount, named as *directory*."""
    recorded = (_owner(directory) or {}).get("cgroups", [])
    paths = [Path(p) for p in recorded if isinstance(p, str)] if isinstance(recorded, list) else []
    return tuple(path for path in paths if _looks_ours(path, directory.name))


def inits_of(directory: Path) -> Iterator[int]:
    """The living init of the container in *directory*: 1 in a namespace, child of its executor."""
    owner = (_owner(directory) or {}).get("pid")
    for executor in _children(owner):
        for pid in _children(executor):
            with suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if re.search(r"^NSpid:.*\t1$", status, re.MULTILINE):
                    yield pid


def _children(pid: object) -> Iterator[int]:
    with suppress(OSError):
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _looks_ours(path: Path, name: str) -> bool:
    ours = [part for part in path.parts if part.startswith("isoscope-")]
    return (
        _NAME.fullmatch(name) is not None
        and path.name.removeprefix("isoscope-") == name
        and bool(ours)
        and ".." not in path.parts
        and path.is_relative_to("/sys/fs/cgroup")
    )


def _remove_mark(directory: Path) -> None:
    """The mark of a volatile overlay: four levels that the kernel made, quickest from below.

    Source: Documentation/filesystems/overlayfs.rst. What is not as expected is left to others.
    """
    mark = "/".join((str(directory), "work", "work", "incompat", "volatile"))
    with suppress(OSError):
        os.unlink(f"{mark}/dirty")  # noqa: PTH108 - paths of pathlib cost more than the calls
        os.removedirs(mark)


def _is_removed(group: Path) -> bool:
    """Remove *group* if nothing is in it, as when its container's init has ended."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def _empty(group: Path) -> None:
    """Kill the group's members until none is left; a dying process leaves it a moment later."""
    deadline_ns = time.monotonic_ns() + int(_REMOVAL_DEADLINE_S * 1e9)
    while kill_members(group) and time.monotonic_ns() < deadline_ns:
        time.sleep(0.002)  # no event tells of a v1 group that became empty
