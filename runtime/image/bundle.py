"""The members of a tar from a stranger, to be read in any order, by name.

Nothing is unpacked: a name is a key here and never a path. Standard input and what is compressed
are copied to a file without a name, which no death can leave behind.
"""

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from runtime.errors import ImageError
from runtime.image.archive import ArchiveReader, Kind
from runtime.image.blob import CHUNK_BYTES
from runtime.image.compression import LayerStream
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.layer import Limits
from runtime.image.room import CHECK_BYTES, Room

MAX_MEMBERS = 100_000
MAX_LINKS = 8

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Member:
    """Where the content of a member is in the file."""

    offset: int
    size_bytes: int


class Section:
    """A part of *file*, readable from its beginning; one is read at a time."""

    def __init__(self, file: IO[bytes], member: Member) -> None:
        file.seek(member.offset)
        self._file = file
        self._left = member.size_bytes

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, all that is left if it is negative; ``b""`` at the end."""
        chunk = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk


@dataclass(frozen=True, slots=True)
class Bundle:
    """The members of an archive by their names, without leading ``./``."""

    file: IO[bytes]
    members: dict[str, Member]
    links: dict[str, str]

    def __contains__(self, name: str) -> bool:
        return self._real(name) in self.members

    def open(self, name: str) -> Section:
        """The content of *name*. Raises ImageError if there is none."""
        return Section(self.file, self._member(name))

    def size_bytes(self, name: str) -> int:
        """How long *name* is. Raises ImageError if it is not there."""
        return self._member(name).size_bytes

    def read(self, name: str) -> bytes:
        """A whole document. Raises ImageError if it is missing or too large."""
        if self.size_bytes(name) > MAX_DOCUMENT_BYTES:
            raise ImageError(f"{name!r} in the archive is larger than {MAX_DOCUMENT_BYTES} bytes")
        return self.open(name).read()

    def _member(self, name: str) -> Member:
        try:
            return self.members[self._real(name)]
        except KeyError:
            raise ImageError(f"the archive has no {name[:256]!r}") from None

    def _real(self, name: str) -> str:
        """Where symbolic links lead; docker saves a layer of several images once."""
        for _ in range(MAX_LINKS):
            if name not in self.links:
                break
            name = self.links[name]
        return name


@contextmanager
def bundle(source: BinaryIO, scratch: Path, room: Room) -> Iterator[Bundle]:
    """The archive *source*. *scratch* is a directory for a copy, if *room* has any for it.

    Raises ImageError.
    """
    with _seekable(source, scratch, room) as file:
        try:
            found = _list(file)
        except ImageError as error:
            raise ImageError(f"the archive cannot be read: {error.message}") from error
        yield found


def _list(file: IO[bytes]) -> Bundle:
    members: dict[str, Member] = {}
    links: dict[str, str] = {}
    # It reads exactly what it is asked for, so the position is that of the content.
    archive = ArchiveReader(cast("LayerStream", file))
    for count, entry in enumerate(archive):
        if count >= MAX_MEMBERS:
            raise ImageError(f"it has more than {MAX_MEMBERS} members")
        name = _normal(entry.name)
        if entry.kind is Kind.FILE:
            members[name] = Member(file.tell(), entry.size_bytes)
        elif entry.kind is Kind.SYMBOLIC_LINK:
            folder = name.rpartition("/")[0]
            links[name] = _normal(f"{folder}/".encode() + entry.link)
        elif entry.kind is Kind.HARD_LINK:
            links[name] = _normal(entry.link)
    return Bundle(file, members, links)


def _normal(name: bytes) -> str:
    """*name* as a key: ``a/../b`` is ``b``."""
    parts: list[str] = []
    for part in name.decode("utf-8", "backslashreplace").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in {"", "."}:
            parts.append(part)
    return "/".join(parts)


@contextmanager
def _seekable(source: BinaryIO, scratch: Path, room: Room) -> Iterator[IO[bytes]]:
    head = source.read(len(_GZIP))
    if source.seekable():
        source.seek(0)
        if head != _GZIP:
            yield source
            return
    with tempfile.TemporaryFile(dir=scratch) as copy:
        _copy(head, source, copy, room)
        copy.seek(0)
        yield copy


def _copy(head: bytes, source: BinaryIO, copy: IO[bytes], room: Room) -> None:
    plain = source if source.seekable() else _Joined(head, source)
    reader = gzip.GzipFile(fileobj=plain) if head == _GZIP else plain  # type: ignore[arg-type]
    left = Limits().total_bytes
    unchecked_bytes = 0
    try:
        while chunk := reader.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise ImageError("the archive is larger than any image may be")
            unchecked_bytes += len(chunk)
            if unchecked_bytes >= CHECK_BYTES:
                unchecked_bytes = 0
                room.check(len(chunk))
            copy.write(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"the archive's gzip stream is damaged ({error})") from error


class _Joined:
    """A stream that gives back what was read of it to look at its kind."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        head, self._head = self._head, b""
        return head or self._rest.read(size)
