"""The program of an instance without a command: it says one byte once it runs, then only waits.

By that byte we know, without asking again and again, that an instance of a peer stands. As our
own container's (``runtime.container.idle``) it is one page of code without a libc, and no memory
of its own. Source: elf(5), syscall(2), write(2), pause(2), ppoll(2).
"""

import os
import struct
from pathlib import Path

from runtime.errors import Unsupported

_BASE = 0x400000
_HEADERS_BYTES = 64 + 56

_CODE = {
    "x86_64": (
        62,
        bytes((0xB8, 1, 0, 0, 0))  # mov eax, 1 (write)
        + bytes((0xBF, 1, 0, 0, 0))  # mov edi, 1
        + bytes((0xBE, 1, 0, 0x40, 0))  # mov esi, 0x400001: the E of the header
        + bytes((0xBA, 1, 0, 0, 0))  # mov edx, 1
        + bytes((0x0F, 0x05))  # syscall
        + bytes((0xB8, 34, 0, 0, 0))  # again: mov eax, 34 (pause)
        + bytes((0x0F, 0x05))  # syscall
        + bytes((0xEB, 0xF7)),  # jmp again
    ),
    "aarch64": (
        183,
        struct.pack(
            "<14I",
            0xD2800020,  # mov x0, 1
            0xD2A00801,  # mov x1, 0x400000
            0xF2800021,  # movk x1, 1: the E of the header
            0xD2800022,  # mov x2, 1
            0xD2800808,  # mov x8, 64 (write)
            0xD4000001,  # svc 0
            0xD2800000,  # again: mov x0, 0
            0xD2800001,  # mov x1, 0
            0xD2800002,  # mov x2, 0
            0xD2800003,  # mov x3, 0
            0xD2800004,  # mov x4, 0
            0xD2800928,  # mov x8, 73 (ppoll)
            0xD4000001,  # svc 0
            0x17FFFFF9,  # b again
        ),
    ),
}
"""uname machine -> ELF machine number, instructions."""

SAID = b"E"
"""What it says."""


def waiting_program(directory: Path) -> Path:
    """The program for this machine, as a file in *directory*. Raises Unsupported."""
    path = directory / "waiting"
    path.write_bytes(elf(os.uname().machine))
    path.chmod(0o755)
    return path


def elf(machine: str) -> bytes:
    """The file for *machine*. Raises Unsupported for one without code here."""
    if machine not in _CODE:
        raise Unsupported(f"no idle program for {machine}", remedy="give the instance a command")
    number, code = _CODE[machine]
    size = _HEADERS_BYTES + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little-endian, version 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identity, 2, number, 1, _BASE + _HEADERS_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
