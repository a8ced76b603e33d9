"""Blobs: bytes named by their hash. Nothing is read without being checked against its name."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from runtime.errors import ImageError
from runtime.image.durable import sync_directory
from runtime.image.manifest import Descriptor

CHUNK_BYTES = 256 << 10
_REMEDY = "remove the image that uses it and make it again"


def digest_of(raw: bytes) -> str:
    """The digest of *raw*."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


class Reader(Protocol):
    """Anything bytes can be read from, as a file opened for reading."""

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes; none of them at the end."""


class BlobReader:
    """A blob, read as a stream; the end is reached only if size and digest are right.

    ``read`` raises ImageError instead of returning the last bytes of a blob that is corrupt. Who
    stops before the end has bytes that nothing vouches for.
    """

    def __init__(self, file: BinaryIO, digest: str, size_bytes: int | None) -> None:
        self._file = file
        self._digest = digest
        self._size_bytes = size_bytes
        self._hash = hashlib.sha256()
        self._seen_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most *size* bytes, all that is left if it is negative; ``b""`` at the end."""
        chunk = self._file.read(size)
        self._hash.update(chunk)
        self._seen_bytes += len(chunk)
        if self._size_bytes is not None and self._seen_bytes > self._size_bytes:
            raise self._corrupt(f"it is longer than its {self._size_bytes} bytes")
        if size < 0 or len(chunk) < size:  # a buffered file reads short only at its end
            self._verify()
        return chunk

    def _verify(self) -> None:
        if self._size_bytes is not None and self._seen_bytes != self._size_bytes:
            raise self._corrupt(f"it has {self._seen_bytes} of {self._size_bytes} bytes")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise self._corrupt(f"its content hashes to {found}")

    def _corrupt(self, why: str) -> ImageError:
        return ImageError(f"blob {self._digest} is corrupt: {why}", remedy=_REMEDY)


@contextmanager
def open_blob(folder: Path, digest: str, size_bytes: int | None) -> Iterator[BlobReader]:
    """The blob *digest* in *folder*, as a stream that verifies itself. Raises ImageError."""
    with open_raw(folder, digest) as (file, _):
        yield BlobReader(file, digest, size_bytes)


@contextmanager
def open_raw(folder: Path, digest: str) -> Iterator[tuple[BinaryIO, int]]:
    """The file of the blob *digest* and its size in bytes; nothing vouches for what is read.

    Raises ImageError if there is none.
    """
    path = folder / digest.removeprefix("sha256:")
    try:
        # O_NONBLOCK: a FIFO put in a blob's place must be an error, not a wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ImageError(f"blob {digest} is missing from the store", remedy=_REMEDY) from None
    except OSError as error:
        raise ImageError(f"blob {digest} cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - wraps a descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"blob {digest} is not a regular file", remedy=_REMEDY)
        yield file, status.st_size


def keep_blob(folder: Path, scratch: Path, file: Path, digest: str) -> None:
    """Let *file*, durable and known to hash to *digest*, be a blob of *folder* as well.

    It is linked, not copied: all three are on one file system. Whatever has the blob's name is
    replaced.
    """
    temporary = scratch / os.urandom(16).hex()
    try:
        temporary.hardlink_to(file)
        temporary.replace(folder / digest.removeprefix("sha256:"))
    finally:
        temporary.unlink(missing_ok=True)  # rename(2) of two links of one file leaves both
    sync_directory(folder)


def write_blob(
    folder: Path,
    scratch: Path,
    source: bytes | Reader,
    media_type: str,
    *,
    expected: str | None = None,
) -> Descriptor:
    """Store *source* in *folder* under its hash; it is there whole and durable, or not at all.

    What does not have the digest *expected* is refused. *scratch* lies on the same file system;
    what a killed process leaves there is the caller's to clear. A blob that is there already is
    replaced: that heals one that has gone bad.
    """
    temporary = scratch / os.urandom(16).hex()
    try:
        digest, size_bytes = _spool(temporary, source)
        if expected not in {None, f"sha256:{digest}"}:
            raise ImageError(f"what came as {expected} hashes to sha256:{digest}")
        temporary.replace(folder / digest)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(folder)
    return Descriptor(media_type=media_type, digest=f"sha256:{digest}", size_bytes=size_bytes)


def _spool(path: Path, source: bytes | Reader) -> tuple[str, int]:
    """Write *source* to *path* and to the disk; its hash and size in bytes."""
    hasher = hashlib.sha256()
    size_bytes = 0
    with path.open("xb") as file:
        for chunk in (source,) if isinstance(source, bytes) else _chunks(source):
            hasher.update(chunk)
            size_bytes += len(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return hasher.hexdigest(), size_bytes


def _chunks(source: Reader) -> Iterator[bytes]:
    while chunk := source.read(CHUNK_BYTES):
        yield chunk
