"""The program of an instance without a command: it says one byte once it runs, then only waits.

By that byte we know, without asking again and again, that an instance of a peer stands. As our own
container's (``runtime.container.programs``) it is one page of code, without libc or memory of its
own. Source: elf(5), syscall(2), write(2), pause(2).
"""

import os
from pathlib import Path

from runtime.container.programs import elf

_CODE = bytes.fromhex(
    "b801000000 bf01000000 be01004000 ba01000000 0f05"  # write(1, the E of the header, 1)
    "b822000000 0f05"  # again: pause()
    "ebf7"  # jmp again
)

SAID = b"E"
"""What it says."""


def waiting_program(directory: Path) -> Path:
    """The program for this machine, as a file in *directory*. Raises Unsupported."""
    path = directory / "waiting"
    path.write_bytes(waiting_code(os.uname().machine))
    path.chmod(0o755)
    return path


def waiting_code(machine: str) -> bytes:
    """The program's file for *machine*. Raises Unsupported for one without code here."""
    return elf(_CODE, machine)
