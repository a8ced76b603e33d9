"""``RUN --mount``: its options, all of bind, cache, secret and tmpfs."""

import csv
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from runtime.build.dockerfile import Instruction
from runtime.build.flags import read_flags
from runtime.build.model import FromContext, Mount, MountKind, Tree
from runtime.build.quantities import file_mode, numeric_id, size_bytes

_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_SWITCHES = frozenset({"readonly", "readwrite", "required"})
_OPTIONS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"from", "source", "target", "readonly", "readwrite"}),
    "cache": frozenset(
        {
            "id",
            "target",
            "readonly",
            "readwrite",
            "sharing",
            "from",
            "source",
            "mode",
            "uid",
            "gid",
        }
    ),
    "secret": frozenset({"id", "source", "target", "required", "mode", "uid", "gid", "env"}),
    "tmpfs": frozenset({"target", "size", "readwrite"}),
}
_SHARING = ("shared", "private", "locked")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_mounts(instruction: Instruction) -> None:
    """Refuses what is wrong with or without variables: the form, and kinds there are not."""
    for text in read_flags(instruction).all("mount"):
        fields = _read_fields(instruction, text)
        if "$" not in fields.get("type", ""):
            _kind(instruction, fields)


def mount_sources(instruction: Instruction) -> tuple[str, ...]:
    """The stages or images that the mounts of a RUN name."""
    texts = read_flags(instruction).all("mount")
    found = (_read_fields(instruction, text).get("from") for text in texts)
    return tuple(source for source in found if source)


def read_mount(
    instruction: Instruction,
    text: str,
    *,
    cwd: str,
    expand: Callable[[str], str],
    find_source: Callable[[str], Tree],
) -> Mount:
    """The mount that one ``--mount=text`` asks for. Raises BuildError."""
    fields = {
        key: value if key == "from" else expand(value)
        for key, value in _read_fields(instruction, text).items()
    }
    kind = _kind(instruction, fields)
    if wrong := fields.keys() - _OPTIONS[kind] - {"type"}:
        raise instruction.wrong(
            f"RUN --mount=type={kind} has no option {min(wrong)}",
            remedy=f"use {', '.join(sorted(_OPTIONS[kind]))}",
        )
    return _Reader(instruction, kind, fields, cwd, find_source).mount()


@dataclass(frozen=True, slots=True)
class _Reader:
    """The fields of one mount, whose kind has them all."""

    instruction: Instruction
    kind: MountKind
    fields: Mapping[str, str]
    cwd: str
    find_source: Callable[[str], Tree]

    def mount(self) -> Mount:
        target = self._target()
        source = self.fields.get("from")
        return Mount(
            kind=self.kind,
            target=target,
            tree=self.find_source(source) if source else FromContext(),
            source=self._source(),
            id=self._id(target),
            sharing=self._sharing(),
            read_only=self._read_only(),
            required=self._switch("required"),
            mode=self._mode(),
            uid=self._number("uid"),
            gid=self._number("gid"),
            size_bytes=self._size(),
            env=self._env(),
        )

    def _target(self) -> str | None:
        given = self.fields.get("target")
        if not given and self.kind == "secret":
            return None if "env" in self.fields else f"/run/secrets/{self._secret()}"
        target = posixpath.normpath(posixpath.join(self.cwd, given or ""))
        target = "/" + target.lstrip("/")
        if not given or target == "/":
            raise self._wrong("needs a target", "write target=/path")
        return target

    def _source(self) -> str:
        if self.kind == "secret":
            return "/"
        return "/" + posixpath.normpath("/" + self.fields.get("source", "/")).lstrip("/")

    def _id(self, target: str | None) -> str | None:
        if self.kind == "secret":
            return self._secret()
        return (self.fields.get("id") or target) if self.kind == "cache" else None

    def _secret(self) -> str:
        """A secret's name: as given, else the last part of its target."""
        if "id" in self.fields and "source" in self.fields:
            raise self._wrong("has both id and source", "give one of them")
        name = self.fields.get("id") or self.fields.get("source")
        name = name or posixpath.basename(self.fields.get("target", ""))
        if not name:
            raise self._wrong("needs an id", "write id=name")
        if "target" not in self.fields and ("/" in name or name in (".", "..")):
            raise self._wrong(f"cannot be called {name!r} without a target", "write target=/path")
        return name

    def _sharing(self) -> Literal["shared", "private", "locked"]:
        sharing = self.fields.get("sharing", "shared").lower()
        if sharing not in _SHARING:
            raise self._wrong(f"has no sharing={sharing}", f"use {', '.join(_SHARING)}")
        return cast(Literal["shared", "private", "locked"], sharing)

    def _read_only(self) -> bool:
        if "readonly" in self.fields:
            return self._switch("readonly")
        if "readwrite" in self.fields:
            return not self._switch("readwrite")
        return self.kind in ("bind", "secret")

    def _switch(self, name: str) -> bool:
        value = self.fields.get(name, "false").lower()
        if value not in ("1", "t", "true", "0", "f", "false"):
            raise self._wrong(f"has {name}={value}, neither true nor false", f"write {name}=true")
        return value in ("1", "t", "true")

    def _mode(self) -> int | None:
        default = {"cache": 0o755, "secret": 0o400}.get(self.kind)
        return self._read("mode", file_mode) if "mode" in self.fields else default

    def _number(self, name: str) -> int:
        return self._read(name, numeric_id) if name in self.fields else 0

    def _size(self) -> int | None:
        return self._read("size", size_bytes) if "size" in self.fields else None

    def _read(self, name: str, read: Callable[[str], int]) -> int:
        try:
            return read(self.fields[name])
        except ValueError as error:
            raise self._wrong(f"has a bad {name}: {error}", f"change {name}") from None

    def _env(self) -> str | None:
        name = self.fields.get("env")
        if name is not None and not _VARIABLE.fullmatch(name):
            raise self._wrong(f"has env={name}, no name of a variable", "write env=NAME")
        return name

    def _wrong(self, what: str, remedy: str) -> Exception:
        return self.instruction.wrong(f"RUN --mount=type={self.kind} {what}", remedy=remedy)


def _read_fields(instruction: Instruction, text: str) -> dict[str, str]:
    """``key=value,switch``, where quotes protect a comma as in CSV."""
    try:
        (row,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise instruction.wrong(f"RUN --mount={text[:40]!r} cannot be read: {error}") from None
    fields = {}
    for field in row:
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not equals and key not in _SWITCHES:
            raise instruction.wrong(
                f"RUN --mount: {field[:40]!r} is no option", remedy="write key=value"
            )
        fields[key] = value if equals else "true"
    return fields


def _kind(instruction: Instruction, fields: Mapping[str, str]) -> MountKind:
    kind = fields.get("type", "bind").lower()
    if kind == "ssh":
        raise instruction.wrong(
            "RUN --mount=type=ssh is not supported",
            remedy="use a secret, or copy from the context",
        )
    if kind not in _OPTIONS:
        raise instruction.wrong(
            f"RUN --mount=type={kind[:40]} is not supported",
            remedy=f"use {', '.join(sorted(_OPTIONS))}",
        )
    return cast(MountKind, kind)
