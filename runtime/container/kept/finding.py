"""From what a user writes to a container: by name, by id, or by a part of it that only it has."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.container.kept.record import Record, read_record
from runtime.container.state import READERS, RECORD, instances_dir
from runtime.errors import RuntimeFault, SpecError
from runtime.image.durable import locked, locked_directory

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_REMEDY = "see the containers there are: isoscope ps -a"


def records() -> Iterator[tuple[Path, Record]]:
    """Every container that can be found again, the oldest first; unreadable ones are left out."""
    found = []
    parent = instances_dir()
    for directory in sorted(parent.iterdir()) if parent.is_dir() else ():
        try:
            record = read_record(directory)
        except RuntimeFault:
            continue  # rm still takes it, by its id
        if record is not None:
            found.append((directory, record))
    yield from sorted(found, key=lambda each: (each[1].created, each[1].id))


def find(name: str) -> Path:
    """The directory of the container *name*. Raises SpecError if there is none, or several."""
    parent = instances_dir()
    if re.fullmatch(r"[0-9a-f]{12}", name) and (parent / name / RECORD).exists():
        return parent / name
    known = list(records())
    for directory, record in known:
        if record.name == name:
            return directory
    begun = [directory for directory, record in known if name and record.id.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        ids = ", ".join(directory.name for directory in begun)
        raise SpecError(f"{name!r} begins more than one id: {ids}", remedy="write more of it")
    raise SpecError(f"no container {name!r}", remedy=_REMEDY)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Nobody else takes a name inside the block, and nobody has *name*. Raises SpecError."""
    if _NAME.fullmatch(name) is None:
        raise SpecError(
            f"{name!r} cannot be the name of a container",
            remedy="use letters, digits, '_', '.' and '-', a letter or digit first",
        )
    instances_dir().mkdir(parents=True, exist_ok=True)
    with locked_directory(instances_dir()):
        for directory, record in records():
            if record.name == name:
                raise SpecError(
                    f"the name {name!r} is that of container {directory.name}",
                    remedy=f"choose another, or remove that one: isoscope rm {name}",
                )
        yield


@contextmanager
def changing(directory: Path) -> Iterator[Record]:
    """The container in *directory*, which nobody else changes inside the block.

    Raises SpecError if it has been removed meanwhile.
    """
    gone = SpecError(f"container {directory.name} has been removed", remedy=_REMEDY)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise gone from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        record = read_record(directory)
        if record is None:
            raise gone
        yield record
    finally:
        os.close(fd)


@contextmanager
def reading(directory: Path) -> Iterator[None]:
    """What is written in *directory* is not removed inside the block, though the container ends.

    Raises SpecError if it has been removed.
    """
    try:
        with locked(directory / READERS, shared=True):
            yield
    except FileNotFoundError:
        raise SpecError(f"container {directory.name} has been removed", remedy=_REMEDY) from None
