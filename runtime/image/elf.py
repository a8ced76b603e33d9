"""The three facts about an ELF program that an image maker asks for. Source: elf(5)."""

import struct
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ImageError

_PT_INTERP = 3
_GO_NAMES = {3: "386", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """``architecture`` in Go's words, as image configurations want it; whether it is static."""

    architecture: str
    static: bool


def read_elf(path: Path) -> Elf:
    """The facts about the program *path*. Raises ImageError if it is no ELF program, OSError."""
    with path.open("rb") as file:
        try:
            ident = file.read(16)
            if ident[:4] != b"\x7fELF":
                raise ImageError(f"{path} is not an ELF program")
            wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
            (machine,) = struct.unpack(f"{order}2xH", file.read(4))
            # e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum
            layout = f"{order}I{'QQQ' if wide else 'III'}IHHH"
            header = struct.unpack(layout, file.read(struct.calcsize(layout)))
            offset, entry_bytes, entries = header[2], header[6], header[7]
            file.seek(offset)
            table = file.read(entry_bytes * entries)
            kinds = [
                struct.unpack_from(f"{order}I", table, index * entry_bytes)[0]
                for index in range(entries)
            ]
        except (struct.error, IndexError, OverflowError, ValueError) as error:
            raise ImageError(f"{path} is a damaged ELF program") from error
    if machine not in _GO_NAMES:
        raise ImageError(f"{path} is for a machine without a name here (e_machine {machine})")
    return Elf(architecture=_GO_NAMES[machine], static=_PT_INTERP not in kinds)
