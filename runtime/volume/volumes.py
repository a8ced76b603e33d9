"""Named volumes: directories of ours that outlive the containers they are mounted in."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtime.errors import RuntimeFault, SpecError
from runtime.image import cache_dir, state_dir
from runtime.image.durable import locked, sync_directory, write_whole
from runtime.image.removal import remove_tree

_USED = "volumes.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume: *directory* is what is mounted."""

    name: str
    created: str

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return _home(self.name) / "files"


def create(name: str) -> Volume:
    """The volume *name*, new or as it is. Raises SpecError."""
    _check(name)
    with _lock():
        return _find(name) or _make(name)


def resolve(name: str) -> Volume:
    """The volume *name*. Raises SpecError if there is none."""
    _check(name)
    found = _find(name)
    if found is None:
        raise SpecError(f"no volume {name!r}", remedy="see: isoscope volume ls")
    return found


def volumes() -> tuple[Volume, ...]:
    """All of them, by name."""
    parent = state_dir() / "volumes"
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    found = (_find(name) for name in names if _NAME.fullmatch(name))
    return tuple(volume for volume in found if volume is not None)


def remove(name: str) -> None:
    """Delete the volume *name* and its files. Raises SpecError, RuntimeFault if it is in use."""
    with _lock():
        volume = resolve(name)
        if users := users_of(name):
            raise RuntimeFault(
                f"volume {name} is in use by {', '.join(users)}", remedy="end what runs first"
            )
        _delete(volume)


def prune() -> tuple[str, ...]:
    """Delete the volumes that no container uses; their names."""
    with _lock():
        unused = [volume for volume in volumes() if not users_of(volume.name)]
        for volume in unused:
            _delete(volume)
        return tuple(volume.name for volume in unused)


def users_of(name: str) -> tuple[str, ...]:
    """The instances that have the volume mounted, or whose remains say so."""
    parent = state_dir() / "instances"
    directories = sorted(parent.iterdir()) if parent.is_dir() else []
    return tuple(each.name for each in directories if name in _used_by(each))


@contextmanager
def using(names: Sequence[str], instance: Path) -> Iterator[tuple[Volume, ...]]:
    """The volumes *names*, made where they are missing, in use until *instance* is removed.

    *instance* is the directory of a container, where that is written down. Others who want to
    create or remove volumes wait until the block is left.
    """
    if not names:
        yield ()
        return
    with _lock():
        found = tuple(_find(_check(name)) or _make(name) for name in names)
        write_whole(instance / _USED, json.dumps(list(names)).encode())
        yield found


def _find(name: str) -> Volume | None:
    try:
        record = json.loads((_home(name) / "volume.json").read_text())
        return Volume(**record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise RuntimeFault(
            f"{_home(name)} is no volume of ours", remedy="move it out of the way"
        ) from error


def _make(name: str) -> Volume:
    volume = Volume(name=name, created=datetime.now(UTC).isoformat(timespec="seconds"))
    home = _home(name)
    remove_tree(home)  # what a crash left before it became a volume
    home.mkdir(mode=0o700)
    volume.directory.mkdir(mode=0o755)
    write_whole(home / "volume.json", json.dumps(asdict(volume)).encode())
    sync_directory(home.parent)
    return volume


def _delete(volume: Volume) -> None:
    """The record first: what is left of an interrupted removal is no volume any more."""
    home = _home(volume.name)
    (home / "volume.json").unlink()
    remove_tree(home)


def _used_by(instance: Path) -> Sequence[str]:
    with suppress(OSError, ValueError):
        names = json.loads((instance / _USED).read_text())
        return names if isinstance(names, list) else ()
    return ()


def _check(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise SpecError(
            f"{name!r} cannot be the name of a volume",
            remedy="use letters, digits, '_', '.' and '-', a letter or digit first",
        )
    return name


def _home(name: str) -> Path:
    return state_dir() / "volumes" / name


@contextmanager
def _lock() -> Iterator[None]:
    parent = cache_dir("volumes")
    parent.chmod(0o700)  # a set-user-ID program in a volume must not be reachable
    with locked(parent / ".lock"):
        yield
