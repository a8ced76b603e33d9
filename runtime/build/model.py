"""What a build is made of, after reading and before anything runs: stages of resolved steps.

A plan is pure data. Every word in it is expanded, every path absolute, every instruction that
cannot be honoured was refused by name and line before. It prints, and golden tests compare it.
Source: the Dockerfile reference; what is meant by a stage's config is image-spec ``config.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MountKind = Literal["bind", "cache", "secret", "tmpfs"]
Network = Literal["default", "none", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a step was written: the first line of its instruction, and the instruction as read.

    ``inherited`` says that it came from ONBUILD of the base image, so *line* is that of FROM.
    """

    line: int
    text: str
    inherited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FromContext:
    """Files of the build context, less what ``.dockerignore`` hides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FromStage:
    """Files of an earlier stage, by its position in the plan."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FromImage:
    """Files of an image, by the reference as written."""

    reference: str


Tree = FromContext | FromStage | FromImage


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """What COPY and ADD take from *tree*: patterns relative to its root, ``*?[]`` allowed."""

    tree: Tree
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What ADD fetches; *checksum* (``sha256:…``) is compared before anything is kept."""

    url: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A here-document of COPY or ADD: a file called *name* with *data*."""

    name: str
    data: bytes


Source = Paths | Download | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One ``RUN --mount``. Fields without a meaning for its kind keep their defaults.

    *tree* and *source* are what a bind mount shows and what a new cache begins with; for a cache
    FromContext means that it begins empty. *target* is absolute; None is a secret given as *env*
    only. *mode* of a cache or secret is always set.
    """

    kind: MountKind
    target: str | None
    tree: Tree = FromContext()
    source: str = "/"
    id: str | None = None
    sharing: Literal["shared", "private", "locked"] = "shared"
    read_only: bool = False
    required: bool = False
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size_bytes: int | None = None
    env: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """A command in a container of its own on the state before; its changes are one layer.

    *argv* is complete (the SHELL is in it). *script*, of a here-document that begins with ``#!``,
    is put into a file that only this step sees, whose path is appended to *argv*. *env* is exact.
    *proxies* (``HTTP_PROXY`` …, given as build arguments) are added to it for the command, and are
    no part of what the step is: another proxy is no reason to run it again.
    """

    origin: Origin
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    user: str | None
    script: bytes | None = None
    mounts: tuple[Mount, ...] = ()
    network: Network = "default"
    proxies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStep:
    """COPY and ADD. *target* is absolute and ends with ``/`` where it must be a directory.

    *owner* is as written (``user[:group]``, names looked up in the stage's own files); None is
    root. *mode* None keeps each file's own. *extract* unpacks local archives (ADD). With *parents*
    a pattern may hold one ``/./``: only the directories after it are made anew. *exclude* are
    patterns of an ignore file, without comments.
    """

    origin: Origin
    sources: tuple[Source, ...]
    target: str
    owner: str | None = None
    mode: int | None = None
    link: bool = False
    extract: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryStep:
    """WORKDIR: *path* and its parents exist, made for *user* where they are missing."""

    origin: Origin
    path: str
    user: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigStep:
    """An instruction that changes the config only: an empty layer in the history."""

    origin: Origin


Step = RunStep | CopyStep | DirectoryStep | ConfigStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One FROM and what follows it; *index* is its position in the plan.

    *base* None is ``scratch``. ``configs[n]`` is the image config object (the ``config`` member
    of image-spec ``config.md``, so with ``Env``, ``Cmd``, ``Healthcheck``, ``OnBuild`` …) as it
    is after ``steps[n]``; *config* is the last of them, or that of the base without steps.
    *initial* is the config that the first step finds; *author* is what MAINTAINER says.
    """

    index: int
    name: str | None
    origin: Origin
    base: FromImage | FromStage | None
    platform: str | None
    steps: tuple[Step, ...]
    configs: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    initial: Mapping[str, Any] = field(default_factory=dict)
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """The stages that the target needs, in the order of the file, unused ones left out.

    *target* is a position, as FromStage has it.
    *warnings* are sentences with line numbers (an unused build argument, a syntax directive).
    """

    stages: tuple[Stage, ...]
    target: int
    warnings: tuple[str, ...] = ()
