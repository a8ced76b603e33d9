"""Runs a system call filter as the kernel would: a small interpreter of classic BPF."""

import struct
from collections.abc import Callable

_TESTS: dict[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}


def verdict(program: bytes, number: int, arch: int, *args: int) -> int:
    """What *program* answers to the system call *number* with *args*."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *args, *([0] * (6 - len(args))))
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        operation, if_true, if_false, k = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x06:
            return int(k)
        elif operation == 0x05:
            at += k
        else:
            at += if_true if _TESTS[operation](accumulator, k) else if_false
