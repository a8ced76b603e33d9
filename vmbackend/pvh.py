"""The uncompressed kernel inside a bzImage, for a VMM that can enter it directly (PVH). Pure.

A bzImage unpacks itself inside the guest, which costs 0.2 to 0.4 s under emulation. A kernel with
CONFIG_PVH can be entered as a plain ELF file instead, which the host unpacks once.
Sources: Documentation/arch/x86/boot.rst (header fields, compressed payload), elf(5),
Xen's public/elfnote.h (PHYS32_ENTRY).
"""

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from vmbackend.errors import MachineUnavailable

_LARGEST_BYTES = 512 << 20  # a bound for hostile input; Debian's cloud kernel has 53 MB
_PT_NOTE = 4
_XEN_PHYS32_ENTRY = 18


class NotExtractable(Exception):  # noqa: N818 - says what the kernel is; the caller uses the bzImage
    """There is no kernel here that can be entered through PVH; the message says why."""


def extract(bzimage: bytes) -> bytes:
    """The ELF kernel of *bzimage*. Raises NotExtractable if there is none to enter through PVH."""
    kernel = _decompressed(_payload(bzimage))
    if _XEN_PHYS32_ENTRY not in _xen_notes(kernel):
        raise NotExtractable("the kernel has no PVH entry (Xen note PHYS32_ENTRY)")
    return kernel


def _payload(bzimage: bytes) -> bytes:
    if len(bzimage) < 0x250 or bzimage[0x202:0x206] != b"HdrS":
        raise NotExtractable("not a bzImage: no HdrS at 0x202")
    (version,) = struct.unpack_from("<H", bzimage, 0x206)
    if version < 0x208:
        raise NotExtractable(f"boot protocol {version:#x} does not say where the payload is")
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if length < 8 or start + length > len(bzimage):
        raise NotExtractable("the payload lies outside of the file")
    return bzimage[start : start + length]


def _decompressed(payload: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", payload, len(payload) - 4)
    if size > _LARGEST_BYTES:
        raise NotExtractable(f"the payload claims to hold {size} bytes")
    for magic, decompress in _FORMATS.items():
        if payload.startswith(magic):
            kernel = _guarded(decompress, payload[:-4], size + 1)  # 1 more shows
            break
    else:
        raise NotExtractable(f"payload of unknown compression (begins {payload[:4].hex()})")
    if len(kernel) != size:
        raise NotExtractable(f"the payload gave {len(kernel)} bytes instead of {size}")
    return kernel


def _guarded(decompress: Callable[[bytes, int], bytes], data: bytes, size: int) -> bytes:
    try:
        return decompress(data, size)
    except (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, struct.error) as error:
        raise NotExtractable(f"the payload is corrupt: {error}") from error


def _gzip(data: bytes, size: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, size)


def _lzma(data: bytes, size: int) -> bytes:
    return lzma.LZMADecompressor().decompress(data, size)  # finds out whether xz or lzma


def _bzip2(data: bytes, size: int) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size)


def _lz4_legacy(data: bytes, size: int) -> bytes:
    """Blocks of 8 MiB, each after its compressed length (lz4's lz4_Frame_format.md, legacy)."""
    try:
        from lz4 import block  # noqa: PLC0415 - only LZ4 kernels need it
    except ImportError:
        raise MachineUnavailable(
            "the Python module lz4 is missing", remedy="pip install 'isoscope[vm]'"
        ) from None
    whole = bytearray()
    for chunk in _lz4_chunks(data):
        try:
            whole += block.decompress(chunk, uncompressed_size=8 << 20)
        except block.LZ4BlockError as error:
            raise NotExtractable(f"the payload is corrupt: {error}") from error
        if len(whole) > size:
            break
    return bytes(whole)


def _lz4_chunks(data: bytes) -> Iterator[bytes]:
    position = 4
    while position + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, position)
        position += 4
        if length == 0 or position + length > len(data):
            return
        yield data[position : position + length]
        position += length


def _zstd(_data: bytes, _size: int) -> bytes:
    raise NotExtractable("the payload is zstd, which Python 3.11 cannot read")


_FORMATS: Mapping[bytes, Callable[[bytes, int], bytes]] = {
    b"\x1f\x8b": _gzip,
    b"\xfd7zXZ\x00": _lzma,
    b"BZh": _bzip2,
    b"\x5d\x00\x00": _lzma,
    b"\x02\x21\x4c\x18": _lz4_legacy,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def _xen_notes(elf: bytes) -> set[int]:
    """The types of all ELF notes whose owner is Xen."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise NotExtractable("the payload is no little-endian ELF64 file")
    try:
        (table,) = struct.unpack_from("<Q", elf, 32)
        entry_size, entries = struct.unpack_from("<HH", elf, 54)
        segments = [
            struct.unpack_from("<I4xQ16xQ", elf, table + i * entry_size) for i in range(entries)
        ]
    except struct.error:
        raise NotExtractable("the program headers lie outside of the file") from None
    return {
        kind
        for segment, offset, length in segments
        if segment == _PT_NOTE
        for owner, kind in _notes(elf[offset : offset + length])
        if owner == b"Xen\0"
    }


def _notes(section: bytes) -> Iterator[tuple[bytes, int]]:
    position = 0
    while position + 12 <= len(section):
        name_size, value_size, kind = struct.unpack_from("<III", section, position)
        yield section[position + 12 : position + 12 + name_size], kind
        position += 12 + _padded(name_size) + _padded(value_size)


def _padded(size: int) -> int:
    return (size + 3) & ~3
