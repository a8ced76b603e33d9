import bz2
import gzip
import lzma
import struct
from collections.abc import Callable

import pytest
from lz4 import block

from vmbackend.pvh import NotExtractable, extract


def elf(note_type: int = 18, owner: bytes = b"Xen\0") -> bytes:
    """The smallest ELF64 with one note segment."""
    note = struct.pack("<III", len(owner), 4, note_type) + owner + b"\0\0\x10\x01"
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, len(note), len(note), 4)
    return header + segment + note + b"text" * 100


def bzimage(payload: bytes, size: int) -> bytes:
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<II", setup, 0x248, 16, len(payload) + 4)
    return bytes(setup) + b"\0" * 16 + payload + struct.pack("<I", size)


def lz4_legacy(data: bytes) -> bytes:
    chunk: bytes = block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(chunk)) + chunk


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "lz4": lz4_legacy,
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_compression_gives_the_kernel_back(name: str) -> None:
    kernel = elf()
    assert extract(bzimage(FORMATS[name](kernel), len(kernel))) == kernel


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"", "no HdrS"),
        (b"\0" * 4096, "no HdrS"),
        (bzimage(b"\x28\xb5\x2f\xfdrest", 100), "zstd"),
        (bzimage(b"what is this", 100), "unknown compression"),
        (bzimage(gzip.compress(elf()), 5), "instead of 5"),
        (bzimage(gzip.compress(elf()), 1 << 31), "claims to hold"),
        (bzimage(gzip.compress(elf())[:40], 552), "gave|corrupt"),
        (bzimage(b"\x1f\x8b" + b"\xff" * 60, 100), "corrupt"),
        (bzimage(b"\x02\x21\x4c\x18\x08\0\0\0" + b"\xff" * 8, 100), "corrupt"),
        (bzimage(gzip.compress(b"no elf"), 6), "no little-endian ELF64"),
        (bzimage(gzip.compress(elf(note_type=17)), len(elf())), "no PVH entry"),
        (bzimage(gzip.compress(elf(owner=b"GNU\0")), len(elf())), "no PVH entry"),
        (bzimage(gzip.compress(elf()[:64]), 64), "program headers"),
    ],
)
def test_what_is_not_such_a_kernel_is_refused_with_the_reason(image: bytes, why: str) -> None:
    with pytest.raises(NotExtractable, match=why):
        extract(image)


def test_a_payload_outside_of_the_file_is_refused() -> None:
    image = bytearray(bzimage(gzip.compress(elf()), len(elf())))
    struct.pack_into("<I", image, 0x24C, 1 << 30)
    with pytest.raises(NotExtractable, match="outside"):
        extract(bytes(image))
