"""Long reading that is followed: people see how far it is, and it ends before a disk is full."""

import time
from dataclasses import dataclass, field

from runtime.image.blob import Reader
from runtime.image.manifest import Descriptor
from runtime.image.progress import Transfer, Watcher
from runtime.image.room import CHECK_BYTES, Room

_TICK_NS = 10**8


@dataclass(slots=True, kw_only=True)
class Following:
    """One piece of work: what it reads, and onto which disk it writes what comes of it."""

    room: Room | None
    watcher: Watcher | None = None
    transfers: dict[str, Transfer] = field(default_factory=dict)
    _shown_ns: int = 0

    def expect(self, name: str, size_bytes: int) -> None:
        """*size_bytes* called *name* will be read: shown from the beginning."""
        self.transfers.setdefault(name, Transfer(name, size_bytes))

    def reader(self, source: Reader, name: str, size_bytes: int, state: str) -> "Followed":
        """*source*, of which is told how much has been read; whoever reads it does *state*."""
        self.expect(name, size_bytes)
        transfer = self.transfers[name]
        transfer.state, transfer.done_bytes = state, 0
        return Followed(self, source, transfer)

    def show(self) -> None:
        """Tell the watcher, if a while has passed since the last time."""
        now_ns = time.monotonic_ns()
        if self.watcher is not None and now_ns - self._shown_ns > _TICK_NS:
            self._shown_ns = now_ns
            self.watcher.shows([*self.transfers.values()])

    def require(self) -> None:
        """Raise ImageError if the disk has not as much room as what is left."""
        if self.room is not None:
            self.room.require(self._left_bytes())

    def check(self) -> None:
        """Raise ImageError if the disk is almost full."""
        if self.room is not None:
            self.room.check(self._left_bytes())

    def _left_bytes(self) -> int:
        left = (each.total_bytes - each.done_bytes for each in [*self.transfers.values()])
        return sum(max(0, each) for each in left)


class Followed:
    """A source that is followed."""

    def __init__(self, following: Following, source: Reader, transfer: Transfer) -> None:
        self._following = following
        self._source = source
        self._transfer = transfer
        self._unchecked_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the source. Raises ImageError if the disk is full."""
        chunk = self._source.read(size)
        self._transfer.done_bytes += len(chunk)
        self._unchecked_bytes += len(chunk)
        if self._unchecked_bytes >= CHECK_BYTES:
            self._unchecked_bytes = 0
            self._following.check()
        self._following.show()
        return chunk


def short_name(blob: Descriptor) -> str:
    """What *blob* is called where it is shown: the twelve digits that people know."""
    return blob.digest.removeprefix("sha256:")[:12]
