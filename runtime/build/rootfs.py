"""Writing into a tree as a program chrooted into it would: links lead where they lead inside.

Other than ``runtime.image.tree``, which unpacks a layer and takes no detour, COPY and ADD follow
the links of the image (``/lib -> usr/lib``). The kernel resolves every path with the tree as its
root; what is written is then named by its real path, on which no link is left. Nobody else writes
here meanwhile.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from errno import ENOENT, ENOTSUP
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime import syscalls
from runtime.errors import BuildError, SyscallError

MAX_LINKS = 40
"""As the kernel's own limit, path_resolution(7)."""

MAX_PATH_BYTES = 4095
_INSIDE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_EXACT = _INSIDE | syscalls.RESOLVE_NO_SYMLINKS
_PARENT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def path_of(fd: int) -> str:
    """Where the open *fd* is, in this mount namespace (proc(5))."""
    return str(Path(f"/proc/self/fd/{fd}").readlink())


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Owner, mode, time and extended attributes to give; *mtime_ns* None leaves the time alone."""

    uid: int = 0
    gid: int = 0
    mode: int = 0o755
    mtime_ns: int | None = None
    xattrs: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class Rootfs:
    """The tree *root*, open for writing. A context manager. Paths are relative to its root."""

    root: Path
    _fd: int = field(default=-1, init=False)
    _prefix: str = field(default="", init=False)
    _parent_path: str | None = field(default=None, init=False)
    _parent_fd: int = field(default=-1, init=False)

    def __enter__(self) -> Self:
        self._fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._prefix = path_of(self._fd).rstrip("/")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_parent()
        os.close(self._fd)

    def real(self, path: str, *, links: int = MAX_LINKS) -> str:
        """Where *path* leads, all links followed, whether it exists or not."""
        path = path.strip("/")
        if path in {"", "."}:
            return ""
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise BuildError(f"the path {path[:80]!r}… is longer than {MAX_PATH_BYTES} bytes")
        try:
            fd = syscalls.openat2(self._fd, path, os.O_PATH | os.O_CLOEXEC, _INSIDE)
        except SyscallError as error:
            if error.errno != ENOENT:
                raise _refused(path, error.errno) from error
            return self._real_missing(path, links)
        try:
            return path_of(fd)[len(self._prefix) :].strip("/")
        finally:
            os.close(fd)

    def status(self, real: str) -> os.stat_result | None:
        """What is at the real path *real*, or None."""
        if not real:
            return os.fstat(self._fd)
        with suppress(FileNotFoundError, NotADirectoryError, BuildError):
            parent, name = self.at(real)
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        return None

    def is_directory(self, real: str) -> bool:
        """Whether a directory is at the real path *real*."""
        status = self.status(real)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def make_directories(self, path: str, attributes: Attributes) -> str:
        """Make *path* and what is missing above it; its real path. Raises BuildError."""
        real = self.real(path)
        missing: list[str] = []
        here = real
        while here and (status := self.status(here)) is None:
            missing.append(here)
            here = here.rpartition("/")[0]
        if here and not stat.S_ISDIR(status.st_mode if status else 0):
            raise BuildError(f"/{here} is no directory, so nothing can be put below it")
        for each in reversed(missing):
            self.new_directory(each, attributes)
        return real

    def new_directory(self, real: str, attributes: Attributes) -> None:
        """A directory where nothing is."""
        parent, name = self.at(real)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.adorn_directory(real, attributes)

    def adorn_directory(self, real: str, attributes: Attributes) -> None:
        """Give the directory *real* its attributes."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = self.open(real or ".", flags)
        try:
            _adorn(fd, attributes)
        finally:
            os.close(fd)

    def new_file(self, real: str) -> int:
        """A descriptor of an empty file in place of what was there, which is no directory."""
        parent, name = self.vacate(real)
        return os.open(name, _NEW_FILE, 0o600, dir_fd=parent)

    def finish_file(self, fd: int, attributes: Attributes) -> None:
        """Give a written file its attributes: the owner first, for chown(2) clears set-ID bits."""
        _adorn(fd, attributes)

    def link(self, real: str, target: str, attributes: Attributes) -> None:
        """A symbolic link to *target*, which may be anything: it is only followed inside."""
        parent, name = self.vacate(real)
        os.symlink(target, name, dir_fd=parent)
        self._adorn_name(parent, name, attributes)

    def hard_link(self, real: str, existing: str) -> None:
        """Another name for the file at the real path *existing*."""
        parent, name = self.vacate(real)
        held = os.dup(parent)
        try:
            source, old = self.at(existing)
            os.link(old, name, src_dir_fd=source, dst_dir_fd=held, follow_symlinks=False)
        finally:
            os.close(held)

    def special(self, real: str, kind: int, device: int, attributes: Attributes) -> None:
        """A FIFO or device; *kind* is one of S_IFIFO, S_IFCHR, S_IFBLK (mknod(2))."""
        parent, name = self.vacate(real)
        os.mknod(name, kind | 0o600, device, dir_fd=parent)
        os.chmod(name, attributes.mode, dir_fd=parent)  # just made, so it is no link
        self._adorn_name(parent, name, attributes)

    def vacate(self, real: str) -> tuple[int, str]:
        """The open directory and the name for *real*, which nothing has any more."""
        if not real:
            raise BuildError("the root directory cannot be replaced by a file")
        parent, name = self.at(real)
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise BuildError(
                f"/{real} is a directory and would be replaced by a file",
                remedy="remove it in a RUN before, or copy to another name",
            ) from None
        return parent, name

    def at(self, real: str) -> tuple[int, str]:
        """The directory that holds *real*, kept open for its siblings, and the name in it."""
        above, _, name = real.rpartition("/")
        if above != self._parent_path:
            fd = self.open(above or ".", _PARENT)
            self._forget_parent()
            self._parent_path, self._parent_fd = above, fd
        return self._parent_fd, name

    def open(self, real: str, flags: int) -> int:
        """A descriptor of what is at the real path *real*. Raises BuildError."""
        try:
            return syscalls.openat2(self._fd, real, flags, _EXACT)
        except SyscallError as error:
            raise _refused(real, error.errno) from error

    # Inside

    def _real_missing(self, path: str, links: int) -> str:
        above, _, name = path.rpartition("/")
        if name in {"", "."}:
            return self.real(above, links=links)
        base = self.real(above, links=links)
        if name == "..":
            return base.rpartition("/")[0]
        joined = f"{base}/{name}" if base else name
        status = self.status(joined)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return joined
        if links == 0:
            raise BuildError(f"/{path} leads through more than {MAX_LINKS} links")
        parent, name = self.at(joined)
        target = os.readlink(name, dir_fd=parent)
        onward = target if target.startswith("/") else f"{base}/{target}"
        return self.real(onward, links=links - 1)

    def _forget_parent(self) -> None:
        if self._parent_path is not None:
            os.close(self._parent_fd)
        self._parent_path, self._parent_fd = None, -1

    @staticmethod
    def _adorn_name(parent: int, name: str, attributes: Attributes) -> None:
        os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)
        if attributes.mtime_ns is not None:
            times = (attributes.mtime_ns, attributes.mtime_ns)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _adorn(fd: int, attributes: Attributes) -> None:
    os.fchown(fd, attributes.uid, attributes.gid)
    for name, value in attributes.xattrs:
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno != ENOTSUP:
                raise
    os.fchmod(fd, attributes.mode)
    if attributes.mtime_ns is not None:
        os.utime(fd, ns=(attributes.mtime_ns, attributes.mtime_ns))


def _refused(path: str, number: int) -> BuildError:
    return BuildError(f"cannot write /{path}: {os.strerror(number)}")
