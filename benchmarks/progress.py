"""Tells people how far a run is: a bar on a terminal, a line a block elsewhere. The only rich."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.course import Watcher
from benchmarks.schedule import Cell
from runtime.fault import printable

_LONG_S = 30 * 60.0


class Pace:
    """What is done of a plan, what failed, and how long the rest will take at this pace."""

    def __init__(self, instances: int, blocks: int, *, done: int) -> None:
        self.blocks = blocks
        self._total = instances
        self._earlier = done
        self._done = done
        self._failed = 0
        self._start_ns = time.monotonic_ns()
        self._has_warned = False

    def finished(self, *, ok: bool) -> None:
        """One instance is done."""
        self._done += 1
        self._failed += not ok

    @property
    def failures(self) -> str:
        """What to add to a line about progress."""
        return f", {self._failed} failed" if self._failed else ""

    @property
    def is_at_a_blocks_end(self) -> bool:
        """Whether the instance just finished was the last of its block."""
        return self._done * self.blocks % self._total == 0

    def left_s(self) -> float:
        """The time that the rest takes if it goes on so; needs one finished instance."""
        spent_s = (time.monotonic_ns() - self._start_ns) / 1e9
        return spent_s / (self._done - self._earlier) * (self._total - self._done)

    def warning(self) -> str | None:
        """After the first block, once: that this is a long run, and what can be done about it."""
        if self._has_warned or not self.is_at_a_blocks_end:
            return None
        self._has_warned = True
        if (left_s := self.left_s()) < _LONG_S:
            return None
        return (
            f"{self.blocks} blocks will take about {told_duration(left_s)} more; Ctrl-C keeps what"
            " is finished and --resume goes on, --blocks N asks for less"
        )


def told_duration(seconds: float) -> str:
    """A time in words, as exact as an estimate can be: ``40 s``, ``12 min``, ``5 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / (24 * 60):.0f} days"


class Lines:
    """For logs and pipes: one line for each finished block, with the time left."""

    def __init__(self) -> None:
        self._pace = Pace(0, 0, done=0)

    def says(self, sentence: str) -> None:
        """One line that stays."""
        print(f"isoscope: {printable(sentence)}", file=sys.stderr, flush=True)  # noqa: T201 - its purpose

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        """The measuring begins; *done* instances are there from before."""
        self._pace = Pace(instances, blocks, done=done)
        known = f", {done} of them done before" if done else ""
        self.says(f"{instances} instances in {blocks} blocks{known}")

    def finished(self, cell: Cell, *, ok: bool) -> None:
        """One instance is done."""
        pace = self._pace
        pace.finished(ok=ok)
        if pace.is_at_a_blocks_end:
            left = f"{told_duration(pace.left_s())} left"
            self.says(f"block {cell.block} of {pace.blocks} done{pace.failures}, {left}")
        if (warning := pace.warning()) is not None:
            self.says(warning)


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
        self._pace = Pace(0, 0, done=0)

    def says(self, sentence: str) -> None:
        """One line that stays."""
        self._progress.console.print(printable(sentence), highlight=False, markup=False)

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        """The measuring begins; *done* instances are there from before."""
        self._pace = Pace(instances, blocks, done=done)
        self._progress.update(self._task, total=instances, completed=done)

    def finished(self, cell: Cell, *, ok: bool) -> None:
        """One instance is done."""
        pace = self._pace
        pace.finished(ok=ok)
        text = f"block {cell.block} of {pace.blocks}{pace.failures}"
        self._progress.update(self._task, advance=1, description=text)
        if (warning := pace.warning()) is not None:
            self.says(warning)

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
