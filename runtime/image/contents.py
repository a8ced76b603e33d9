"""What an image's tree would hold, told from its layers: nothing is unpacked, nothing is run."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from runtime.errors import ImageError
from runtime.image.archive import ArchiveReader, Entry, Kind
from runtime.image.compression import LayerStream
from runtime.image.layer import Limits
from runtime.image.manifest import Image
from runtime.image.store import Store
from runtime.image.tree import Parts

MAX_ENTRIES = 1_000_000
"""More are refused: all of them are held in memory, some 500 bytes each."""

_MAX_PATH_BYTES = 4096
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_RESERVED = b".wh..wh."  # as in layer.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a layer says about one name. ``content`` is the SHA-256 of a file, else empty."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size_bytes: int = 0
    content: bytes = b""
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()


def contents(store: Store, image: Image) -> dict[bytes, Fact]:
    """Every path of *image*, relative and sorted, without the root; a hard link is what it names.

    Raises ImageError that names the layer for whatever is corrupt, hostile or too large.
    """
    top = _Directory()
    limits = Limits(entries=MAX_ENTRIES)
    for blob, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True):
        try:
            with store.open_blob(blob) as source:
                stream = LayerStream(source, diff_id=diff_id, limit_bytes=limits.total_bytes)
                entries = _apply(ArchiveReader(stream), top, limits.entries)
                stream.drain()
        except ImageError as error:
            where = f"layer {blob.digest}: {error.message}"
            raise ImageError(where, remedy=error.remedy) from error
        limits = replace(
            limits, total_bytes=limits.total_bytes - stream.seen_bytes, entries=entries
        )
    return dict(top.walk())


@dataclass(slots=True)
class _Directory:
    """A directory while layers are put over each other; None is one that no entry describes."""

    fact: Fact | None = None
    children: dict[bytes, "_Directory | Fact"] = field(default_factory=dict)

    def walk(self, above: bytes = b"") -> Iterator[tuple[bytes, Fact]]:
        """All that is below, each directory before what is in it."""
        waiting = [(above, self)]
        while waiting:
            path, here = waiting.pop()
            below = []
            for name in sorted(here.children):
                child = here.children[name]
                full = path + name
                if isinstance(child, _Directory):
                    yield full, child.fact or _UNNAMED
                    below.append((full + b"/", child))
                else:
                    yield full, child
            waiting += below[::-1]


_UNNAMED = Fact(kind=Kind.DIRECTORY, mode=0o755, uid=0, gid=0, mtime_ns=0)


def _apply(archive: ArchiveReader, top: _Directory, left: int) -> int:
    """Put the layer over *top*; how many more entries may come. Whiteouts concern lower layers."""
    found: list[tuple[Parts, Fact | Parts]] = []
    for entry in archive:
        if left == 0:
            raise ImageError(f"the image has more than {MAX_ENTRIES} entries")
        left -= 1
        parts = _parts(entry.name)
        if _is_whiteout(parts):
            _white_out(top, parts)
        else:
            found.append((parts, _fact(entry, archive)))
    for parts, fact in found:
        _place(top, parts, fact)
    return left


def _fact(entry: Entry, archive: ArchiveReader) -> Fact | Parts:
    """What *entry* says; of a hard link, the name it stands for."""
    if entry.kind is Kind.HARD_LINK:
        return _parts(entry.link)
    hasher = hashlib.sha256()
    if entry.kind is Kind.FILE:
        for chunk in archive.chunks():
            hasher.update(chunk)
    return Fact(
        kind=entry.kind,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        size_bytes=entry.size_bytes,
        content=hasher.digest() if entry.kind is Kind.FILE else b"",
        link=entry.link if entry.kind is Kind.SYMBOLIC_LINK else b"",
        device=entry.device,
        xattrs=tuple(sorted(entry.xattrs.items())),
    )


def _is_whiteout(parts: Parts) -> bool:
    odd = {_WHITEOUT, _WHITEOUT + b".", _WHITEOUT + b".."}
    if any(part.startswith(_WHITEOUT) for part in parts[:-1]) or (parts and parts[-1] in odd):
        raise ImageError(f"{_shown(parts)} is named as a whiteout and is none")
    return bool(parts) and parts[-1].startswith(_WHITEOUT)


def _white_out(top: _Directory, parts: Parts) -> None:
    here = top
    for name in parts[:-1]:
        child = here.children.get(name)
        if child is None or (parts[-1] == _OPAQUE and not isinstance(child, _Directory)):
            return  # what is no directory has nothing in it
        here = _directory(child, parts)
    if parts[-1] == _OPAQUE:
        here.children.clear()
    elif not parts[-1].startswith(_RESERVED):
        here.children.pop(parts[-1].removeprefix(_WHITEOUT), None)


def _place(top: _Directory, parts: Parts, fact: Fact | Parts) -> None:
    if not isinstance(fact, Fact):
        fact = _target(top, fact)
    if not parts:
        top.fact = fact
        return
    here = top
    for name in parts[:-1]:
        here = _directory(here.children.setdefault(name, _Directory()), parts)
    if fact.kind is not Kind.DIRECTORY:
        here.children[parts[-1]] = fact
        return
    there = here.children.get(parts[-1])
    if isinstance(there, _Directory):
        there.fact = fact
    else:
        here.children[parts[-1]] = _Directory(fact)


def _directory(child: _Directory | Fact, parts: Parts) -> _Directory:
    if not isinstance(child, _Directory):
        raise ImageError(f"{_shown(parts)} leads through what is no directory")
    return child


def _shown(parts: Parts) -> str:
    return repr(b"/".join(parts)[:256])


def _target(top: _Directory, parts: Parts) -> Fact:
    here: _Directory | Fact | None = top
    for name in parts:
        here = here.children.get(name) if isinstance(here, _Directory) else None
    if not isinstance(here, Fact):
        raise ImageError(f"a hard link leads to {_shown(parts)}, which is no file")
    return here


def _parts(name: bytes) -> Parts:
    """The components of *name*, which must stay below the root."""
    parts = tuple(part for part in name.split(b"/") if part not in {b"", b"."})
    if name.startswith(b"/") or b"\0" in name or b".." in parts:
        raise ImageError(f"{name[:256]!r} is a name that leads out of the image")
    if len(name) > _MAX_PATH_BYTES:
        raise ImageError(f"{name[:256]!r}… is longer than {_MAX_PATH_BYTES} bytes")
    return parts
