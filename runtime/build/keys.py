"""What a step is cached under: one hash of everything that its result may depend on (pure).

A key tells the layers below (their ChainID), the step as it was resolved, and what the files that
it takes hash to. No time of a file, no name of a build, no secret's content is in it. Because
layers are named by content, a step that was run again and changed nothing lets all after it be
found again.
"""

import hashlib
from collections.abc import Sequence

from runtime.build.model import CopyStep, DirectoryStep, Download, Mount, Paths, RunStep, Text
from runtime.image.document import render_document

_VERSION = 1
"""Counted up when the same step comes to mean something else."""


def run_key(parent: str, step: RunStep, *, shown: Sequence[str], epoch_s: int) -> str:
    """Of RUN on *parent*; *shown* are the hashes of the trees that its mounts show, in order."""
    return _hash(
        "run", parent, epoch_s,
        step.argv, sorted(step.env.items()), step.cwd, step.user, step.network,
        None if step.script is None else hashlib.sha256(step.script).hexdigest(),
        [_mount(mount) for mount in step.mounts], shown,
    )  # fmt: skip


def copy_key(parent: str, step: CopyStep, *, sources: Sequence[str], epoch_s: int) -> str:
    """Of COPY and ADD; *sources* are the hashes of what each source brings.

    With --link and an owner that is a number the result does not depend on what is below.
    """
    named = step.owner is not None and not step.owner.replace(":", "").isdigit()
    below = parent if not step.link or named else "link"
    return _hash(
        "copy", below, epoch_s,
        [_source(source, digest) for source, digest in zip(step.sources, sources, strict=True)],
        step.target, step.owner, step.mode, step.extract, step.parents, step.exclude,
    )  # fmt: skip


def directory_key(parent: str, step: DirectoryStep, *, epoch_s: int) -> str:
    """Of WORKDIR."""
    return _hash("directory", parent, epoch_s, step.path, step.user)


def selection_key(chain_id: str, patterns: Sequence[str], exclude: Sequence[str]) -> str:
    """Of the hash of what *patterns* choose in the files of a stage or image."""
    return _hash("selection", chain_id, patterns, exclude)


def _source(source: Paths | Download | Text, digest: str) -> object:
    match source:
        case Paths():
            return ["paths", source.patterns, digest]
        case Download():
            return ["download", source.url, digest]
        case Text():
            return ["text", source.name, digest]


def _mount(mount: Mount) -> object:
    return [
        mount.kind, mount.target, mount.source, mount.id, mount.sharing, mount.read_only,
        mount.required, mount.mode, mount.uid, mount.gid, mount.size_bytes, mount.env,
    ]  # fmt: skip


def _hash(*parts: object) -> str:
    return hashlib.sha256(render_document([_VERSION, *parts])).hexdigest()
