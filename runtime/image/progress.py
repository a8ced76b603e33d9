"""How far long work is, and bars for it: one a layer, on a terminal only."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE_S = 2.0
"""What is done before that needs no bar."""


@dataclass(slots=True)
class Transfer:
    """One part of the work, for people to watch: *done_bytes* is written by its thread only."""

    name: str
    total_bytes: int
    done_bytes: int = 0
    state: str = "waiting"


class Watcher(Protocol):
    """Who is told how far the work is."""

    def shows(self, transfers: Sequence[Transfer]) -> None:
        """Called several times a second while the work goes on, perhaps by several threads."""


Showing = Callable[[], AbstractContextManager[Watcher | None]]
"""Gives who watches one piece of work, for as long as that lasts."""


class Bars:
    """Shows what goes on once it has gone on for a while."""

    def __init__(self) -> None:
        self._begin_s = time.monotonic() + PATIENCE_S
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._guard = threading.Lock()

    def shows(self, transfers: Sequence[Transfer]) -> None:
        """Bring the bars up to date."""
        with self._guard:
            self._show(transfers)

    def _show(self, transfers: Sequence[Transfer]) -> None:
        if self._progress is None:
            if time.monotonic() < self._begin_s:
                return
            self._progress = _progress()
            self._progress.start()
        for transfer in transfers:
            if transfer.name not in self._tasks:
                task = self._progress.add_task(transfer.name, total=transfer.total_bytes)
                self._tasks[transfer.name] = task
            self._progress.update(
                self._tasks[transfer.name],
                completed=transfer.done_bytes,
                description=f"{transfer.name} {transfer.state}",
            )

    def stop(self) -> None:
        """Give the terminal back."""
        if self._progress is not None:
            self._progress.stop()


@contextmanager
def watcher(*, quiet: bool) -> Iterator[Watcher | None]:
    """Who watches: bars on standard error if that is a terminal, else nobody."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bars = Bars()
    try:
        yield bars
    finally:
        bars.stop()


def bars() -> AbstractContextManager[Watcher | None]:
    """Bars, where they can be seen."""
    return watcher(quiet=False)


@contextmanager
def nobody() -> Iterator[None]:
    """Nobody watches."""
    yield None


def _progress() -> "Progress":
    from rich.console import Console  # noqa: PLC0415 - heavy, and only for those who wait
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
