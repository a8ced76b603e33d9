"""How two images differ: which layers they share, and which files a user would miss or find."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runtime.image.contents import Fact, contents
from runtime.image.manifest import Image
from runtime.image.store import Store

Verb = Literal["added", "changed", "removed"]

_TOLD = {
    "kind": "kind", "mode": "mode", "uid": "owner", "gid": "group", "size_bytes": "size",
    "content": "content", "link": "target", "device": "device", "xattrs": "attributes",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that differs. ``what`` names what changed of it; sizes are those of files."""

    path: bytes
    verb: Verb
    what: tuple[str, ...] = ()
    before_bytes: int = 0
    after_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """From one image to another. Layers are named by diff_id, however they are compressed.

    ``shared`` stands in the order of the first image.
    """

    shared: tuple[str, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    changes: tuple[Change, ...]


def difference(store: Store, before: Image, after: Image) -> Difference:
    """What it takes to get from *before* to *after*. Raises ImageError."""
    ours, theirs = before.config.diff_ids, after.config.diff_ids
    same = ours == theirs
    return Difference(
        shared=tuple(layer for layer in ours if layer in theirs),
        only_before=tuple(layer for layer in ours if layer not in theirs),
        only_after=tuple(layer for layer in theirs if layer not in ours),
        changes=() if same else compare(contents(store, before), contents(store, after)),
    )


def compare(before: Mapping[bytes, Fact], after: Mapping[bytes, Fact]) -> tuple[Change, ...]:
    """The paths that differ, sorted. A time alone is no difference: nothing behaves otherwise."""
    return tuple(
        change
        for path in sorted(before.keys() | after.keys())
        if (change := _change(path, before.get(path), after.get(path))) is not None
    )


def _change(path: bytes, before: Fact | None, after: Fact | None) -> Change | None:
    before_bytes = before.size_bytes if before else 0
    after_bytes = after.size_bytes if after else 0
    if before is None or after is None:
        verb: Verb = "added" if before is None else "removed"
        return Change(path=path, verb=verb, before_bytes=before_bytes, after_bytes=after_bytes)
    what = tuple(
        word for name, word in _TOLD.items() if getattr(before, name) != getattr(after, name)
    )
    if not what:
        return None
    return Change(
        path=path, verb="changed", what=what, before_bytes=before_bytes, after_bytes=after_bytes
    )
