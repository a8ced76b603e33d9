"""From the compressed bytes of a layer to its tar: inflated, hashed and bounded in one pass."""

import hashlib
import zlib
from collections.abc import Iterator

from runtime.errors import ImageError
from runtime.image.blob import CHUNK_BYTES, Reader

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib checks header, CRC and length of each member itself


class LayerStream:
    """The uncompressed tar of a layer; its end is reached only if it hashes to the diff_id.

    Memory stays at a few chunks whatever the input inflates to. What is compressed how is told by
    the first bytes, as other engines do: media types are wrong in the wild.
    """

    def __init__(self, source: Reader, *, diff_id: str, limit_bytes: int) -> None:
        self._chunks = _inflated(source)
        self._diff_id = diff_id
        self._limit_bytes = limit_bytes
        self._left = memoryview(b"")
        self._hash = hashlib.sha256()
        self.seen_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Exactly *size* bytes, fewer only at the end. Raises ImageError."""
        parts = []
        wanted = size
        while wanted and (self._left or self._refill()):
            part, self._left = self._left[:wanted], self._left[wanted:]
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    def drain(self) -> None:
        """Read on to the end: what follows the last entry counts for the hash too."""
        while self._refill():
            pass

    def _refill(self) -> bool:
        chunk = next(self._chunks, b"")
        if not chunk:
            found = f"sha256:{self._hash.hexdigest()}"
            if found != self._diff_id:
                raise ImageError(f"its tar hashes to {found}, not to its diff_id {self._diff_id}")
            return False
        self.seen_bytes += len(chunk)
        if self.seen_bytes > self._limit_bytes:
            raise ImageError(f"it unpacks to more than {self._limit_bytes} bytes")
        self._hash.update(chunk)
        self._left = memoryview(chunk)
        return True


def _inflated(source: Reader) -> Iterator[bytes]:
    head = source.read(CHUNK_BYTES)
    if head.startswith(_ZSTD):
        raise ImageError(
            "it is compressed with zstd, which is not supported yet",
            remedy="push or copy the image with gzip layers",
        )
    if head.startswith(_GZIP):
        yield from _gunzipped(head, source)
        return
    while head:
        yield head
        head = source.read(CHUNK_BYTES)


def _gunzipped(data: bytes, source: Reader) -> Iterator[bytes]:
    """One gzip member or several, with zeros between and after them, as gzip(1) reads."""
    engine = zlib.decompressobj(_GZIP_WINDOW)
    between = False
    while data:
        if between:
            data = data.lstrip(b"\0")
            if data:
                engine, between = zlib.decompressobj(_GZIP_WINDOW), False
        if not between:
            try:
                inflated = engine.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                raise ImageError(f"its gzip stream is damaged ({error})") from error
            if inflated:
                yield inflated
            between = engine.eof
            data = engine.unused_data if between else engine.unconsumed_tail
        data = data or source.read(CHUNK_BYTES)
    if not between:
        raise ImageError("its gzip stream ends too early")
