"""Tells people how far a run is: a bar on a terminal, a line a block elsewhere. The only rich."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Watcher
from benchmarks.schedule import Cell


class Lines:
    """For logs and pipes: one line for each finished block, with the time left."""

    def __init__(self) -> None:
        self._total = 0
        self._done = 0
        self._earlier = 0
        self._failed = 0
        self._blocks = 0
        self._start_ns = 0

    def says(self, sentence: str) -> None:
        """One line that stays."""
        print(f"isoscope: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        """The measuring begins; *done* instances are there from before."""
        self._total, self._blocks, self._done = instances, blocks, done
        self._earlier = done
        self._start_ns = time.monotonic_ns()
        known = f", {done} of them done before" if done else ""
        self.says(f"{instances} instances in {blocks} blocks{known}")

    def finished(self, cell: Cell, *, ok: bool) -> None:
        """One instance is done."""
        self._done += 1
        self._failed += not ok
        if self._done * self._blocks % self._total == 0:
            spent_s = (time.monotonic_ns() - self._start_ns) / 1e9
            left_s = spent_s / (self._done - self._earlier) * (self._total - self._done)
            failed = f", {self._failed} failed" if self._failed else ""
            self.says(f"block {cell.block} of {self._blocks} done{failed}, {left_s:.0f} s left")


class Bar:
    """For a terminal: a bar with blocks done and time left; sentences stay above it."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - heavy, and only for terminals
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("instances, elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("preparing", total=None)
        self._blocks = 0
        self._failed = 0

    def says(self, sentence: str) -> None:
        """One line that stays."""
        self._progress.console.print(sentence, highlight=False, markup=False)

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        """The measuring begins; *done* instances are there from before."""
        self._blocks = blocks
        self._progress.update(self._task, total=instances, completed=done)

    def finished(self, cell: Cell, *, ok: bool) -> None:
        """One instance is done."""
        self._failed += not ok
        failed = f", {self._failed} failed" if self._failed else ""
        text = f"block {cell.block} of {self._blocks}{failed}"
        self._progress.update(self._task, advance=1, description=text)

    def start(self) -> None:
        """Show the bar."""
        self._progress.start()

    def stop(self) -> None:
        """Give the terminal back."""
        self._progress.stop()


@contextmanager
def watcher() -> Iterator[Watcher]:
    """The watcher that suits standard error."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Lines()
        return
    bar = Bar()
    bar.start()
    try:
        yield bar
    finally:
        bar.stop()
