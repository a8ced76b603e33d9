"""The two smallest programs: ELF files without libc or memory of their own (pure).

``idle`` waits for ever: an instance without a command must consist of something, and the image
may hold nothing that waits. What an idle instance costs beyond one page is the isolation.

``stub`` stands between us and the workload. Whatever a container executes, be it
``/proc/self/exe`` or a script with that interpreter, must never reach the binary that launched
it: the workload could overwrite that file on the host later (CVE-2019-5736). So we exec this stub
from a sealed memory file, and it execs the workload. Its argv is: the paths to try, an empty word,
the workload's argv.

Both speak on descriptor 3: ``E`` when they run, then they close it, the stub by succeeding; it
adds four bytes of errno if no path worked. Sources: elf(5), execve(2), memfd_create(2).
"""

import struct

from runtime.errors import Unsupported

_BASE = 0x400000
_HEADERS_BYTES = 64 + 56
_X86_64 = 62

_IDLE = bytes.fromhex(
    "6a45 b801000000 bf03000000 4889e6 ba01000000 0f05"  # write(3, "E", 1): as the stub
    "b803000000 bf03000000 0f05"  # close(3)
    "b822000000"  # again: mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp again
)

_STUB = bytes.fromhex(
    "b848000000 bf03000000 be02000000 ba01000000 0f05"  # fcntl(3, F_SETFD, FD_CLOEXEC)
    "488d5c2408 4989dc"  # rbx = r12 = argv: the paths to try
    "498b0424 4983c408 803800 75f3"  # r12 = past the empty word: the workload's argv
    "4d89e5 498b4500 4983c508 4885c0 75f3"  # r13 = past its end: the environment
    "6a45 ba01000000 e84b000000"  # write(3, "E", 1)
    "41be02000000"  # r14 = ENOENT: what is said if nothing better is learned
    "488b3b 803f00 7425"  # next: path = *rbx; an empty one is the end of them
    "4c89e6 4c89ea b83b000000 0f05"  # execve(path, argv, environment)
    "f7d8 4883c308 83f802 74e0 83f814 74db"  # ENOENT, ENOTDIR: next
    "4189c6 83f80d 74d3"  # r14 = errno; EACCES: next
    "4156 ba04000000 e80c000000"  # write(3, &r14, 4)
    "bf7f000000 b83c000000 0f05"  # exit(127)
    "488d742408 bf03000000 b801000000 0f05 c3"  # write: of rdx bytes on the caller's stack
)


def idle(machine: str) -> bytes:
    """The program that waits, for *machine* (as uname(2) says it). Raises Unsupported."""
    return elf(_IDLE, machine)


def stub(machine: str) -> bytes:
    """The program that execs the workload, for *machine*. Raises Unsupported."""
    return elf(_STUB, machine)


def elf(code: bytes, machine: str) -> bytes:
    """*code* as a program that starts at its first byte, for *machine*. Raises Unsupported."""
    if machine != "x86_64":
        raise Unsupported(f"no start code for {machine}", remedy="use an x86-64 machine")
    size = _HEADERS_BYTES + len(code)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little-endian, version 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identity, 2, _X86_64, 1, _BASE + _HEADERS_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code
