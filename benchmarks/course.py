"""The course of a run: warm-up, block after block, and after each the question whether to go on.

Who is measured is ``schedule``'s; how many blocks there are ``stopping`` decides from what is in
the journal; how one instance is measured is handed in.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from benchmarks.record import Record
from benchmarks.results import Protocol as Stated
from benchmarks.results import read_run
from benchmarks.schedule import Cell, schedule, warm_up
from benchmarks.stopping import MOST_BLOCKS, blocks_wanted, has_time, widest


class Watcher(Protocol):
    """Who is told how far a run is; see ``benchmarks.progress``."""

    def says(self, sentence: str) -> None:
        """One line that stays."""

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        """The measuring begins; *done* instances are there from before."""

    def finished(self, cell: Cell, *, ok: bool) -> None:
        """One instance is done."""


@dataclass(kw_only=True)
class Course:
    """*measure* does one cell and says whether it gave values; *settles* knows what is done.

    *began_ns* is when the run began, on the monotonic clock.
    """

    record: Record
    watcher: Watcher
    measure: Callable[[Cell], bool]
    settles: Callable[[Cell], bool]
    began_ns: int
    _blocks_s: list[float] = field(default_factory=list)

    def run(self, workloads: Sequence[str]) -> None:
        """Measure until the plan, the precision or the budget says that it is enough."""
        labels = [arm.label for arm in self.record.run.plan.backends]
        seed = self.record.run.plan.seed
        if self._stated.warmup:
            self._warm_up([c for c in warm_up(labels, workloads, seed) if not self.settles(c)])
        block, planned = 1, self.record.run.plan.blocks
        cells = schedule(labels, workloads, MOST_BLOCKS + planned, seed)
        in_block = len(labels) * len(workloads)
        self._tells(cells, planned, in_block)
        while block <= planned:
            if not self._has_time(block):
                self._end("budget", block - 1)
                return
            self._block(cells[(block - 1) * in_block : block * in_block], block)
            if block == planned and (more := self._more(block)) > planned:
                planned = more
                self._tells(cells, planned, in_block, done=block * in_block)
            block += 1

    @property
    def _stated(self) -> Stated:
        stated = self.record.run.protocol
        if stated is None:  # a record older than protocols
            blocks = self.record.run.plan.blocks
            return Stated(warmup=False, pilot_blocks=blocks, wanted_blocks=blocks)
        return stated

    def _tells(
        self, cells: Sequence[Cell], planned: int, in_block: int, *, done: int | None = None
    ) -> None:
        mine = cells[: planned * in_block]
        if done is None:
            done = sum(self.settles(cell) for cell in mine)
        self.watcher.plans(len(mine), planned, done=done)

    def _warm_up(self, cells: Sequence[Cell]) -> None:
        if not cells:
            return
        self.watcher.says("a warm-up block first; it is recorded and does not count")
        before_ns = time.monotonic_ns()
        for cell in cells:
            self.measure(cell)
        self._blocks_s.append((time.monotonic_ns() - before_ns) / 1e9)

    def _block(self, cells: Sequence[Cell], block: int) -> None:
        left = [cell for cell in cells if not self.settles(cell)]
        before_ns = time.monotonic_ns()
        for cell in left:
            self.watcher.finished(cell, ok=self.measure(cell))
        if left:
            self.record.notes(block)
        if len(left) == len(cells):  # a part of a block says nothing about a whole one
            self._blocks_s.append((time.monotonic_ns() - before_ns) / 1e9)

    def _has_time(self, block: int) -> bool:
        """Whether *block* fits the budget; the first one is measured in any case."""
        budget_s = self._stated.budget_s
        spent_s = (time.monotonic_ns() - self.began_ns) / 1e9
        return budget_s is None or block == 1 or has_time(budget_s, spent_s, self._blocks_s)

    def _more(self, done: int) -> int:
        """How many blocks there are to be, now that all that were planned are *done*."""
        stated, plan = self._stated, self.record.run.plan
        if stated.precision_ratio is None:
            return done
        width = widest(read_run(self.record.directory), seed=plan.seed)
        wanted = blocks_wanted(width, done, stated.precision_ratio)
        reached = None if width is None else width.half_width_ratio
        is_enough = reached is not None and reached <= stated.precision_ratio
        stated = replace(stated, wanted_blocks=max(wanted, done), reached_ratio=reached)
        if wanted <= done:
            stated = replace(stated, end="precision" if is_enough else "most")
        elif width is not None:
            self.watcher.says(
                f"{width.metric} of {width.label} is known to \N{PLUS-MINUS SIGN}"
                f"{100 * width.half_width_ratio:.3g} % after {done} blocks; {wanted} are planned"
            )
        self.record.plans(max(wanted, done), stated)
        return wanted

    def _end(self, why: str, done: int) -> None:
        stated = self._stated
        wanted = max(stated.wanted_blocks, self.record.run.plan.blocks)
        self.record.plans(done, replace(stated, end="budget", wanted_blocks=wanted))
        self.watcher.says(f"the {why} ends the run after {done} of {wanted} blocks")
