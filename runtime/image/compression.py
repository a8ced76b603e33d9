"""From the compressed bytes of a layer to its tar: inflated, hashed and bounded in one pass."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Literal, Protocol

from runtime.errors import ImageError
from runtime.image.blob import CHUNK_BYTES, Reader

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_MAX_WINDOW_BYTES = 128 << 20  # what zstd(1) takes without being told to take more
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib checks header, CRC and length of each member itself


def _zlib() -> ModuleType:
    """Intel's ISA-L, several times faster, or where it is not built for this machine zlib."""
    try:
        from isal import isal_zlib  # noqa: PLC0415 - only who packs or unpacks
    except ImportError:
        return zlib
    return isal_zlib


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


class Compressor(Protocol):
    """What compresses a stream, as zlib's compression objects do."""

    def compress(self, data: bytes, /) -> bytes:
        """What is ready after *data*."""

    def flush(self) -> bytes:
        """The rest."""


def compressor(name: Literal["gzip", "zstd"]) -> Compressor:
    """A compressor of layers; gzip's header holds neither time nor name."""
    if name == "zstd":
        import zstandard  # noqa: PLC0415 - only who compresses with it

        return zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    packer: Compressor = _zlib().compressobj(2, zlib.DEFLATED, _GZIP_WINDOW)
    return packer


def _inflated(source: Reader) -> Iterator[bytes]:
    head = source.read(CHUNK_BYTES)
    if head.startswith(_ZSTD) or _SKIPPABLE.match(head):
        yield from _unzstd(head, source)
        return
    if head.startswith(_GZIP):
        yield from _gunzipped(head, source)
        return
    while head:
        yield head
        head = source.read(CHUNK_BYTES)


def _unzstd(data: bytes, source: Reader) -> Iterator[bytes]:
    """One zstd frame or several, skippable ones among them (RFC 8878), within a bounded window."""
    import zstandard  # noqa: PLC0415 - only who unpacks such a layer

    engine = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    rewound: Any = _Rewound(data, source)  # it asks for no more of a file than to be read
    with engine.stream_reader(rewound, read_size=CHUNK_BYTES, read_across_frames=True) as reader:
        try:
            while inflated := reader.read(CHUNK_BYTES):
                yield inflated
        except zstandard.ZstdError as error:
            raise ImageError(f"its zstd stream is damaged ({error})") from error


class _Rewound:
    """*source* with *head*, which was read from it, still before it."""

    def __init__(self, head: bytes, source: Reader) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        head, self._head = self._head, b""
        return head or self._source.read(size)


def _gunzipped(data: bytes, source: Reader) -> Iterator[bytes]:
    """One gzip member or several, with zeros between and after them, as gzip(1) reads."""
    library = _zlib()
    engine = library.decompressobj(_GZIP_WINDOW)
    between = False
    while data:
        if between:
            data = data.lstrip(b"\0")
            if data:
                engine, between = library.decompressobj(_GZIP_WINDOW), False
        if not between:
            try:
                inflated = engine.decompress(data, CHUNK_BYTES)
            except library.error as error:
                raise ImageError(f"its gzip stream is damaged ({error})") from error
            if inflated:
                yield inflated
            between = engine.eof
            data = engine.unused_data if between else engine.unconsumed_tail
        data = data or source.read(CHUNK_BYTES)
    if not between:
        raise ImageError("its gzip stream ends too early")
