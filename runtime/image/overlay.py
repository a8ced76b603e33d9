"""Writing one layer in the form that overlayfs takes: alone, over layers that it does not touch.

What the layer deletes becomes a whiteout, a directory whose older content it drops is marked as
opaque, and a parent that it does not name looks as it does below. A whiteout is only made where
there is something to hide: in a directory of its own, overlayfs would list it.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from runtime.image import stack
from runtime.image.removal import remove_name
from runtime.image.stack import is_opaque, is_whiteout
from runtime.image.tree import (
    Attributes,
    DetourError,
    Level,
    Parts,
    RefusedError,
    Tree,
    attributes_of,
    refuse_detour,
)

_CHUNK_BYTES = 1 << 20


class OutOfOrderError(Exception):
    """The layer deletes what it has already written over: its deletions must be done first."""


class OverlayTree(Tree):
    """The directory *root* above the snapshots that *lower* gives, topmost first.

    *lower* is asked when something below has to be looked at, and at the end; it may wait. With
    *ordered*, deletions may come between entries as long as that makes no difference; where it
    would, OutOfOrderError is raised. Devices and trusted attributes need root.
    """

    def __init__(
        self, root: Path, lower: Callable[[], tuple[Path, ...]], *, ordered: bool
    ) -> None:
        super().__init__(root)
        self._find_lower = lower
        self._ordered = ordered
        self._opened = ExitStack()
        self._roots: tuple[int, ...] | None = None
        self._has_root = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._opened:
            if kind is None and not self._has_root and self._lower:
                super().directory((), attributes_of(self._lower[0]))
            super().__exit__(kind, error, trace)

    def directory(self, parts: Parts, attributes: Attributes) -> None:
        """As in a whole tree; whether it hides what is below depends on what it replaces."""
        self._has_root = self._has_root or not parts
        super().directory(parts, attributes)

    def hard_link(self, parts: Parts, target: Parts) -> None:
        """As in a whole tree; a lower file is first copied up, as overlayfs would.

        The copy is apart from other names that the file has below.
        """
        with self._at(target[:-1]) as (own, lower):
            below = _found(lower, target[-1])
            try:
                status = _status(own, target[-1])
                if below and status is None:
                    self._copy_up(target, below[0])
                elif status is not None and is_whiteout(status):
                    raise RefusedError("is a hard link to a file that is not there")
            finally:
                stack.close(below)
        super().hard_link(parts, target)

    def special(self, parts: Parts, kind: int, device: int, attributes: Attributes) -> None:
        """As in a whole tree; what has no file there has none below either."""
        super().special(parts, kind, device, attributes)
        if stat.S_ISCHR(kind) and device == 0 and self._shows(parts):
            _white_out(self._enter(parts[:-1]), parts[-1])

    def remove(self, parts: Parts) -> None:
        """Hide what lower layers have at *parts*."""
        if not self._shows(parts, strict=True):
            return
        parent = self._enter(parts[:-1])
        try:
            status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISDIR(status.st_mode):
                return  # it hides that already
            self._need_disorder()
            remove_name(parent, parts[-1])
        _white_out(parent, parts[-1])

    def clear(self, parts: Parts) -> None:
        """Hide all that lower layers have in the directory *parts*."""
        try:
            with self._at(parts) as (own, lower):
                if own is None and not lower:
                    return
        except DetourError:
            return  # it was no directory, so it had nothing in it
        here = self._enter(parts)
        for name in os.listdir(here) if lower else ():  # noqa: PTH208 - of a descriptor
            self._need_disorder()
            remove_name(here, name)
        os.setxattr(here, stack.opaque_name(), b"y")

    # What a directory is made from

    def _make_implied(self, name: bytes) -> None:
        """A parent that this layer does not name looks as it does below."""
        with self._at((*self._path(), name)) as (_, lower):
            super()._make_implied(name)
            if lower:
                self._imitate(name, lower[0])

    def _made_directory(self, parent: int, name: bytes) -> bool:
        """What it replaces was something else, so nothing below may show in it."""
        before = _status(parent, name)
        is_new = super()._made_directory(parent, name)
        if is_new and before is not None:
            _make_opaque(parent, name)
        return is_new

    def _open_level(self, name: bytes) -> Level:
        """A directory of which the older one was deleted is a new one."""
        before = _status(self._here, name)
        if before is not None and is_whiteout(before):
            os.unlink(name, dir_fd=self._here)
            super()._make_implied(name)
            _make_opaque(self._here, name)
        return super()._open_level(name)

    def _imitate(self, name: bytes, lower: int) -> None:
        attributes = attributes_of(lower)
        self._levels.append(self._open_level(name))
        self._set_directory(attributes)
        self._leave_to(len(self._levels) - 1)

    def _copy_up(self, parts: Parts, source: int) -> None:
        self._need_disorder()
        attributes, status = attributes_of(source), os.fstat(source)
        if stat.S_ISDIR(status.st_mode):
            raise RefusedError("is a hard link to itself or to a directory")
        if stat.S_ISLNK(status.st_mode):
            self.symbolic_link(parts, os.readlink(b"", dir_fd=source), attributes)
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(parts, source, attributes)
        else:
            kind = stat.S_IFMT(status.st_mode)
            super().special(parts, kind, status.st_rdev, attributes)

    def _copy_file(self, parts: Parts, source: int, attributes: Attributes) -> None:
        reading = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            writing = self.new_file(parts)
            try:
                while os.sendfile(writing, reading, None, _CHUNK_BYTES):
                    pass
                self.finish_file(writing, attributes)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    # What lies below

    @property
    def _lower(self) -> tuple[int, ...]:
        """The root directories below, opened when they are first needed."""
        if self._roots is None:
            self._roots = self._opened.enter_context(stack.opened(self._find_lower()))
        return self._roots

    def _path(self) -> Parts:
        return tuple(level.name for level in self._levels[1:])

    @contextmanager
    def _at(
        self, parts: Parts, *, strict: bool = False
    ) -> Iterator[tuple[int | None, tuple[int, ...]]]:
        """The directory *parts* of this layer, None if it has none, and the lower ones that show.

        Raises DetourError for a way below that leads through a link or a file; *strict* also
        where this layer has put a directory in its place.
        """
        with ExitStack() as opened:
            own: int | None = self._levels[0].descriptor
            lower = () if is_opaque(self._levels[0].descriptor) else self._lower
            for name in parts:
                with ExitStack() as above:
                    above.push(opened.pop_all())  # with many layers only one level at a time
                    own, hides = self._descend(own, name, opened)
                    lower = () if hides else _found(lower, name)
                    opened.callback(stack.close, lower)
                if lower and not stat.S_ISDIR((status := os.fstat(lower[0])).st_mode):
                    if own is None or strict:
                        self._need_disorder()  # a later deletion may take it out of the way
                        refuse_detour(status, name)
                    lower = ()
            yield own, lower

    def _descend(self, own: int | None, name: bytes, opened: ExitStack) -> tuple[int | None, bool]:
        """From a directory of this layer to one in it, and whether that hides all below."""
        status = _status(own, name)
        if own is None or status is None:
            return None, False
        if not stat.S_ISDIR(status.st_mode):
            if not is_whiteout(status):
                self._need_disorder()
            return None, True
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=own)
        opened.callback(os.close, below)
        return below, is_opaque(below)

    def _shows(self, parts: Parts, *, strict: bool = False) -> bool:
        """Whether lower layers have something at *parts* that no parent in this one hides."""
        with self._at(parts[:-1], strict=strict) as (_, lower):
            found = _found(lower, parts[-1])
            stack.close(found)
        return bool(found)

    def _need_disorder(self) -> None:
        if self._ordered:
            raise OutOfOrderError


def _status(directory: int | None, name: bytes) -> os.stat_result | None:
    if directory is None:
        return None
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _found(directory: tuple[int, ...], name: bytes) -> tuple[int, ...]:
    """As ``stack.lookup``, nothing for what is not there."""
    try:
        return stack.lookup(directory, name)
    except FileNotFoundError:
        return ()


def _white_out(parent: int, name: bytes) -> None:
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)


def _make_opaque(parent: int, name: bytes) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.setxattr(descriptor, stack.opaque_name(), b"y")
    finally:
        os.close(descriptor)
