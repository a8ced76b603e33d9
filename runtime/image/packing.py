"""From a tree that a distribution's installer packed to layers that say nothing of this machine.

The same packages give the same bytes: entries are sorted, nothing is younger than a given moment,
and what depends on the machine, the hour or chance is left out.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from isal import igzip

from runtime.image.archive import Kind
from runtime.image.contents import Fact
from runtime.image.manifest import LAYER_GZIP_TYPE, Descriptor
from runtime.image.store import Store

Parts = tuple[str, ...]

_LEFT_OUT = re.compile(
    r"""
      dev/.+                                        # engines make their own
    | etc/(hostname|hosts|resolv\.conf)             # of this machine, and engines write them
    | etc/apt/(sources\.list|auth\.conf|sources\.list\.d/.+|auth\.conf\.d/.+)
    | etc/apt/apt\.conf\.d/99mmdebstrap             # how this machine reaches its archives
    | etc/ssh/ssh_host_.+                           # keys are no secret once they are in an image
    | tmp/.+
    | var/cache/(ldconfig/aux-cache|apt/.+\.bin|apt/archives/.+|debconf/.+-old|fontconfig/.+)
    | var/lib/apt/lists/.+
    | var/lib/dbus/machine-id
    | var/lib/dpkg/(lock|lock-frontend|triggers/Lock|.+-old)
    | var/lib/systemd/(random-seed|credential\.secret)
    """,
    re.VERBOSE,
)
_DIRECTORIES_ONLY = ("run/", "var/log/")
_EMPTIED = frozenset({"etc/machine-id"})
"""A machine that boots writes its own there; machine-id(5): in an image the file is empty."""

_WHITEOUT = b".wh."
_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMBOLIC_LINK,
    tarfile.CHRTYPE: Kind.CHARACTER_DEVICE,
    tarfile.BLKTYPE: Kind.BLOCK_DEVICE,
    tarfile.FIFOTYPE: Kind.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A layer in the store: its blob, the digest of its tar, and how many entries it has."""

    layer: Descriptor
    diff_id: str
    entries: int


@dataclass(frozen=True, slots=True)
class _Item:
    """What becomes an entry; *source* is the member with the content, of a hard link too."""

    info: tarfile.TarInfo
    source: tarfile.TarInfo | None
    fact: Fact


def write_layer_of(
    store: Store, packed: Path, scratch: Path, *, epoch_s: int, below: Mapping[bytes, Fact]
) -> Packed:
    """Make a layer of the tar *packed*: all of it, less what *below* holds just so already.

    What *below* has and *packed* has not is whited out. *scratch* is a directory for the layer
    while it grows; call it inside ``store.writing()``. Raises OSError, ImageError.
    """
    growing = scratch / "layer.tar.gz"
    with tarfile.open(packed, "r:") as source:
        items = _items(source, epoch_s)
        chosen = _with_parents(items, _different(items, below))
        with growing.open("xb") as file:
            sink = _Compressing(file)
            with tarfile.open(mode="w|", fileobj=sink) as target:  # type: ignore[call-overload]
                for info in _whiteouts(items, below, epoch_s):
                    target.addfile(info)
                for info, content in _linked(items, chosen):
                    target.addfile(info, source.extractfile(content) if content else None)
            sink.close()
    with growing.open("rb") as file:
        layer = store.write_blob(file, LAYER_GZIP_TYPE)
    growing.unlink()
    diff_id = f"sha256:{sink.hash.hexdigest()}"
    return Packed(layer=layer, diff_id=diff_id, entries=len(chosen))


class _Compressing:
    """Writes to *file* with gzip and hashes what it gets; no name, no time in the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._gzip = igzip.IGzipFile("", "wb", 2, file, mtime=0)  # type: ignore[no-untyped-call]
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        self.hash.update(data)
        self._gzip.write(data)  # type: ignore[no-untyped-call]
        return len(data)

    def close(self) -> None:
        self._gzip.close()


def is_left_out(name: str) -> bool:
    """Whether the path *name* of an installed tree stays out of an image."""
    return _LEFT_OUT.fullmatch(name) is not None


def _items(source: tarfile.TarFile, epoch_s: int) -> dict[Parts, _Item]:
    """What of *source* goes into the image, sorted, each directory before what is in it."""
    members = {_parts(member.name): member for member in source}
    items = {}
    for parts in sorted(members):
        member = members[parts]
        name = "/".join(parts)
        if is_left_out(name) or (name.startswith(_DIRECTORIES_ONLY) and not member.isdir()):
            continue
        content = members[_parts(member.linkname)] if member.islnk() else member
        if name in _EMPTIED:
            content.size = 0
        info = _normal(name, content, epoch_s)
        fact = _fact(info, source.extractfile(content) if content.isreg() else None)
        items[parts] = _Item(info, content if content.isreg() else None, fact)
    return items


def _normal(name: str, member: tarfile.TarInfo, epoch_s: int) -> tarfile.TarInfo:
    """*member* with a new *name* and without what tells of this machine."""
    info = tarfile.TarInfo(name or ".")
    info.type, info.mode, info.uid, info.gid = member.type, member.mode, member.uid, member.gid
    info.size, info.linkname = member.size, member.linkname if member.issym() else ""
    info.devmajor, info.devminor = member.devmajor, member.devminor
    info.mtime = min(int(member.mtime), epoch_s)
    info.pax_headers = {
        key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.")
    }
    return info


def _fact(info: tarfile.TarInfo, content: IO[bytes] | None) -> Fact:
    """What a reader of the layer will find out about *info*."""
    return Fact(
        kind=_KINDS[info.type],
        mode=info.mode & 0o7777,
        uid=info.uid,
        gid=info.gid,
        mtime_ns=int(info.mtime) * 10**9,
        size_bytes=info.size if info.isreg() else 0,
        content=_hash(content) if content else b"",
        link=info.linkname.encode("utf-8", "surrogateescape"),
        device=(info.devmajor, info.devminor) if info.isdev() and not info.isfifo() else (0, 0),
        xattrs=tuple(
            sorted(
                (key.removeprefix("SCHILY.xattr."), value.encode("utf-8", "surrogateescape"))
                for key, value in info.pax_headers.items()
            )
        ),
    )


def _hash(content: IO[bytes]) -> bytes:
    hasher = hashlib.sha256()
    while chunk := content.read(1 << 20):
        hasher.update(chunk)
    return hasher.digest()


def _different(items: Mapping[Parts, _Item], below: Mapping[bytes, Fact]) -> set[Parts]:
    """The paths that *below* does not hold as they are; of a file with several names, all."""
    changed = {parts for parts, item in items.items() if below.get(_path(parts)) != item.fact}
    files = {parts: item.source.offset for parts, item in items.items() if item.source}
    touched = {offset for parts, offset in files.items() if parts in changed}
    return changed | {parts for parts, offset in files.items() if offset in touched}


def _with_parents(items: Mapping[Parts, _Item], chosen: Iterable[Parts]) -> list[Parts]:
    """*chosen*, sorted, with the directories on the way: engines make missing ones differently."""
    wanted = {parts[:length] for parts in chosen for length in range(len(parts) + 1)}
    return [parts for parts in items if parts in wanted]


def _whiteouts(
    items: Mapping[Parts, _Item], below: Mapping[bytes, Fact], epoch_s: int
) -> Iterable[tarfile.TarInfo]:
    kept = {_path(parts) for parts in items}
    directories = {_path(parts) for parts, item in items.items() if item.info.isdir()} | {b""}
    for path in sorted(below.keys() - kept):
        above, _, name = path.rpartition(b"/")
        if above not in directories:  # it goes with what is above it
            continue
        hidden = b"/".join([*([above] if above else []), _WHITEOUT + name])
        marker = tarfile.TarInfo(hidden.decode("utf-8", "surrogateescape"))
        marker.mtime = epoch_s
        yield marker


def _linked(
    items: Mapping[Parts, _Item], chosen: Iterable[Parts]
) -> Iterable[tuple[tarfile.TarInfo, tarfile.TarInfo | None]]:
    """Entries with the member that has their content; a file's further names become hard links."""
    first: dict[int, str] = {}
    for parts in chosen:
        item = items[parts]
        if item.source is None:
            yield item.info, None
        elif (name := first.setdefault(item.source.offset, item.info.name)) == item.info.name:
            yield item.info, item.source
        else:
            link = tarfile.TarInfo(item.info.name)
            link.type, link.linkname, link.mode = tarfile.LNKTYPE, name, item.info.mode
            link.uid, link.gid, link.mtime = item.info.uid, item.info.gid, item.info.mtime
            yield link, None


def _path(parts: Parts) -> bytes:
    return "/".join(parts).encode("utf-8", "surrogateescape")


def _parts(name: str) -> Parts:
    return tuple(part for part in name.split("/") if part not in {"", "."})
