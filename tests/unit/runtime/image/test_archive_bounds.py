"""Extended headers of a hostile tar: their sum is bounded, and reading them takes linear time."""

import hashlib
import io
import tarfile

import pytest

from runtime.errors import ImageError
from runtime.image.archive import MAX_HEADER_BYTES, ArchiveReader
from runtime.image.compression import LayerStream


def header(flag: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("h")
    info.type, info.size = flag, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def record(key: str, value: bytes) -> bytes:
    body = b" " + key.encode() + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def read(raw: bytes) -> int:
    raw += bytes(1024)
    diff_id = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    stream = LayerStream(io.BytesIO(raw), diff_id=diff_id, limit_bytes=1 << 30)
    return sum(1 for _ in ArchiveReader(stream))


def test_many_headers_of_one_entry_count_together() -> None:
    one = record("SCHILY.xattr.user.a", bytes(MAX_HEADER_BYTES // 4))
    parts = [header(b"x", one.replace(b"user.a", f"user.{n}".encode())) for n in range(6)]
    with pytest.raises(ImageError, match="extended tar header"):
        read(b"".join(parts) + header(b"0", b""))


def test_a_header_of_many_records_is_read() -> None:
    many = record("a", b"") * (MAX_HEADER_BYTES // 8)
    assert read(header(b"x", many) + header(b"0", b"")) == 1
