"""ADD of an archive: what it is, and its entries written into a tree, whoever made it.

Only what looks like a tar after undoing gzip, bzip2, xz or zstd is unpacked; anything else is
copied as the file it is (Dockerfile reference, ADD). Links of the tree are followed as for COPY,
names that lead upwards are refused, and so is an archive that unpacks to more than *limits*.
"""

import bz2
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from runtime.build.copying import Manner
from runtime.build.rootfs import Attributes, Rootfs
from runtime.errors import BuildError, ImageError
from runtime.image.archive import ArchiveReader, Entry, Kind
from runtime.image.blob import Reader

MOST_BYTES = 64 << 30
MOST_ENTRIES = 5_000_000

_CHUNK_BYTES = 256 << 10
_BLOCK_BYTES = 512
_WINDOW_BYTES = 256 << 20  # what one stream may make us remember
_PIECE_BYTES = 1 << 10  # of zstd, which may inflate to 256 blocks of 128 KiB at once
_NO_ID = (1 << 32) - 1


class TarStream:
    """The bytes of a perhaps compressed file, a bounded number of them; memory stays flat."""

    def __init__(self, file: BinaryIO, *, limit_bytes: int = MOST_BYTES) -> None:
        self._chunks = _inflated(file)
        self._left = memoryview(b"")
        self._limit_bytes = limit_bytes
        self._seen_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Exactly *size* bytes, fewer only at the end. Raises BuildError."""
        parts = []
        while size and (self._left or self._refill()):
            part, self._left = self._left[:size], self._left[size:]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _refill(self) -> bool:
        chunk = b""
        try:
            while not chunk and (got := next(self._chunks, None)) is not None:
                chunk = got
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise BuildError(f"it is damaged ({error})") from error
        self._seen_bytes += len(chunk)
        if self._seen_bytes > self._limit_bytes:
            raise BuildError(f"it unpacks to more than {self._limit_bytes} bytes")
        self._left = memoryview(chunk)
        return bool(chunk)


def is_archive(file: BinaryIO) -> bool:
    """Whether the seekable *file* begins as a tar does, compressed or not; rewinds it."""
    try:
        head = TarStream(file, limit_bytes=1 << 20).read(_BLOCK_BYTES)
    except BuildError:
        head = b""
    finally:
        file.seek(0)
    if len(head) < _BLOCK_BYTES or not head.strip(b"\0"):
        return False
    digits = head[148:156].split(b"\0", 1)[0].strip(b" ")
    total = sum(head[:148]) + 8 * 0x20 + sum(head[156:])
    return digits.isdigit() and not digits.strip(b"01234567") and int(digits, 8) == total


@dataclass(slots=True)
class Unpacking:
    """Writes archives into the directory *base* (a real path) of *rootfs*."""

    rootfs: Rootfs
    base: str
    manner: Manner

    def unpack(self, file: BinaryIO, name: str) -> None:
        """Write every entry. Raises BuildError that names archive and entry."""
        where = name
        try:
            archive = ArchiveReader(TarStream(file))
            for number, entry in enumerate(archive):
                where = f"{name}: {entry.name[:256]!r}"
                self._write(entry, archive, number)
        except (BuildError, ImageError) as error:
            raise BuildError(f"{where}: {error.message}", remedy=error.remedy) from error
        except OSError as error:
            raise BuildError(f"{where}: {error.strerror}") from error

    def _write(self, entry: Entry, archive: ArchiveReader, number: int) -> None:
        if number >= MOST_ENTRIES:
            raise BuildError(f"it has more than {MOST_ENTRIES} entries")
        relative = _relative(entry.name)
        if not relative:
            return  # the directory it is unpacked into keeps what it has
        attributes = self._attributes(entry)
        above, _, last = relative.rpartition("/")
        if entry.kind is Kind.DIRECTORY:
            # A link that leads to a directory stays: /lib -> usr/lib must survive a tar with lib/.
            real = self.rootfs.make_directories(f"{self.base}/{relative}", self._made())
            self.rootfs.adorn_directory(real, attributes)
            return
        place = self.rootfs.make_directories(f"{self.base}/{above}", self._made())
        real = f"{place}/{last}" if place else last
        match entry.kind:
            case Kind.FILE:
                self._write_file(real, attributes, archive)
            case Kind.HARD_LINK:
                self._hard_link(real, entry)
            case Kind.SYMBOLIC_LINK:
                self.rootfs.link(real, os.fsdecode(entry.link), attributes)
            case Kind.FIFO:
                self.rootfs.special(real, stat.S_IFIFO, 0, attributes)
            case Kind.CHARACTER_DEVICE:
                self.rootfs.special(real, stat.S_IFCHR, _device(entry), attributes)
            case Kind.BLOCK_DEVICE:
                self.rootfs.special(real, stat.S_IFBLK, _device(entry), attributes)

    def _write_file(self, real: str, attributes: Attributes, archive: ArchiveReader) -> None:
        with open(self.rootfs.new_file(real), "wb", buffering=0) as file:  # noqa: PTH123
            for chunk in archive.chunks():
                left = memoryview(chunk)
                while left:
                    left = left[file.write(left) :]
            self.rootfs.finish_file(file.fileno(), attributes)

    def _hard_link(self, real: str, entry: Entry) -> None:
        target = _relative(entry.link)
        above, _, last = target.rpartition("/")
        place = self.rootfs.real(f"{self.base}/{above}")
        existing = f"{place}/{last}" if place else last
        status = self.rootfs.status(existing)
        if status is None or stat.S_ISDIR(status.st_mode) or existing == real:
            raise BuildError("is a hard link to what is no file")
        self.rootfs.hard_link(real, existing)

    def _attributes(self, entry: Entry) -> Attributes:
        if entry.uid >= _NO_ID or entry.gid >= _NO_ID:
            raise BuildError(f"has an impossible owner {entry.uid}:{entry.gid}")
        owner = self.manner.owner
        names = (n for n in entry.xattrs if n == "security.capability" or n.startswith("user."))
        return Attributes(
            uid=entry.uid if owner is None else owner.uid,
            gid=entry.gid if owner is None else owner.gid,
            mode=entry.mode if self.manner.mode is None else self.manner.mode,
            mtime_ns=max(0, min(entry.mtime_ns, self.manner.epoch_ns)),
            xattrs=tuple((n, entry.xattrs[n]) for n in sorted(names) if "\0" not in n),
        )

    def _made(self) -> Attributes:
        return self.manner.made()


def _relative(raw: bytes) -> str:
    """The name of an entry below the directory; a leading ``/`` means that directory."""
    if b"\0" in raw or not raw:
        raise BuildError("has an impossible name")
    parts = [part for part in raw.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise BuildError("leads upwards")
    return os.fsdecode(b"/".join(parts))


def _device(entry: Entry) -> int:
    major, minor = entry.device
    if major >= 1 << 12 or minor >= 1 << 20 or (major, minor) == (0, 0):
        raise BuildError(f"is a device with impossible numbers {entry.device}")
    return os.makedev(major, minor)


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    magic = file.read(6)
    file.seek(0)
    reader: Reader = file
    if magic.startswith(b"\x1f\x8b"):
        reader = gzip.GzipFile(fileobj=file)
    elif magic.startswith(b"\x28\xb5\x2f\xfd"):
        yield from _zstd(file)
    elif magic.startswith(b"BZh"):
        yield from _members(file, bz2.BZ2Decompressor)
    elif magic == b"\xfd7zXZ\0":
        yield from _members(file, partial(lzma.LZMADecompressor, memlimit=_WINDOW_BYTES))
    while chunk := reader.read(_CHUNK_BYTES):
        yield chunk


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """Zstandard's stream reader would not tell a frame that was cut off from one that ended."""
    import zstandard  # noqa: PLC0415 - few archives need it

    frames = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    engine = None
    try:
        while piece := file.read(_PIECE_BYTES):
            while piece:
                engine = engine or frames.decompressobj()
                yield engine.decompress(piece)
                piece = engine.unused_data if engine.eof else b""
                engine = None if engine.eof else engine
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    if engine is not None:
        raise EOFError("it ends too early")


def _members(
    file: BinaryIO, make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> Iterator[bytes]:
    """One compressed stream after the other, with zeros after them, as bzip2 and xz write them."""
    data = file.read(_CHUNK_BYTES)
    while data := data.lstrip(b"\0") or file.read(_CHUNK_BYTES).lstrip(b"\0"):
        engine = make()
        while not engine.eof:
            if engine.needs_input:
                data = data or file.read(_CHUNK_BYTES)
                if not data:
                    raise EOFError("it ends too early")
            yield engine.decompress(data, _CHUNK_BYTES)
            data = b""
        data = engine.unused_data
