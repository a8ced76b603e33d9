"""Writing below one directory and nowhere else, whatever the names say.

Every component of a path is opened relative to the one above it and without following symbolic
links (openat(2), O_NOFOLLOW), so no entry can lead out of the tree. The directories of the
current path stay open: entries of an archive come mostly directory by directory. When a directory
is left, its times and mode are put back, so that they are the archive's although files were
written into it since; nothing has to be remembered until the end.
"""

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.image.removal import remove_name

MAX_DEPTH = 255
"""Deeper paths are refused: each level of the current path costs an open descriptor."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NO_DIRECTORY = frozenset({errno.ENOTDIR, errno.ELOOP})
_CAPABILITY = "security.capability"
_UNNAMED_MODE = 0o755
_LAST_NS = (1 << 36) * 10**9  # some 2000 years
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW

Parts = tuple[bytes, ...]


class RefusedError(Exception):
    """An entry asks for what a tree does not do; the message is a clause about the entry."""


class DetourError(RefusedError):
    """A path leads through something that is no directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Owner, mode, time and extended attributes of an entry."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Mapping[str, bytes]


@dataclass(slots=True)
class Level:
    """An open directory of the current path, with what it gets back when it is left."""

    name: bytes
    descriptor: int
    mode: int | None  # None: it needs no change
    mtime_ns: int


class Tree:
    """The directory *root*, which exists, open for writing. A context manager.

    Owners, devices and file capabilities are applied by root only; others get plain files of
    their own, which is what their containers need.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._levels: list[Level] = []
        self._privileged = os.geteuid() == 0

    def __enter__(self) -> Self:
        descriptor = os.open(self._root, _DIRECTORY)
        mtime_ns = os.fstat(descriptor).st_mtime_ns
        self._levels.append(Level(b"", descriptor, None, mtime_ns))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave_to(0)

    def directory(self, parts: Parts, attributes: Attributes) -> None:
        """A directory; one that is there keeps what is in it, anything else is replaced."""
        is_new = bool(parts) and self._made_directory(self._enter(parts[:-1]), parts[-1])
        descriptor = self._enter(parts)
        if not is_new:
            _drop_xattrs(descriptor, attributes)
        self._set_directory(attributes)

    def _set_directory(self, attributes: Attributes) -> None:
        """Give the current directory its attributes, some of them when it is left."""
        level = self._levels[-1]
        self._own(level.descriptor, attributes)
        self._set_xattrs(level.descriptor, attributes)
        level.mode, level.mtime_ns = attributes.mode, attributes.mtime_ns
        os.fchmod(level.descriptor, attributes.mode | 0o700)  # it is written into until then

    def new_file(self, parts: Parts) -> int:
        """A descriptor of a new, empty file in place of whatever was there."""
        parent = self._enter(parts[:-1])
        try:
            return os.open(parts[-1], _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            remove_name(parent, parts[-1])
            return os.open(parts[-1], _CREATE, 0o600, dir_fd=parent)

    def finish_file(self, descriptor: int, attributes: Attributes) -> None:
        """Give a written file its attributes.

        The owner comes first, for chown(2) clears capabilities and set-ID bits; the mode after
        the extended attributes, which need the right to write.
        """
        self._own(descriptor, attributes)
        self._set_xattrs(descriptor, attributes)
        os.fchmod(descriptor, attributes.mode)
        os.utime(descriptor, ns=_times(attributes.mtime_ns))

    def symbolic_link(self, parts: Parts, target: bytes, attributes: Attributes) -> None:
        """A symbolic link to *target*, which may be anything: it is only followed inside."""
        parent = self._vacant(parts)
        os.symlink(target, parts[-1], dir_fd=parent)
        self._own_name(parent, parts[-1], attributes)
        _touch_name(parent, parts[-1], attributes)

    def hard_link(self, parts: Parts, target: Parts) -> None:
        """Another name for the file *target* of the tree, which keeps its attributes."""
        parent = self._enter(parts[:-1])
        source = self._open_parent(target)
        try:
            if parts == target or _is_directory(source, target[-1]):
                raise RefusedError("is a hard link to itself or to a directory")
            remove_name(parent, parts[-1])
            os.link(
                target[-1],
                parts[-1],
                src_dir_fd=source,
                dst_dir_fd=parent,
                follow_symlinks=False,
            )
        except FileNotFoundError:
            raise RefusedError("is a hard link to a file that is not there") from None
        finally:
            os.close(source)

    def special(self, parts: Parts, kind: int, device: int, attributes: Attributes) -> None:
        """A FIFO or device (*kind* as in mknod(2)). A device is left out where none may be made.

        Containers and machines bring their own ``/dev``, so who is not root loses nothing. The
        character device 0:0 is nowhere one: it is how overlayfs says that there is no such file.
        """
        parent = self._vacant(parts)
        if stat.S_ISCHR(kind) and device == 0:
            return
        try:
            os.mknod(parts[-1], kind | 0o600, device, dir_fd=parent)
        except PermissionError:
            return
        self._own_name(parent, parts[-1], attributes)
        os.chmod(parts[-1], attributes.mode, dir_fd=parent)  # just made, so it is no link
        _touch_name(parent, parts[-1], attributes)

    def remove(self, parts: Parts) -> None:
        """Delete *parts* and what is below; what is not there is no error."""
        if self._enter_existing(parts[:-1]):
            remove_name(self._here, parts[-1])

    def clear(self, parts: Parts) -> None:
        """Delete everything in the directory *parts*; where that is not one there is nothing.

        So it is when a directory of the layer that says so replaces a file or link of that name.
        """
        with suppress(DetourError):
            if self._enter_existing(parts):
                for name in os.listdir(self._here):  # noqa: PTH208 - of a descriptor
                    remove_name(self._here, name)

    # The current path

    @property
    def _here(self) -> int:
        return self._levels[-1].descriptor

    def _enter(self, parts: Parts) -> int:
        """Make the directory *parts* the current one, with what is missing on the way."""
        for name in self._leave_for(parts):
            try:
                level = self._open_level(name)
            except FileNotFoundError:
                self._make_implied(name)
                level = self._open_level(name)
            self._levels.append(level)
        return self._here

    def _enter_existing(self, parts: Parts) -> bool:
        """Make *parts* the current directory if it is one; False if it is not there at all."""
        for name in self._leave_for(parts):
            try:
                level = self._open_level(name)
            except FileNotFoundError:
                return False
            self._levels.append(level)
        return True

    def _make_implied(self, name: bytes) -> None:
        """A parent that the archive does not name, or not yet: as mkdir -p would make it.

        Its time is fixed, so that the same image always makes the same tree.
        """
        os.mkdir(name, dir_fd=self._here)
        os.chmod(name, _UNNAMED_MODE, dir_fd=self._here)  # whatever the umask is
        os.utime(name, ns=(0, 0), dir_fd=self._here)

    def _made_directory(self, parent: int, name: bytes) -> bool:
        """Let *name* be a directory, in place of whatever else it was; whether it is new."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if _is_directory(parent, name):
                return False
            remove_name(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
        return True

    def _leave_for(self, parts: Parts) -> Parts:
        """Go up to the last directory on the way to *parts*; the names from there on down."""
        if len(parts) > MAX_DEPTH:
            raise RefusedError(f"is more than {MAX_DEPTH} directories deep")
        shared = 0
        for level, name in zip(self._levels[1:], parts, strict=False):
            if level.name != name:
                break
            shared += 1
        self._leave_to(1 + shared)
        return parts[shared:]

    def _leave_to(self, depth: int) -> None:
        while len(self._levels) > depth:
            level = self._levels.pop()
            try:
                if level.mode is not None:
                    os.fchmod(level.descriptor, level.mode)
                os.utime(level.descriptor, ns=_times(level.mtime_ns))
            finally:
                os.close(level.descriptor)

    def _open_level(self, name: bytes) -> Level:
        mode = None if self._privileged else self._made_writable(name)
        try:
            descriptor = os.open(name, _DIRECTORY, dir_fd=self._here)
        except OSError as error:
            if error.errno in _NO_DIRECTORY:
                refuse_detour(self._status(name), name)
            raise
        mtime_ns = os.fstat(descriptor).st_mtime_ns
        return Level(name, descriptor, mode, mtime_ns)

    def _status(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self._here, follow_symlinks=False)

    def _made_writable(self, name: bytes) -> int:
        """The mode of the directory *name*, which its owner may write into from now on."""
        status = self._status(name)
        refuse_detour(status, name)
        mode = stat.S_IMODE(status.st_mode)
        os.chmod(name, mode | 0o700, dir_fd=self._here)
        return mode

    def _open_parent(self, parts: Parts) -> int:
        """A descriptor of the directory that holds *parts*, apart from the current path."""
        descriptor = os.dup(self._levels[0].descriptor)
        try:
            for name in parts[:-1]:
                refuse_detour(os.stat(name, dir_fd=descriptor, follow_symlinks=False), name)
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except FileNotFoundError:
            os.close(descriptor)
            raise RefusedError("is a hard link to a file that is not there") from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _vacant(self, parts: Parts) -> int:
        """The directory for *parts*, in which nothing has that name any more."""
        parent = self._enter(parts[:-1])
        remove_name(parent, parts[-1])
        return parent

    # Attributes

    def _own(self, descriptor: int, attributes: Attributes) -> None:
        if self._privileged:
            os.chown(descriptor, attributes.uid, attributes.gid)

    def _own_name(self, parent: int, name: bytes, attributes: Attributes) -> None:
        if self._privileged:
            os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, descriptor: int, attributes: Attributes) -> None:
        """File capabilities, by root, and ``user.*``; the rest belongs to the host's policies.

        Those of overlayfs would let an image steer the mount that its tree becomes part of.
        """
        for name, value in attributes.xattrs.items():
            if name == _CAPABILITY and self._privileged:
                os.setxattr(descriptor, name, value)
            elif name != _CAPABILITY and is_carried(name):
                try:
                    os.setxattr(descriptor, name, value)
                except OSError as error:
                    if error.errno != errno.ENOTSUP:  # as tmpfs before Linux 6.6
                        raise


def is_carried(xattr: str) -> bool:
    """Whether layers carry the extended attribute of that name, here and back."""
    is_user = xattr.startswith("user.") and not xattr.startswith("user.overlay.")
    return is_user or xattr == _CAPABILITY


def attributes_of(file: int) -> Attributes:
    """What the open *file* has, which may be an O_PATH descriptor. Raises OSError."""
    status = os.fstat(file)
    itself = f"/proc/self/fd/{file}"
    has_xattrs = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    names = os.listxattr(itself) if has_xattrs else ()
    return Attributes(
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        xattrs={name: os.getxattr(itself, name) for name in names if is_carried(name)},
    )


def imitate(directory: Path, lower: Path) -> None:
    """Give the root *directory* of an overlay the owner, mode, time and xattrs of that below."""
    descriptor = os.open(lower, _DIRECTORY)
    try:
        found = attributes_of(descriptor)
    finally:
        os.close(descriptor)
    os.chown(directory, found.uid, found.gid)
    for name, value in found.xattrs.items():
        os.setxattr(directory, name, value)
    directory.chmod(found.mode)
    os.utime(directory, ns=(found.mtime_ns, found.mtime_ns))


def refuse_detour(status: os.stat_result, name: bytes) -> None:
    """Say plainly what O_NOFOLLOW refuses without a reason."""
    if stat.S_ISLNK(status.st_mode):
        raise DetourError(f"leads through the symbolic link {name!r}")
    if not stat.S_ISDIR(status.st_mode):
        raise DetourError(f"leads through {name!r}, which is no directory")


def _drop_xattrs(directory: int, attributes: Attributes) -> None:
    """Take from *directory* what it had of a lower layer and *attributes* do not name."""
    for name in os.listxattr(directory):
        if is_carried(name) and name not in attributes.xattrs:
            os.removexattr(directory, name)


def _is_directory(parent: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _touch_name(parent: int, name: bytes, attributes: Attributes) -> None:
    os.utime(name, ns=_times(attributes.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _times(mtime_ns: int) -> tuple[int, int]:
    """Times for utime, within what any file system's own clamping can take."""
    bounded_ns = max(-_LAST_NS, min(mtime_ns, _LAST_NS))
    return bounded_ns, bounded_ns
