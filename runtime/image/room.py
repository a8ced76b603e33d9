"""Room on a disk: asked for before something large is written, and while it is being written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.show import amount

RESERVE_BYTES = 64 << 20
"""What is left free for everybody else, but never more than a hundredth of the disk."""

CHECK_BYTES = 4 << 20
"""Who writes asks again after so many bytes."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REMEDY = (
    "free some with 'isoscope image prune', or set ISOSCOPE_HOME to a directory with more room"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The disk of the existing directory *path*, onto which *what* is to be written."""

    path: Path
    what: str
    remedy: str = _REMEDY

    def require(self, needed_bytes: int) -> None:
        """Raise ImageError if *needed_bytes* are not free: nothing need be begun then."""
        free_bytes, _ = self._free()
        if needed_bytes > free_bytes:
            raise ImageError(
                f"there is too little room in {self.path}: {self.what} needs"
                f" {amount(needed_bytes)} and {amount(free_bytes)} are free, so"
                f" {amount(needed_bytes - free_bytes)} are missing",
                remedy=self.remedy,
            )

    def check(self, left_bytes: int) -> None:
        """Raise ImageError if the disk is almost full and *left_bytes* are still to come."""
        free_bytes, reserve_bytes = self._free()
        if left_bytes and free_bytes < reserve_bytes:
            raise self._full(left_bytes)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what a full disk refuses in the block into an ImageError."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise self._full(0) from error

    def _full(self, left_bytes: int) -> ImageError:
        more = f"; {amount(left_bytes)} were still to be read" if left_bytes else ""
        return ImageError(
            f"the disk of {self.path} is full: {self.what} has no room there{more}",
            remedy=self.remedy,
        )

    def _free(self) -> tuple[int, int]:
        """What we may still write, and what of it is not for us."""
        status = os.statvfs(self.path)
        if status.f_blocks == 0:  # a file system that does not count
            return 1 << 62, 0
        blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
        reserve_bytes = min(RESERVE_BYTES, status.f_blocks * status.f_frsize // 100)
        return blocks * status.f_frsize, reserve_bytes
