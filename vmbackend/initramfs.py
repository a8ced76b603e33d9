"""The initramfs: our first process and the modules it loads, as a cpio archive. No root needed.

Format: newc (Documentation/driver-api/early-userspace/buffer-format.rst, cpio(5)); numbers are
eight hexadecimal digits, names and contents are padded to four bytes.
"""

import hashlib
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vmbackend.cache import made_once, vm_cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in the archive: file type and permissions as in stat(2), contents or device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)


def initramfs(agent: Path, modules: Sequence[Path]) -> Path:
    """The archive for these files, from the cache if it was made before."""
    loaded = [
        (_numbered(index, module), module.read_bytes()) for index, module in enumerate(modules)
    ]
    contents = guest_entries(agent.read_bytes(), loaded)
    archive = cpio(contents)
    target = vm_cache("initramfs", f"{hashlib.sha256(archive).hexdigest()[:32]}.cpio")
    made_once(target, partial(_write, archive))
    return target


def guest_entries(agent: bytes, modules: Iterable[tuple[str, bytes]]) -> tuple[Entry, ...]:
    """What the kernel and ``guest/agent.c`` expect to find. Pure."""
    directories = ("dev", "sys", "root", "modules")
    return (
        *(Entry(name=name, mode=stat.S_IFDIR | 0o755) for name in directories),
        Entry(name="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry(name="init", mode=stat.S_IFREG | 0o755, content=agent),
        *(
            Entry(name=f"modules/{name}", mode=stat.S_IFREG | 0o644, content=content)
            for name, content in modules
        ),
    )


def cpio(entries: Iterable[Entry]) -> bytes:
    """The archive of *entries* in their order, owned by root, dated 0: always the same bytes."""
    trailer = Entry(name="TRAILER!!!", mode=0)
    return b"".join(
        _member(inode, entry) for inode, entry in enumerate([*entries, trailer], start=1)
    )


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (
        inode, entry.mode, 0, 0, links, 0,  # ino, mode, uid, gid, nlink, mtime
        len(entry.content), 0, 0, *entry.device, len(name), 0,  # size, dev, rdev, name, sum
    )  # fmt: skip
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.content)


def _numbered(index: int, module: Path) -> str:
    """The guest loads modules in the order of their names."""
    return f"{index:02d}-{module.name.partition('-')[2] or module.name}"


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)


def _write(archive: bytes, target: Path) -> None:
    target.write_bytes(archive)
