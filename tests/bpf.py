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


def device_verdict(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Whether the eBPF *program* lets somebody reach a device (``bpf_cgroup_dev_ctx``)."""
    asked = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = struct.pack("=III", asked << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        code, both, skipped, value = struct.unpack_from("=BBhi", program, 8 * at)
        target, source = both & 0xF, both >> 4
        at += 1
        match code:
            case 0x61:
                (registers[target],) = struct.unpack_from("=I", context, skipped)
            case 0xBF:
                registers[target] = registers[source]
            case 0xB7:
                registers[target] = value
            case 0x57:
                registers[target] &= value
            case 0x77:
                registers[target] >>= value
            case 0x15:
                at += skipped if registers[target] == value else 0
            case 0x55:
                at += skipped if registers[target] != value else 0
            case 0x95:
                return bool(registers[0])
            case _:
                raise AssertionError(code)
