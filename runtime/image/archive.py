"""A reader of tar streams from strangers: forward only, flat in memory, no surprises.

Reads what layer tars are made of: ustar and v7 headers, pax extended headers, GNU long names and
base-256 numbers. Python's own tarfile would do, but reads headers of any size into memory and
fails in many types of its own. Sources: POSIX.1-2017 pax(1), GNU tar manual appendix D.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Protocol
from zlib import adler32

from runtime.errors import ImageError

BLOCK_BYTES = 512
MAX_HEADER_BYTES = 1 << 20
"""Longest extended header that is read: names end at 4096 bytes, an xattr at 64 KiB (xattr(7))."""

_XATTR = "SCHILY.xattr."
_OCTAL = re.compile(rb"[0-7]*")
_DECIMAL = re.compile(r"\d{1,19}")
_SECONDS = re.compile(r"(-?\d{1,12})(?:\.(\d*))?")


class Kind(Enum):
    """What an entry is; the value is its type flag."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMBOLIC_LINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of the archive. Names are bytes, as the kernel takes them."""

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class TarBytes(Protocol):
    """The bytes of a tar, already inflated."""

    def read(self, size: int, /) -> bytes:
        """Exactly *size* bytes, fewer only at the end. Raises ImageError."""


class ArchiveReader:
    """The entries of a tar stream, in order; ``chunks`` gives the content of the current one."""

    def __init__(self, stream: TarBytes) -> None:
        self._stream = stream
        self._content_bytes = 0  # of the current entry, not yet read
        self._padding_bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        """Each entry; what was not read of the one before is skipped. Raises ImageError."""
        extended: dict[str, bytes] = {}
        while (header := self._header()) is not None:
            flag = header[156:157]
            if flag in {b"x", b"L", b"K"}:
                extended = self._extended(header, flag, extended)
            elif flag == b"g":  # defaults for the whole archive: a comment, in practice
                self._start_content(_number(header, 124, 12, "size"))
            else:
                entry = _entry(header, extended)
                extended = {}
                self._start_content(entry.size_bytes)
                yield entry
            self._skip_content()
        if extended:
            raise ImageError("the tar ends after an extended header")

    def chunks(self, chunk_bytes: int = 256 << 10) -> Iterator[bytes]:
        """The content of the entry that was yielded last. Raises ImageError if it is cut off."""
        while self._content_bytes:
            chunk = self._stream.read(min(self._content_bytes, chunk_bytes))
            if not chunk:
                raise ImageError("the tar ends in the middle of a file")
            self._content_bytes -= len(chunk)
            yield chunk

    def _header(self) -> bytes | None:
        """The next header block, or None at the end: a block of zeros, or no block."""
        header = self._stream.read(BLOCK_BYTES)
        if not header.strip(b"\0"):
            return None
        if len(header) < BLOCK_BYTES:
            raise ImageError("the tar ends in the middle of a header")
        # The checksum counts its own eight bytes as spaces.
        if _sum(header) - sum(header[148:156]) + 8 * 0x20 != _number(header, 148, 8, "checksum"):
            raise ImageError("a tar header has a wrong checksum")
        return header

    def _extended(
        self, header: bytes, flag: bytes, before: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        size_bytes = _number(header, 124, 12, "size")
        known_bytes = sum(len(key) + len(value) for key, value in before.items())
        if known_bytes + size_bytes > MAX_HEADER_BYTES:
            raise ImageError(f"an extended tar header is larger than {MAX_HEADER_BYTES} bytes")
        self._start_content(size_bytes)
        data = b"".join(self.chunks())
        if flag == b"x":
            return {**before, **dict(_pax_records(data))}
        # A pax record of the same meaning wins over a GNU long name, whatever the order.
        key = "path" if flag == b"L" else "linkpath"
        return {key: data.split(b"\0", 1)[0], **before}

    def _start_content(self, size_bytes: int) -> None:
        self._content_bytes = size_bytes
        self._padding_bytes = -size_bytes % BLOCK_BYTES

    def _skip_content(self) -> None:
        for _ in self.chunks():
            pass
        if len(self._stream.read(self._padding_bytes)) < self._padding_bytes:
            raise ImageError("the tar ends in the middle of a block")
        self._padding_bytes = 0


def _entry(header: bytes, extended: Mapping[str, bytes]) -> Entry:
    if any(key.startswith("GNU.sparse.") for key in extended) or header[156:157] == b"S":
        raise ImageError("the tar has a sparse file (image-spec: layers should not)")
    kind = _kind(header)
    # As everywhere: only files have content, whatever their headers say of a link's size.
    size_bytes = _extended_number(header, extended, "size", 124, 12) if kind is Kind.FILE else 0
    return Entry(
        name=extended.get("path") or _name(header),
        kind=kind,
        mode=_number(header, 100, 8, "mode") & 0o7777,
        uid=_extended_number(header, extended, "uid", 108, 8),
        gid=_extended_number(header, extended, "gid", 116, 8),
        size_bytes=size_bytes,
        mtime_ns=_mtime_ns(header, extended),
        link=extended.get("linkpath") or _text(header[157:257]),
        device=_device(header, kind),
        xattrs={
            key.removeprefix(_XATTR): value
            for key, value in extended.items()
            if key.startswith(_XATTR)
        },
    )


def _kind(header: bytes) -> Kind:
    flag = header[156:157]
    if flag == b"\0" and _text(header[:100]).endswith(b"/"):
        return Kind.DIRECTORY  # v7 had no flag for directories
    if flag in {b"\0", b"7"}:
        return Kind.FILE
    try:
        return Kind(flag)
    except ValueError:
        raise ImageError(f"the tar has an entry of the unknown type {flag!r}") from None


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0":  # GNU's magic differs: it keeps times where the prefix is
        prefix = _text(header[345:500])
        return prefix + b"/" + name if prefix else name
    return name


def _device(header: bytes, kind: Kind) -> tuple[int, int]:
    if kind not in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}:
        return 0, 0
    return _number(header, 329, 8, "device"), _number(header, 337, 8, "device")


def _sum(header: bytes) -> int:
    """The sum of the bytes: the low half of Adler-32 less one, as long as it does not overflow."""
    half = BLOCK_BYTES // 2
    return (adler32(header[:half]) & 0xFFFF) + (adler32(header[half:]) & 0xFFFF) - 2


def _text(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _number(header: bytes, offset: int, length: int, what: str) -> int:
    """An octal number, or GNU's base-256 one, which has its highest bit set; never negative."""
    number = _parsed(header[offset : offset + length])
    if number is None:
        raise ImageError(f"a tar header has a bad {what}: {header[offset : offset + length]!r}")
    return number


@lru_cache(maxsize=1024)  # owners, modes and zeros come again and again
def _parsed(raw: bytes) -> int | None:
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    digits = _text(raw).strip(b" ")
    return int(digits or b"0", 8) if _OCTAL.fullmatch(digits) else None


def _extended_number(
    header: bytes, extended: Mapping[str, bytes], key: str, offset: int, length: int
) -> int:
    record = extended.get(key)
    if not record:
        return _number(header, offset, length, key)
    text = record.decode("ascii", "replace")
    if not _DECIMAL.fullmatch(text):
        raise ImageError(f"an extended tar header has a bad {key}: {record[:40]!r}")
    return int(text)


def _mtime_ns(header: bytes, extended: Mapping[str, bytes]) -> int:
    record = extended.get("mtime")
    if not record:
        raw = header[136:148]
        if raw[0] == 0xFF:  # base-256 and negative: before 1970
            return int.from_bytes(raw, "big", signed=True) * 10**9
        return _number(header, 136, 12, "mtime") * 10**9
    match = _SECONDS.fullmatch(record.decode("ascii", "replace"))
    if match is None:
        raise ImageError(f"an extended tar header has a bad mtime: {record[:40]!r}")
    fraction_ns = int((match[2] or "").ljust(9, "0")[:9])
    sign = -1 if match[1].startswith("-") else 1
    return sign * (abs(int(match[1])) * 10**9 + fraction_ns)


def _pax_records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The records, each a LENGTH that counts itself, a space, KEY=VALUE and a newline."""
    start = 0
    while start < len(data):
        digits, _, _ = data[start : start + 20].partition(b" ")
        end = start + (int(digits) if digits.isdigit() else 0)
        record = data[start + len(digits) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not equals or not key or not record.endswith(b"\n") or end > len(data):
            bad = data[start : start + 40]
            raise ImageError(f"an extended tar header has a bad record: {bad!r}")
        yield key.decode("utf-8", "surrogateescape"), value[:-1]
        start = end
