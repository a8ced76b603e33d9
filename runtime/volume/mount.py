"""What is to be mounted where: as people write it, and as a plan needs it (pure).

Three ways to write the same, as docker has them: ``-v``, ``--mount`` and ``--tmpfs``.
"""

import csv
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.errors import SpecError

Kind = Literal["bind", "volume", "tmpfs"]

_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_KERNELS_OWN = ("/proc", "/sys")
_ALIASES = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly",
}  # fmt: skip
_ALLOWED: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"type", "source", "target", "readonly", "bind-propagation"}),
    "volume": frozenset({"type", "source", "target", "readonly", "volume-nocopy"}),
    "tmpfs": frozenset({"type", "target", "readonly", "tmpfs-size", "tmpfs-mode"}),
}
_TMPFS_VALUES = {
    "size": re.compile(r"[0-9]{1,15}[kmgKMG%]?"),
    "mode": re.compile(r"[0-7]{1,4}"),
    "uid": re.compile(r"[0-9]{1,10}"),
    "gid": re.compile(r"[0-9]{1,10}"),
    "nr_inodes": re.compile(r"[0-9]{1,15}[kmgKMG]?"),
}
_TMPFS_FLAGS = frozenset({"ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """A mount as it was asked for: *source* is a host path, a volume's name, or nothing.

    A volume without a name is the container's own and goes with it. *options* are a tmpfs's.
    """

    kind: Kind
    target: str
    source: str = ""
    read_only: bool = False
    options: str = ""
    exec: bool = False
    """Whether programs on a tmpfs may be run."""
    copies: bool = True
    """Whether a new volume gets what the image has in its place."""

    def __post_init__(self) -> None:
        """Raise SpecError for a place that nothing can be mounted on."""
        _check_target(self.target)
        if "\0" in self.source:
            raise SpecError(f"{self.source!r} holds a NUL character", remedy="remove it")
        if self.kind == "bind" and not self.source.startswith("/"):
            raise SpecError(
                f"{self.source!r} is no place on this machine", remedy="write it from /, or as ./…"
            )
        if self.kind == "volume" and self.source and not _VOLUME.fullmatch(self.source):
            raise SpecError(
                f"{self.source!r} cannot be the name of a volume",
                remedy="use letters, digits, '_', '.' and '-'; a path begins with / or ./",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount as a plan carries it out: *source* exists, and is a directory or not.

    An empty *source* is memory. With *follows_links* the last component of *target* may be a link
    inside the container; without, the link itself is covered.
    """

    target: str
    source: str = ""
    is_directory: bool = True
    read_only: bool = False
    options: str = ""
    exec: bool = False
    follows_links: bool = True


def parse_volume(text: str, *, cwd: str) -> MountRequest:
    """``-v SOURCE:TARGET[:ro|rw]`` or ``-v TARGET``; paths from . are below *cwd*."""
    source, target, options = _volume_parts(text)
    unknown = set(options.split(",")) - {"ro", "rw", "nocopy", ""}
    if unknown:
        raise SpecError(f"{text!r}: {min(unknown)!r} is no option of -v", remedy="write ro or rw")
    given = set(options.split(","))
    return MountRequest(
        kind="bind" if source[:1] in {"/", "."} else "volume",
        source=posixpath.normpath(posixpath.join(cwd, source)) if source[:1] == "." else source,
        target=_normal(target),
        read_only="ro" in given,
        copies="nocopy" not in given,
    )


def parse_mount(text: str, *, cwd: str) -> MountRequest:
    """``--mount type=bind|volume|tmpfs,source=…,target=…[,readonly][,…]``. Raises SpecError."""
    fields = dict(_mount_fields(text))
    kind = fields.get("type", "volume")
    if kind not in _ALLOWED:
        raise SpecError(f"{text!r}: no mount of type {kind!r}", remedy="bind, volume or tmpfs")
    for name in fields:
        if name not in _ALLOWED[kind]:
            raise SpecError(
                f"{text!r}: {name!r} is no field of a mount of type {kind}",
                remedy=f"it has {', '.join(sorted(_ALLOWED[kind]))}",
            )
    if not fields.get("target") or (kind == "bind" and not fields.get("source")):
        raise SpecError(f"{text!r} is not complete", remedy="a mount needs source=… and target=…")
    if fields.get("bind-propagation", "rprivate") not in {"private", "rprivate"}:
        raise SpecError(f"{text!r}: only private propagation is supported", remedy="leave it out")
    source = fields.get("source", "")
    is_tmpfs = kind == "tmpfs"
    return MountRequest(
        kind="bind" if kind == "bind" else "tmpfs" if is_tmpfs else "volume",
        source=posixpath.normpath(posixpath.join(cwd, source)) if kind == "bind" else source,
        target=_normal(fields["target"]),
        read_only=_is_set(fields.get("readonly"), text),
        options=_tmpfs_of_mount(fields) if is_tmpfs else "",
        copies=not _is_set(fields.get("volume-nocopy"), text),
    )


def parse_tmpfs(text: str) -> MountRequest:
    """``--tmpfs TARGET[:size=64m,mode=1777,…]``. Raises SpecError."""
    target, _, options = text.partition(":")
    words = [word for word in options.split(",") if word]
    data = [_tmpfs_option(word) for word in words if word not in _TMPFS_FLAGS]
    for word in words:
        if word in {"suid", "dev"}:
            raise SpecError(f"{text!r}: {word} is not given to containers", remedy="leave it out")
    return MountRequest(
        kind="tmpfs",
        target=_normal(target),
        read_only="ro" in words,
        options=",".join(data),
        exec="exec" in words,
    )


def check_targets(mounts: Iterable[MountRequest]) -> None:
    """Raise SpecError if two mounts have the same place."""
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise SpecError(f"two mounts on {mount.target}", remedy="leave one out")
        seen.add(mount.target)


def _volume_parts(text: str) -> tuple[str, str, str]:
    first, *more = text.split(":")
    match more:
        case []:
            return "", first, ""
        case ["ro" | "rw" as options]:
            return "", first, options
        case [target] if first:
            return first, target, ""
        case [target, options] if first:
            return first, target, options
    raise SpecError(
        f"{text!r} is no volume", remedy="write SOURCE:TARGET[:ro]; --mount takes any path"
    )


def _mount_fields(text: str) -> Iterable[tuple[str, str]]:
    try:
        (words,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise SpecError(
            f"{text!r} is no mount", remedy="write type=bind,source=…,target=…"
        ) from None
    for word in words:
        name, equals, value = word.partition("=")
        name = _ALIASES.get(name.strip().lower(), name.strip().lower())
        yield name, value if equals else "true"


def _is_set(value: str | None, text: str) -> bool:
    if value not in {None, "true", "1", "false", "0"}:
        raise SpecError(f"{text!r}: {value!r} is neither true nor false")
    return value in {"true", "1"}


def _tmpfs_of_mount(fields: Mapping[str, str]) -> str:
    names = {"tmpfs-size": "size", "tmpfs-mode": "mode"}
    words = [f"{names[name]}={value}" for name, value in fields.items() if name in names]
    return ",".join(_tmpfs_option(word) for word in words)


def _tmpfs_option(word: str) -> str:
    name, _, value = word.partition("=")
    if name not in _TMPFS_VALUES or not _TMPFS_VALUES[name].fullmatch(value):
        known = ", ".join((*_TMPFS_VALUES, *sorted(_TMPFS_FLAGS - {"suid", "dev"})))
        raise SpecError(f"{word!r} is no option of a tmpfs", remedy=f"there are {known}")
    return word


def _normal(target: str) -> str:
    return posixpath.normpath(target).replace("//", "/", 1) if target.startswith("/") else target


def _check_target(target: str) -> None:
    if "\0" in target:
        raise SpecError(f"{target!r} holds a NUL character", remedy="remove it")
    if not target.startswith("/"):
        raise SpecError(f"{target!r} is no place in a container", remedy="begin it with /")
    if target in {"/", "/dev"} or any(
        target == own or target.startswith(f"{own}/") for own in _KERNELS_OWN
    ):
        raise SpecError(
            f"nothing can be mounted on {target}: it belongs to the container itself",
            remedy="choose a directory of its own",
        )
