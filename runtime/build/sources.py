"""What COPY and ADD may take: the files below one directory, found without ever leaving it.

Every path is resolved by the kernel with the directory as its root (openat2(2), RESOLVE_IN_ROOT),
so a symbolic link leads where it would lead inside, and no farther. What is found is named by its
real path, on which no link is left; what hides behind ``.dockerignore`` does not exist.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

from runtime import syscalls
from runtime.build.globs import GlobError, path_glob
from runtime.build.rootfs import path_of
from runtime.errors import BuildError, SyscallError

Kind = Literal["file", "directory", "link", "fifo", "character", "block"]

MAX_DEPTH = 255
"""Deeper trees are refused, as ``runtime.image.tree`` refuses them in layers."""

CHUNK_BYTES = 1 << 20
_INSIDE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_EXACT = _INSIDE | syscalls.RESOLVE_NO_SYMLINKS
_ABSENT = {errno.ENOENT, errno.ENOTDIR}
_SPECIAL = re.compile(r"[*?\[\\]")


class Hiding(Protocol):
    """Which paths, relative to the root, are not there for the build."""

    def hides(self, path: str) -> bool:
        """Whether *path* itself is hidden."""

    def may_show_below(self, directory: str) -> bool:
        """Whether something in the hidden *directory* may be shown again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of a tree. *path* is real and relative to the root (``""`` is the root itself).

    *xattrs* are those that a layer can carry. *inode* tells names of one file from copies.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    inode: tuple[int, int] | None = None
    link: str = ""
    device: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A node of a selection, *relative* to what was selected, and what a file's bytes hash to."""

    relative: str
    node: Node
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What one match of a pattern brings: itself first, then all that is below it.

    *written* is the path as the pattern matched it, before links were followed.
    """

    written: str
    items: tuple[Item, ...]

    @property
    def top(self) -> Node:
        """What was matched."""
        return self.items[0].node


@dataclass(slots=True)
class SourceTree:
    """The directory *root*. A context manager: the directory stays open, wherever it is moved.

    *owned* says that owners, times and extended attributes are part of what is taken, as they are
    in a stage or an image; of a build context only names, modes and contents are, so that every
    checkout gives the same image.
    """

    root: Path
    hiding: Hiding | None = None
    owned: bool = False
    called: str = "the build context"
    _fd: int = field(default=-1, init=False)
    _prefix: str = field(default="", init=False)
    _hashes: dict[str, str] = field(default_factory=dict, init=False)

    def __enter__(self) -> Self:
        try:
            self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            message = f"{self.called} {str(self.root)!r} cannot be read: {error.strerror}"
            raise BuildError(message, remedy="name a directory") from error
        self._prefix = path_of(self._fd).rstrip("/")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)
        self._fd = -1

    def choose(
        self, pattern: str, *, exclude: Callable[[str], bool] | None = None
    ) -> list[Chosen]:
        """What *pattern* matches, sorted; links of the pattern itself are followed.

        *exclude* leaves out by path relative to what matched. Raises BuildError for a pattern
        without wildcards that names nothing.
        """
        matches = self._matches(pattern)
        if not matches and not _SPECIAL.search(pattern):
            raise BuildError(f"{pattern!r} is not in {self.called}{self._hint(pattern)}")
        found = []
        for written, real in matches:
            items = tuple(self._walk(real, exclude or (lambda _: False)))
            if items:
                found.append(Chosen(written=written, items=items))
        return found

    def real(self, path: str) -> str | None:
        """Where *path* leads inside, relative to the root; None if nothing visible is there."""
        try:
            fd = syscalls.openat2(self._fd, path or ".", os.O_PATH | os.O_CLOEXEC, _INSIDE)
        except SyscallError as error:
            if error.errno in _ABSENT:
                return None
            raise self._unreadable(path, error.errno) from error
        try:
            found = path_of(fd)
        finally:
            os.close(fd)
        real = found[len(self._prefix) :].strip("/")
        return None if self._gone(real) else real

    def open_file(self, node: Node) -> int:
        """A descriptor of the regular file *node*, still the one that was found."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = syscalls.openat2(self._fd, node.path, flags, _EXACT)
        except SyscallError as error:
            raise self._unreadable(node.path, error.errno) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):  # O_NONBLOCK: a FIFO put there must not stop us
            os.close(fd)
            raise self.changed(node)
        return fd

    def changed(self, node: Node) -> BuildError:
        """The error that *node* is not what it was a moment ago."""
        return BuildError(
            f"{node.path!r} in {self.called} changed during the build", remedy="build again"
        )

    # Finding

    def _matches(self, pattern: str) -> list[tuple[str, str]]:
        """Path as matched, and real path, of everything that *pattern* names."""
        parts = [part for part in pattern.split("/") if part not in {"", "."}]
        found = [""]
        for number, part in enumerate(parts):
            found = [path for base in found for path in self._step(base, part)]
            if not _SPECIAL.search("/".join(parts[number + 1 :])):
                found = ["/".join(filter(None, (path, *parts[number + 1 :]))) for path in found]
                break
        pairs = ((path, self.real(path)) for path in sorted(found))
        return [(path, real) for path, real in pairs if real is not None]

    def _step(self, base: str, part: str) -> list[str]:
        if not _SPECIAL.search(part):
            return [f"{base}/{part}" if base else part]
        real = self.real(base)
        if real is None:
            return []
        try:
            names = self._names(real)
        except BuildError:
            return []  # a file has nothing below it
        try:
            glob = path_glob(part)
        except GlobError as error:
            raise BuildError(f"bad pattern: {error}") from None
        return [f"{base}/{name}" if base else name for name in names if glob.matches(name)]

    def _names(self, real: str) -> list[str]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = syscalls.openat2(self._fd, real or ".", flags, _EXACT)
        except SyscallError as error:
            raise self._unreadable(real, error.errno) from error
        try:
            return sorted(os.listdir(fd))  # noqa: PTH208 - of a descriptor
        finally:
            os.close(fd)

    def _walk(self, real: str, exclude: Callable[[str], bool]) -> Iterator[Item]:
        yield from self._below(real, "", exclude, depth=0)

    def _below(
        self, real: str, relative: str, exclude: Callable[[str], bool], *, depth: int
    ) -> Iterator[Item]:
        if depth > MAX_DEPTH:
            raise BuildError(f"{self.called} is deeper than {MAX_DEPTH} directories")
        node = self._node(real)
        shown = not (relative and exclude(relative)) and not self._hidden(real)
        if node is None or (node.kind != "directory" and not shown):
            return
        if node.kind != "directory":
            yield Item(relative=relative, node=node, digest=self._digest(node))
            return
        if shown:
            yield Item(relative=relative, node=node)
        elif not self._hidden(real) or self._gone(real):
            return
        for name in self._names(real):
            inside = self._below(
                f"{real}/{name}" if real else name,
                f"{relative}/{name}" if relative else name,
                exclude,
                depth=depth + 1,
            )
            for item in inside:
                if not shown:  # a hidden directory of which something is shown is there after all
                    yield Item(relative=relative, node=node)
                    shown = True
                yield item

    def _node(self, path: str) -> Node | None:
        """The entry at *path*; None for a socket, which is no file that a layer could hold."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            # An O_PATH descriptor of a link is the link, so nothing is followed here.
            fd = syscalls.openat2(self._fd, path or ".", flags, _INSIDE)
        except SyscallError as error:
            raise self._unreadable(path, error.errno) from error
        try:
            status = os.fstat(fd)
            if stat.S_ISSOCK(status.st_mode):
                return None
            return self._describe(path, status, fd)
        finally:
            os.close(fd)

    def _describe(self, path: str, status: os.stat_result, fd: int) -> Node:
        kind = _kind(status.st_mode)
        device = kind in {"character", "block"}
        if device and not self.owned:
            raise BuildError(
                f"{path!r} in {self.called} is a device", remedy="name it in .dockerignore"
            )
        return Node(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid if self.owned else 0,
            gid=status.st_gid if self.owned else 0,
            size_bytes=status.st_size if kind == "file" else 0,
            mtime_ns=status.st_mtime_ns if self.owned else 0,
            inode=(status.st_dev, status.st_ino) if self.owned and status.st_nlink > 1 else None,
            link=os.readlink("", dir_fd=fd) if kind == "link" else "",
            device=status.st_rdev if device else 0,
            xattrs=_xattrs(fd) if self.owned and kind in {"file", "directory"} else (),
        )

    def _digest(self, node: Node) -> str:
        """What the bytes of a file hash to, read once however often the file is copied."""
        if node.kind != "file":
            return ""
        known = self._hashes.get(node.path)
        if known is None:
            hasher = hashlib.sha256()
            with open(self.open_file(node), "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
                while chunk := file.read(CHUNK_BYTES):
                    hasher.update(chunk)
            known = self._hashes[node.path] = hasher.hexdigest()
        return known

    def _hidden(self, real: str) -> bool:
        return bool(real) and self.hiding is not None and self.hiding.hides(real)

    def _gone(self, real: str) -> bool:
        """Hidden, with nothing below it that is shown."""
        return self._hidden(real) and not (self.hiding and self.hiding.may_show_below(real))

    def _hint(self, pattern: str) -> str:
        with suppress(SyscallError):
            fd = syscalls.openat2(self._fd, pattern or ".", os.O_PATH | os.O_CLOEXEC, _INSIDE)
            os.close(fd)
            return ": .dockerignore hides it"
        return ""

    def _unreadable(self, path: str, number: int) -> BuildError:
        return BuildError(f"{path!r} in {self.called} cannot be read: {os.strerror(number)}")


def digest_of(chosen: Sequence[Chosen], *, owned: bool) -> str:
    """One hash of everything that *chosen* would bring: names, kinds, modes, contents, links.

    Times count only where they are taken too (*owned*). Two names of one file are told from two
    files. The numbering of inodes is ours, so that it does not depend on the file system's.
    """
    hasher = hashlib.sha256()
    inodes: dict[tuple[int, int], int] = {}
    for each in chosen:
        hasher.update(repr((os.fsencode(each.written), len(each.items))).encode())
        for item in each.items:
            node = item.node
            group = -1 if node.inode is None else inodes.setdefault(node.inode, len(inodes))
            described = (
                os.fsencode(item.relative), node.kind, node.mode, node.uid, node.gid,
                node.mtime_ns if owned and node.kind != "directory" else 0,
                os.fsencode(node.link), node.device, group, node.xattrs, item.digest,
            )  # fmt: skip
            hasher.update(repr(described).encode())
    return hasher.hexdigest()


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISLNK(mode):
        return "link"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "character" if stat.S_ISCHR(mode) else "block"


def _xattrs(fd: int) -> tuple[tuple[str, bytes], ...]:
    """``user.*`` and file capabilities, as ``runtime.image.tree`` writes them."""
    path = f"/proc/self/fd/{fd}"
    try:
        names = sorted(os.listxattr(path))
    except OSError:  # a file system without them
        return ()
    kept = [n for n in names if n == "security.capability" or n.startswith("user.")]
    return tuple((name, os.getxattr(path, name)) for name in kept)
