"""From an overlay's upper directory to a layer: exactly what was changed, nothing compared.

A whiteout (a character device 0:0) becomes ``.wh.NAME``, an opaque directory one that holds
``.wh..wh..opq``; both stand before their siblings. Overlayfs hard-links its whiteouts, so they
are told before hard links are. The order is that of the bytes of the names and the headers hold
nothing of this machine, so the same changes give the same tar. Sources: image-spec ``layer.md``,
POSIX.1-2017 pax(1), the kernel's Documentation/filesystems/overlayfs.rst.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runtime.errors import ImageError
from runtime.image.archive import Entry, Kind
from runtime.image.archive_writer import end_of_archive, header, padding
from runtime.image.blob import CHUNK_BYTES
from runtime.image.compression import Compressor, compressor
from runtime.image.layer import MAX_PATH_BYTES, OPAQUE_NAME, WHITEOUT
from runtime.image.manifest import LAYER_GZIP_TYPE, LAYER_ZSTD_TYPE, Descriptor
from runtime.image.stack import is_opaque, is_whiteout, opaque_name
from runtime.image.store import Store
from runtime.image.tree import MAX_DEPTH, Attributes, attributes_of, is_carried

Compression = Literal["gzip", "zstd"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20
_KINDS = {
    stat.S_IFLNK: Kind.SYMBOLIC_LINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}
_INCOMPLETE = frozenset(
    f"{kind}.overlay.{name}" for kind in ("trusted", "user") for name in ("redirect", "metacopy")
)
_TYPES: dict[Compression, str] = {"gzip": LAYER_GZIP_TYPE, "zstd": LAYER_ZSTD_TYPE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Which times of files a layer tells: whole seconds unless *subsecond*, as other tools do.

    None is later than *epoch_s* (SOURCE_DATE_EPOCH), if it is given.
    """

    epoch_s: int | None = None
    subsecond: bool = False

    def of(self, mtime_ns: int) -> int:
        """What is told of *mtime_ns*."""
        if self.epoch_s is not None:
            mtime_ns = min(mtime_ns, self.epoch_s * 10**9)
        return mtime_ns if self.subsecond else mtime_ns // 10**9 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMade:
    """A layer in the store. ``entries`` is 1 if nothing but the root directory is in it."""

    descriptor: Descriptor
    diff_id: str
    tar_bytes: int
    entries: int
    times: Times


def write_layer(
    store: Store,
    upper: Path,
    *,
    times: Times = Times(),
    compression: Compression = "gzip",
) -> LayerMade:
    """Write the layer that *upper* is, an overlay's upper directory that nothing changes any more.

    Its root directory is part of it, so its attributes should be those it has below (``imitate``).
    Sockets are left out, and so are extended attributes that layers do not carry. The same
    *upper* gives the same tar always, and the same blob with the same libraries and processor.
    Raises ImageError for what no layer can tell; then nothing is written.
    """
    archive = _Archive(upper, times)
    try:
        packed = _Packed(archive.chunks(), compressor(compression))
        descriptor = store.write_blob(packed, _TYPES[compression])
    except OSError as error:
        where = error.filename or upper
        raise ImageError(f"cannot read the changes: {where}: {error.strerror}") from error
    return LayerMade(
        descriptor=descriptor,
        diff_id=packed.diff_id,
        tar_bytes=packed.tar_bytes,
        entries=archive.entries,
        times=times,
    )


def normalise(upper: Path, times: Times) -> None:
    """Make *upper* what unpacking its layer would give: *times*, no sockets, no other xattrs.

    Raises OSError.
    """
    for _, directories, files, here in os.fwalk(upper, topdown=False):
        for name in (*files, *directories):
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISSOCK(status.st_mode):
                os.unlink(name, dir_fd=here)
            elif not is_whiteout(status):
                _drop_foreign(f"/proc/self/fd/{here}/{name}")
                told_ns = times.of(status.st_mtime_ns)
                os.utime(name, ns=(told_ns, told_ns), dir_fd=here, follow_symlinks=False)
    _drop_foreign(str(upper))
    told_ns = times.of(upper.stat().st_mtime_ns)
    os.utime(upper, ns=(told_ns, told_ns))


class _Packed:
    """The compressed archive as a stream that hashes what goes in."""

    def __init__(self, chunks: Iterator[bytes], engine: Compressor) -> None:
        self._chunks = chunks
        self._engine = engine
        self._hash = hashlib.sha256()
        self._ready = bytearray()
        self._ended = False
        self.tar_bytes = 0

    @property
    def diff_id(self) -> str:
        """The digest of the tar, once all of it has been read."""
        return f"sha256:{self._hash.hexdigest()}"

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes; none at the end."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            tar = self._gathered()
            self._hash.update(tar)
            self.tar_bytes += len(tar)
            self._ready += self._engine.compress(tar)
            if not tar:
                self._ready += self._engine.flush()
                self._ended = True
        size = len(self._ready) if size < 0 else size
        part = bytes(self._ready[:size])
        del self._ready[:size]
        return part

    def _gathered(self) -> bytes:
        """The next chunk of the tar, not too small a one; none at the end.

        An empty part, such as the padding of a file that needs none, is no end.
        """
        parts: list[bytes] = []
        gathered_bytes = 0
        while gathered_bytes < CHUNK_BYTES and (part := next(self._chunks, None)) is not None:
            parts.append(part)
            gathered_bytes += len(part)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Level:
    """An open directory of the current path: its name with a slash, what is left to tell."""

    descriptor: int
    path: bytes
    names: Iterator[tuple[bytes, bool]]


class _Archive:
    """One walk over an upper directory; ``entries`` counts what it has told."""

    def __init__(self, upper: Path, times: Times) -> None:
        self._upper = upper
        self._times = times
        self._links: dict[tuple[int, int], bytes] = {}
        self.entries = 0

    def chunks(self) -> Iterator[bytes]:
        """The tar: parents before children, whiteouts before their siblings."""
        levels: list[_Level] = []
        try:
            descriptor = os.open(self._upper, _DIRECTORY)
            levels.append(_Level(descriptor, b"", _names(descriptor)))
            yield self._directory(descriptor, b"./")
            while levels:
                here = levels[-1]
                name, is_gone = next(here.names, (b"", False))
                if not name:
                    os.close(levels.pop().descriptor)
                elif is_gone:
                    yield self._told(_marker(here.path + WHITEOUT + name))
                else:
                    yield from self._entry(here, name, levels)
        finally:
            for level in levels:
                os.close(level.descriptor)
        yield end_of_archive()

    def _entry(self, here: _Level, name: bytes, levels: list[_Level]) -> Iterator[bytes]:
        """What *name* is; a directory also becomes the last of *levels*."""
        path = here.path + name
        if name.startswith(WHITEOUT):
            raise ImageError(f"no layer can hold a file called {name!r}", remedy="rename it")
        status = os.stat(name, dir_fd=here.descriptor, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if len(levels) > MAX_DEPTH or len(path) >= MAX_PATH_BYTES:
                raise ImageError(f"{path[:256]!r} is too deep for a layer", remedy="remove it")
            descriptor = os.open(name, _DIRECTORY, dir_fd=here.descriptor)
            levels.append(_Level(descriptor, path + b"/", _names(descriptor)))
            yield self._directory(descriptor, path + b"/")
        elif stat.S_ISREG(status.st_mode):
            yield from self._file(here, name)
        elif not stat.S_ISSOCK(status.st_mode):
            first = self._first_name(status, path)
            yield self._told(first or self._special(here, name, status))

    def _directory(self, descriptor: int, path: bytes) -> bytes:
        """Its entry and, if nothing below shows in it, the mark that says so."""
        told = self._told(self._plain(path, Kind.DIRECTORY, _attributes(descriptor, path)))
        if is_opaque(descriptor):
            told += self._told(_marker(path + OPAQUE_NAME))
        return told

    def _file(self, here: _Level, name: bytes) -> Iterator[bytes]:
        path = here.path + name
        descriptor = os.open(name, _FILE, dir_fd=here.descriptor)
        try:
            status = os.fstat(descriptor)
            if first := self._first_name(status, path):
                yield self._told(first)
                return
            attributes = _attributes(descriptor, path)
            size_bytes = status.st_size
            yield self._told(self._plain(path, Kind.FILE, attributes, size_bytes=size_bytes))
            left_bytes = size_bytes
            while left_bytes:
                chunk = os.read(descriptor, min(left_bytes, _CHUNK_BYTES))
                if not chunk:
                    raise ImageError(f"{path[:256]!r} became shorter while it was read")
                left_bytes -= len(chunk)
                yield chunk
            yield padding(size_bytes)
        finally:
            os.close(descriptor)

    def _first_name(self, status: os.stat_result, path: bytes) -> Entry | None:
        """A hard link to the name under which this file was told before, if it was."""
        if status.st_nlink < 2:
            return None
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return None
        return replace(_marker(path), kind=Kind.HARD_LINK, link=first)

    def _special(self, here: _Level, name: bytes, status: os.stat_result) -> Entry:
        """A symbolic link, a FIFO or a device; layers carry no extended attributes of these."""
        attributes = Attributes(
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            xattrs={},
        )
        plain = self._plain(here.path + name, _KINDS[stat.S_IFMT(status.st_mode)], attributes)
        if plain.kind is Kind.SYMBOLIC_LINK:
            return replace(plain, link=os.readlink(name, dir_fd=here.descriptor))
        number = status.st_rdev
        return replace(plain, device=(os.major(number), os.minor(number)))

    def _plain(
        self, path: bytes, kind: Kind, attributes: Attributes, *, size_bytes: int = 0
    ) -> Entry:
        return Entry(
            name=path,
            kind=kind,
            mode=attributes.mode,
            uid=attributes.uid,
            gid=attributes.gid,
            size_bytes=size_bytes,
            mtime_ns=self._times.of(attributes.mtime_ns),
            xattrs=attributes.xattrs,
        )

    def _told(self, entry: Entry) -> bytes:
        if len(entry.name) > MAX_PATH_BYTES:
            raise ImageError(f"{entry.name[:256]!r} is too long for a layer", remedy="rename it")
        self.entries += 1
        return header(entry)


def _names(directory: int) -> Iterator[tuple[bytes, bool]]:
    """The names in *directory*, each with whether it is a whiteout: these first, all sorted."""
    gone: list[bytes] = []
    there: list[bytes] = []
    with os.scandir(directory) as found:
        for each in found:
            name = os.fsencode(each.name)
            is_usual = each.is_file(follow_symlinks=False) or each.is_dir(follow_symlinks=False)
            if is_usual or each.is_symlink():
                there.append(name)
            else:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                (gone if is_whiteout(status) else there).append(name)
    return iter(
        [(name, True) for name in sorted(gone)] + [(name, False) for name in sorted(there)]
    )


def _marker(path: bytes) -> Entry:
    """An empty file of no one and no time."""
    return Entry(name=path, kind=Kind.FILE, mode=0, uid=0, gid=0, size_bytes=0, mtime_ns=0)


def _attributes(file: int, path: bytes) -> Attributes:
    """Those of *file*, of which the upper directory must hold all, not only what changed."""
    if incomplete := sorted(_INCOMPLETE.intersection(os.listxattr(file))):
        raise ImageError(
            f"{path[:256]!r} is only partly in the upper directory ({incomplete[0]})",
            remedy="mount the overlay with redirect_dir=off,metacopy=off",
        )
    return attributes_of(file)


def _drop_foreign(path: str) -> None:
    """Remove the extended attributes that no layer carries, but the one that makes it opaque."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name != opaque_name() and not is_carried(name):
            os.removexattr(path, name, follow_symlinks=False)
