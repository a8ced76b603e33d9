"""Copies files between a container and this machine; neither side's links lead out of it.

Paths in the container are resolved by the kernel with the container's root as the root, whatever
links its processes plant meanwhile. From there on everything is named relative to a directory that
is held open, and no link is followed. Sources: openat2(2), renameat(2).
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from pathlib import Path

from runtime import syscalls
from runtime.container.container import spec_of
from runtime.container.kept import finding
from runtime.container.kept.kept import Kept
from runtime.container.kept.record import standing
from runtime.container.mounts import overlay_options
from runtime.errors import RuntimeFault, SyscallError
from runtime.image import Store, using_snapshots
from runtime.user_namespace import owned_ids

_CWD = -100  # AT_FDCWD
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20
_MOST_LEVELS = 256
"""Two descriptors each are open at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end of a copy: *path* below *root*, or on this machine where that is None.

    *told* is how the user wrote it.
    """

    root: int | None
    path: str
    told: str

    def open(self, path: str, flags: int) -> int:
        """What is at *path* on this side, links followed inside of it. Raises RuntimeFault."""
        inside = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
        try:
            if self.root is None:
                return syscalls.openat2(_CWD, path or "/", flags, 0)
            return syscalls.openat2(self.root, path or "/", flags, inside)
        except SyscallError as error:
            raise Missing(self.told, error.errno) from None

    def split(self) -> tuple[str, str]:
        """The directory that it lies in, and its name there."""
        above, _, name = self.path.rstrip("/").rpartition("/")
        return (f"{above}/", name) if name not in {"", ".", ".."} else (self.path, ".")


class Missing(RuntimeFault):
    """A path that leads nowhere, or not where it should."""

    def __init__(self, told: str, errno: int) -> None:
        super().__init__(f"{told}: {os.strerror(errno)}")
        self.errno = errno


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How files arrive: with their owners, or as root's; whether set-ID bits are left off."""

    keeps_owners: bool
    drops_set_ids: bool


def copy(source: Side, target: Side, manner: Manner) -> tuple[str, ...]:
    """Copy what *source* is to *target*; what was left out, with the reason.

    Files and links that are there are replaced, directories are filled. Into *target* if that is a
    directory, else as *target*; with ``/.`` at the end of *source* what is in it. Raises
    RuntimeFault.
    """
    with ExitStack() as undo:
        from_place, name = source.split()
        contents = name == "." or source.path.endswith("/.")
        at = source.open(source.path if contents else from_place, _PLACE)
        undo.callback(os.close, at)
        place, new_name = _place_for(target, "" if contents else name, undo)
        copying = _Copying(manner)
        try:
            copying.entry(at, "." if contents else name, place, new_name, source.told)
        except OSError as error:
            raise RuntimeFault(
                f"{source.told} cannot be copied to {target.told}: {error.strerror}"
            ) from error
        return tuple(copying.left_out)


@contextmanager
def inside(kept: Kept) -> Iterator[int]:
    """The root directory of the container: as it sees it if it runs, else its files."""
    with ExitStack() as undo:
        record = undo.enter_context(finding.changing(kept.directory))
        if standing(kept.directory, record).state == "running":
            init = undo.enter_context(kept.init())
            root = os.open(f"/proc/{init.pid}/root", _PLACE)
        else:
            layers = undo.enter_context(
                using_snapshots(Store(), image := Store().resolve(record.image))
            )
            spec = spec_of(image, record.argv, record.options, layers.paths, name=record.id)
            undo.enter_context(_mounted(spec.lower, spec.directory))
            root = os.open(f"{spec.directory}/root", _PLACE)
        undo.callback(os.close, root)
        yield root


@contextmanager
def _mounted(lower: tuple[str, ...], directory: str) -> Iterator[None]:
    """Its layers on ``root``, in a mount namespace that only this process is in."""
    with ExitStack() as undo:
        before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, before)
        here = os.open(".", _PLACE)
        undo.callback(os.close, here)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        undo.callback(os.fchdir, here)
        undo.callback(syscalls.setns, before, syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
        told = overlay_options(lower, directory, owned_ids(), is_volatile=False)
        if len(lower) > 1:
            os.chdir(os.path.commonpath(lower))  # as mounts.plan_root does
        syscalls.mount("overlay", f"{directory}/root", "overlay", syscalls.MS_NODEV, told)
        yield


def _place_for(target: Side, name: str, undo: ExitStack) -> tuple[int, str]:
    """The directory to copy into, and the name that the copy gets there."""
    try:
        place = target.open(target.path, _PLACE)
    except Missing as error:
        if error.errno not in {ENOENT, ENOTDIR}:
            raise
    else:
        undo.callback(os.close, place)
        return place, name or "."
    above, new_name = target.split()
    place = target.open(above, _PLACE)
    undo.callback(os.close, place)
    return place, new_name


class _Copying:
    """One copy; *left_out* tells what was not copied."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self.left_out: list[str] = []

    def entry(
        self, source: int, name: str, target: int, new_name: str, told: str, level: int = 0
    ) -> None:
        """Copy *name* in the directory *source* to *new_name* in the directory *target*."""
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._directory(source, name, target, new_name, told, level)
        elif stat.S_ISREG(status.st_mode):
            self._file(source, name, target, new_name)
        elif stat.S_ISLNK(status.st_mode):
            self._link(source, name, target, new_name)
        else:
            self.left_out.append(f"{told} is neither file, directory nor link; left out")

    def _directory(
        self, source: int, name: str, target: int, new_name: str, told: str, level: int
    ) -> None:
        if level >= _MOST_LEVELS:
            raise RuntimeFault(f"{told[:80]}… is nested more than {_MOST_LEVELS} deep")
        with ExitStack() as undo:
            reading = os.open(name, _DIRECTORY, dir_fd=source)
            undo.callback(os.close, reading)
            with suppress(FileExistsError):
                os.mkdir(new_name, 0o700, dir_fd=target)
                self._adorn_later(undo, reading, target, new_name)
            writing = os.open(new_name, _DIRECTORY, dir_fd=target)
            undo.callback(os.close, writing)
            for each in sorted(os.listdir(reading)):  # noqa: PTH208 - of a descriptor
                self.entry(reading, each, writing, each, f"{told}/{each}", level + 1)

    def _adorn_later(self, undo: ExitStack, reading: int, target: int, name: str) -> None:
        """When it is full: what is put into a directory changes its time."""
        fd = os.open(name, _DIRECTORY, dir_fd=target)
        undo.callback(os.close, fd)
        undo.callback(self._adorn, fd, os.fstat(reading))

    def _file(self, source: int, name: str, target: int, new_name: str) -> None:
        with ExitStack() as undo:
            reading = os.open(name, _FILE, dir_fd=source)
            undo.callback(os.close, reading)
            status = os.fstat(reading)
            if not stat.S_ISREG(status.st_mode):
                return  # it was exchanged since we looked
            fresh = _fresh_name()
            writing = os.open(fresh, _NEW, 0o600, dir_fd=target)
            undo.callback(os.close, writing)
            with _replacing(target, fresh, new_name):
                while chunk := os.read(reading, _CHUNK_BYTES):
                    while chunk:
                        chunk = chunk[os.write(writing, chunk) :]
                self._adorn(writing, status)

    def _link(self, source: int, name: str, target: int, new_name: str) -> None:
        fresh = _fresh_name()
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        os.symlink(os.readlink(name, dir_fd=source), fresh, dir_fd=target)
        with _replacing(target, fresh, new_name):
            if self._manner.keeps_owners:
                os.chown(fresh, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)

    def _adorn(self, fd: int, status: os.stat_result) -> None:
        """The owner first: chown(2) clears set-ID bits."""
        if self._manner.keeps_owners:
            os.fchown(fd, status.st_uid, status.st_gid)
        mode = stat.S_IMODE(status.st_mode)
        if self._manner.drops_set_ids or not self._manner.keeps_owners:
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _replacing(directory: int, fresh: str, name: str) -> Iterator[None]:
    """What was made as *fresh* becomes *name* after the block, or is not there."""
    try:
        yield
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh, dir_fd=directory)
        raise


def _fresh_name() -> str:
    return f".isoscope-{secrets.token_hex(6)}"


def host_path(path: str) -> str:
    """*path* on this machine, from the root, before anything else becomes the root."""
    return path if path.startswith("/") else f"{Path.cwd()}/{path}"
