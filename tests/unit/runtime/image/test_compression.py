"""Compressed layers: the two libraries for gzip agree, zstd is read within bounds."""

import gzip
import hashlib
import io
import os
import types
import zlib

import pytest
import zstandard
from isal import isal_zlib

from runtime.errors import ImageError
from runtime.image import compression
from runtime.image.blob import CHUNK_BYTES
from runtime.image.compression import LayerStream, compressor

PLAIN = os.urandom(CHUNK_BYTES + 17) + bytes(3 * CHUNK_BYTES)
LIBRARIES = [isal_zlib, zlib]


def read(packed: bytes, *, plain: bytes = PLAIN, limit_bytes: int = 1 << 30) -> bytes:
    diff_id = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    stream = LayerStream(io.BytesIO(packed), diff_id=diff_id, limit_bytes=limit_bytes)
    found = stream.read(len(plain) + 1)
    stream.drain()
    return found


@pytest.fixture(params=LIBRARIES, ids=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    chosen: types.ModuleType = request.param
    monkeypatch.setattr(compression, "_zlib", lambda: chosen)
    return chosen


PACKED = gzip.compress(PLAIN, mtime=0)
HALF = len(PLAIN) // 2
NAMED = PACKED[:3] + b"\x08" + PACKED[4:10] + b"a name\0" + PACKED[10:]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "packed",
    [
        PACKED,
        gzip.compress(PLAIN[:HALF]) + gzip.compress(PLAIN[HALF:]),
        gzip.compress(PLAIN[:HALF])
        + bytes(700)
        + gzip.compress(PLAIN[HALF:])
        + bytes(CHUNK_BYTES),
        gzip.compress(b"") + PACKED + gzip.compress(b""),
        gzip.compress(PLAIN, compresslevel=0),
        NAMED,
    ],
    ids=["plain", "two members", "zeros between and after", "empty members", "stored", "named"],
)
def test_what_gzip_makes_is_read(packed: bytes) -> None:
    assert read(packed) == PLAIN


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("packed", "why"),
    [
        (PACKED[:-1], "ends too early"),
        (PACKED[:-9], "ends too early"),
        (PACKED[:3], "ends too early"),
        (PACKED + PACKED[:200], "ends too early"),
        (PACKED + b"more than a header of garbage", "damaged"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "damaged"),
        (PACKED[:-4] + bytes(4), "damaged"),
        (PACKED[:2] + b"\x07" + PACKED[3:], "damaged"),
    ],
)
def test_what_is_wrong_with_gzip_is_told(packed: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        read(packed)


def test_both_libraries_write_what_both_read(library: types.ModuleType) -> None:
    engine = compressor("gzip")
    packed = engine.compress(PLAIN) + engine.flush()
    assert packed[4:8] == bytes(4)  # no time
    assert [zlib.decompress(packed, 31), isal_zlib.decompress(packed, 31)] == [PLAIN, PLAIN]
    assert library in LIBRARIES


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_is_read_with_all_its_frames(level: int) -> None:
    pack = zstandard.ZstdCompressor(level=level).compress
    assert read(SKIPPABLE + pack(PLAIN[:HALF]) + SKIPPABLE + pack(PLAIN[HALF:])) == PLAIN


def test_a_zstd_window_of_any_size_is_not_taken() -> None:
    options = zstandard.ZstdCompressionParameters(window_log=28)
    engine = zstandard.ZstdCompressor(compression_params=options).compressobj()
    packed = engine.compress(PLAIN) + engine.flush()
    with pytest.raises(ImageError, match=r"zstd stream is damaged.*memory"):
        read(packed)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_is_stopped_at_the_limit(name: str) -> None:
    engine = compressor("zstd" if name == "zstd" else "gzip")
    packed = b"".join(engine.compress(bytes(1 << 20)) for _ in range(64)) + engine.flush()
    assert len(packed) < 1 << 20
    source = io.BytesIO(packed)
    stream = LayerStream(source, diff_id="sha256:" + "0" * 64, limit_bytes=1 << 20)
    with pytest.raises(ImageError, match="more than 1048576 bytes"):
        stream.drain()
    assert stream.seen_bytes <= (1 << 20) + CHUNK_BYTES
