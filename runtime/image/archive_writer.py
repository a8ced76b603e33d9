"""Tar headers, byte for byte: ustar where it suffices, a pax extended header where it does not.

Nothing of the machine stands in them, no user names and no inode numbers. Names are bytes, as
the kernel takes them. Source: POSIX.1-2017 pax(1).
"""

import struct
from collections.abc import Mapping

from runtime.image.archive import BLOCK_BYTES, Entry

_LAYOUT = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_NAME_BYTES, _PREFIX_BYTES = 100, 155
_SHORT, _LONG = 8**7, 8**11  # what seven and eleven octal digits can say
_XATTR = b"SCHILY.xattr."


def header(entry: Entry) -> bytes:
    """The header blocks of *entry*; the name of a directory ends with a slash."""
    records: dict[bytes, bytes] = {}
    prefix, name = _split(entry.name)
    if not name:
        records[b"path"], name = entry.name, entry.name[:_NAME_BYTES]
    if len(entry.link) > _NAME_BYTES:
        records[b"linkpath"] = entry.link
    if not _is_utf8(b"".join(records.values())):
        records = {b"hdrcharset": b"BINARY", **records}
    uid = _or_record(records, b"uid", entry.uid, _SHORT)
    gid = _or_record(records, b"gid", entry.gid, _SHORT)
    size_bytes = _or_record(records, b"size", entry.size_bytes, _LONG)
    mtime_s, rest_ns = divmod(entry.mtime_ns, 10**9)
    if rest_ns or not 0 <= mtime_s < _LONG:
        records[b"mtime"] = _seconds(entry.mtime_ns)
        mtime_s = min(max(mtime_s, 0), _LONG - 1)
    for key, value in sorted(entry.xattrs.items()):
        records[_XATTR + key.encode("utf-8", "surrogateescape")] = value
    plain = _block(
        name, entry.mode, uid, gid, size_bytes, mtime_s, entry.kind.value,
        entry.link[:_NAME_BYTES], entry.device, prefix,
    )  # fmt: skip
    return _extension(records) + plain if records else plain


def padding(size_bytes: int) -> bytes:
    """What follows *size_bytes* of content up to the next block."""
    return bytes(-size_bytes % BLOCK_BYTES)


def end_of_archive() -> bytes:
    """Two blocks of zeros."""
    return bytes(2 * BLOCK_BYTES)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """*name* as prefix and name of a ustar header, both empty if it does not fit."""
    if len(name) <= _NAME_BYTES:
        return b"", name
    # The slash between the two is implied; the rest should be as long as it may be.
    slash = name.find(b"/", len(name) - _NAME_BYTES - 1, _PREFIX_BYTES + 1)
    if slash <= 0 or slash == len(name) - 1:
        return b"", b""
    return name[:slash], name[slash + 1 :]


def _or_record(records: dict[bytes, bytes], key: bytes, value: int, limit: int) -> int:
    """*value*, or 0 and a record in its stead if the header has no room for it."""
    if value < limit:
        return value
    records[key] = b"%d" % value
    return 0


def _seconds(mtime_ns: int) -> bytes:
    sign = "-" if mtime_ns < 0 else ""
    whole, rest_ns = divmod(abs(mtime_ns), 10**9)
    fraction = f".{rest_ns:09}".rstrip("0") if rest_ns else ""
    return f"{sign}{whole}{fraction}".encode()


def _extension(records: Mapping[bytes, bytes]) -> bytes:
    """The pax extended header with *records*."""
    body = b"".join(_record(key, value) for key, value in records.items())
    head = _block(b"././@PaxHeader", 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0), b"")
    return head + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """LENGTH KEY=VALUE and a newline, where the length counts its own digits."""
    rest_bytes = len(key) + len(value) + 3
    length = rest_bytes + len(str(rest_bytes))
    length = rest_bytes + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(  # noqa: PLR0913, PLR0917 - the fields of the header, in their order
    name: bytes, mode: int, uid: int, gid: int, size_bytes: int, mtime_s: int,
    flag: bytes, link: bytes, device: tuple[int, int], prefix: bytes,
) -> bytes:  # fmt: skip
    major, minor = device
    raw = _LAYOUT.pack(
        name, b"%07o\0" % mode, b"%07o\0" % uid, b"%07o\0" % gid, b"%011o\0" % size_bytes,
        b"%011o\0" % mtime_s, b" " * 8, flag, link, b"ustar\0", b"00", b"", b"",
        b"%07o\0" % major, b"%07o\0" % minor, prefix,
    )  # fmt: skip
    return b"%s%06o\0 %s" % (raw[:148], sum(raw), raw[156:])


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
