"""A 64 KiB ROM that tells how far a virtual processor gets, and how fast it runs. Pure.

It is the smallest guest that tells a working accelerator from one that only looks like one. From
the reset vector it climbs to long mode, writes one letter to port 0xe9 on each rung, times a loop
with the TSC and leaves through QEMU's isa-debug-exit device (port 0xf4):

    R real mode   P protected mode   L long mode with paging
    T loop done, then 8 bytes: the TSC ticks it took   X end

The last letter names the rung that broke. The loop is long enough (100 000 rounds) that an
accelerator that emulates each instruction cannot hide. Sources: Intel SDM volume 3, 9.1.4 (reset),
9.8.5 (to IA-32e mode); QEMU's docs on isa-debugcon and isa-debug-exit.
"""

import struct
from dataclasses import dataclass

ROM_BYTES = 64 << 10
LOOP_ROUNDS = 100_000
EXIT_STATUS = 33  # isa-debug-exit gives (value << 1) | 1, and 0x10 is written

_BASE = 0x1_0000_0000 - ROM_BYTES  # the ROM ends where 32-bit addresses do
_GDT = 0x200
_GDT_REGISTER = 0x220
_CODE32, _DATA, _CODE64 = 0x08, 0x10, 0x18


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """How far the ROM came: the last letter it wrote ("" if none) and the loop's TSC ticks."""

    stage: str
    ticks: int | None


def read_climb(output: bytes) -> Climb:
    """What the ROM's *output* says; a partial one is a climb that ended there."""
    if not output.startswith(b"RPLT") or len(output) < 12:
        reached = [letter for letter in ("R", "RP", "RPL") if output.startswith(letter.encode())]
        return Climb(stage=reached[-1][-1] if reached else "", ticks=None)
    (ticks,) = struct.unpack("<Q", output[4:12])
    return Climb(stage="X" if output[12:13] == b"X" else "T", ticks=ticks)


def rom(rounds: int = LOOP_ROUNDS) -> bytes:
    """The ROM whose loop takes *rounds* rounds."""
    real = _real_mode()
    protected_at = len(real) + 8  # after the far jump that ends real mode
    real += b"\x66\xea" + struct.pack("<IH", _BASE + protected_at, _CODE32)  # jmp far, 32 bits
    protected = _protected_mode()
    long_at = protected_at + len(protected) + 7
    protected += b"\xea" + struct.pack("<IH", _BASE + long_at, _CODE64)  # jmp far
    code = real + protected + _long_mode(rounds)
    image = bytearray(b"\xf4" * ROM_BYTES)  # hlt wherever nothing else is
    image[: len(code)] = code
    image[_GDT : _GDT + 32] = _descriptors()
    image[_GDT_REGISTER : _GDT_REGISTER + 6] = struct.pack("<HI", 31, _BASE + _GDT)
    image[0xFFF0:0xFFF3] = b"\xe9" + struct.pack("<H", 0x10000 - 0xFFF3)  # reset: jmp to offset 0
    return bytes(image)


def _letter(letter: str) -> bytes:
    return b"\xb0" + letter.encode() + b"\xe6\xe9"  # mov al, letter; out 0xe9, al


def _real_mode() -> bytes:
    return b"".join((
        b"\xfa",  # cli
        _letter("R"),
        b"\x2e\x66\x0f\x01\x16" + struct.pack("<H", _GDT_REGISTER),  # lgdt cs:[...], 32 bits
        b"\x0f\x20\xc0",  # mov eax, cr0
        b"\x66\x83\xc8\x01",  # or eax, PE
        b"\x0f\x22\xc0",  # mov cr0, eax
    ))  # fmt: skip


def _protected_mode() -> bytes:
    """Maps the first and last 2 MiB below 4 GiB onto themselves: tables in RAM, code in ROM."""
    tables = {
        0x1000: 0x2003,  # level 4, entry 0 -> level 3; present, writable
        0x2000: 0x3003,  # level 3, entry 0: the first GiB
        0x2018: 0x4003,  # level 3, entry 3: the fourth GiB
        0x3000: 0x0000_0083,  # level 2: a page of 2 MiB
        0x4FF8: 0xFFE0_0083,  # level 2, last entry: the page that holds this ROM
    }
    return b"".join((
        b"\x66\xb8" + struct.pack("<H", _DATA),  # mov ax, data
        b"\x8e\xd8\x8e\xd0",  # mov ds, ax; mov ss, ax
        _letter("P"),
        *(b"\xc7\x05" + struct.pack("<II", *pair) for pair in tables.items()),  # mov [at], entry
        b"\xb8\x00\x10\x00\x00\x0f\x22\xd8",  # mov eax, 0x1000; mov cr3, eax
        b"\x0f\x20\xe0\x83\xc8\x20\x0f\x22\xe0",  # mov eax, cr4; or eax, PAE; mov cr4, eax
        b"\xb9\x80\x00\x00\xc0\x0f\x32",  # mov ecx, EFER; rdmsr
        b"\x0d\x00\x01\x00\x00\x0f\x30",  # or eax, LME; wrmsr
        b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0",  # mov eax, cr0; or eax, PG; mov cr0, eax
    ))  # fmt: skip


def _long_mode(rounds: int) -> bytes:
    read_tsc = b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0"  # rdtsc; shl rdx, 32; or rax, rdx
    keep = b"\x49\x89\xc0"  # mov r8, rax
    return b"".join((
        _letter("L"),
        read_tsc, keep,
        b"\xb9" + struct.pack("<I", rounds),  # mov ecx, rounds
        b"\xff\xc9\x75\xfc",  # again: dec ecx; jnz again
        read_tsc, b"\x4c\x29\xc0", keep,  # sub rax, r8
        _letter("T"),
        b"\xb9\x08\x00\x00\x00",  # mov ecx, 8
        b"\x4c\x89\xc0\xe6\xe9",  # next: mov rax, r8; out 0xe9, al
        b"\x49\xc1\xe8\x08",  # shr r8, 8
        b"\xff\xc9\x75\xf3",  # dec ecx; jnz next
        _letter("X"),
        b"\xb0\x10\xe6\xf4",  # mov al, 0x10; out 0xf4, al: QEMU ends here
        b"\xf4\xeb\xfd",  # stay: hlt; jmp stay
    ))  # fmt: skip


def _descriptors() -> bytes:
    """Null, 32-bit code, data, 64-bit code; marked as accessed, for the ROM takes no writes."""
    return struct.pack(
        "<4Q", 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0x00AF_9B00_0000_FFFF
    )
