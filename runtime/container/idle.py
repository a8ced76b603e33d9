"""The smallest program: an ELF file that waits for ever (pure).

An instance without a command must consist of something, and the image may hold nothing that
waits. One page of code, no libc, no memory of its own: what an idle instance costs beyond it is
the isolation. Source: elf(5); pause(2) on x86-64, ppoll(2) without descriptors on aarch64.
"""

import struct

from runtime.errors import Unsupported

_BASE = 0x400000
_HEADERS_BYTES = 64 + 56

_CODE = {
    "x86_64": (
        62,
        bytes((0xB8, 34, 0, 0, 0))  # again: mov eax, 34 (pause)
        + bytes((0x0F, 0x05))  # syscall
        + bytes((0xEB, 0xF7)),  # jmp again
    ),
    "aarch64": (
        183,
        struct.pack(
            "<8I",
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


def program(machine: str) -> bytes:
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
