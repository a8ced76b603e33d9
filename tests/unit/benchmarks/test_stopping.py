"""When a run has enough blocks: by the width of intervals and by the clock, never by a verdict."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import SAMPLE, run_with

from benchmarks import course
from benchmarks.course import Course
from benchmarks.errors import Interrupted
from benchmarks.journal import Journal
from benchmarks.record import recorded
from benchmarks.results import Protocol, Results, Run, read_run
from benchmarks.schedule import Cell
from benchmarks.stopping import MOST_BLOCKS, Width, blocks_wanted, has_time, widest


def width(ratio: float) -> Width:
    return Width(workload="boot", metric="boot.exit", label="vm", half_width_ratio=ratio)


@given(st.floats(0.001, 5), st.integers(6, 150), st.floats(0.001, 1))
def test_the_blocks_wanted_would_make_it_as_narrow_as_asked(
    seen: float, done: int, asked: float
) -> None:
    wanted = blocks_wanted(width(seen), done, asked)
    assert done <= wanted <= MOST_BLOCKS
    if wanted < MOST_BLOCKS:
        shrunk = math.expm1(math.log1p(seen) * math.sqrt(done / wanted))
        assert shrunk <= asked * 1.000001
    assert (wanted == done) == (seen <= asked)


def test_without_an_interval_no_plan_is_made_from_it() -> None:
    assert blocks_wanted(None, 10, 0.05) == 10
    assert blocks_wanted(None, 2, 0.05) == 6


def results_of(labels: dict[str, Sequence[float]]) -> Results:
    rows = [
        replace(SAMPLE, label=label, backend=label.rstrip("'"), block=block, value=value)
        for label, values in labels.items()
        for block, value in enumerate(values, start=1)
    ]
    return Results(run=run_with(list(labels)), samples=tuple(rows))


def test_the_least_precise_comparison_decides_and_the_control_does_not() -> None:
    steady, wild = [100.0, 101, 99, 100, 102, 98], [50.0, 300, 80, 400, 60, 200]
    found = widest(
        results_of(
            {"host": steady, "host'": wild, "a": steady, "b": [100, 150, 90, 160, 95, 140]}
        ),
        seed=1,
    )
    assert found is not None
    assert found.label == "b"
    alone = widest(results_of({"host": steady, "host'": wild}), seed=1)
    assert alone is not None
    assert alone.label == "host'"
    assert widest(results_of({"host": steady[:3], "vm": wild[:3]}), seed=1) is None


def test_time_is_kept_for_the_longest_block_so_far() -> None:
    assert has_time(100, 60, [10, 30, 20])
    assert not has_time(100, 70, [10, 30, 20])
    assert has_time(100, 99, [])


class Clock:
    """Stands still unless an instance takes time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)


@dataclass
class Heard:
    said: list[str] = field(default_factory=list)
    planned: list[tuple[int, int, int]] = field(default_factory=list)
    finished_cells: int = 0

    def says(self, sentence: str) -> None:
        self.said.append(sentence)

    def plans(self, instances: int, blocks: int, *, done: int) -> None:
        self.planned.append((instances, blocks, done))

    def finished(self, _cell: Cell, *, ok: bool) -> None:
        self.finished_cells += ok


@dataclass
class Bench:
    """A run whose instances are scripted: each takes a second and gives *values* of its label."""

    directory: Path
    clock: Clock
    values: Callable[[Cell], float]
    heard: Heard = field(default_factory=Heard)
    cells: list[Cell] = field(default_factory=list)

    def goes(self, run: Run, *, stop_after: int | None = None) -> Run:
        with recorded(self.directory, run) as record, Journal(self.directory, run.run) as journal:

            def measure(cell: Cell) -> bool:
                if stop_after is not None and len(self.cells) >= stop_after:
                    raise KeyboardInterrupt
                self.clock.now_s += 1
                self.cells.append(cell)
                row = replace(
                    SAMPLE, label=cell.label, backend=cell.label.rstrip("'"), block=cell.block,
                    order=cell.order, value=self.values(cell), warmup=cell.block == 0,
                    instance=f"{cell.label}-{cell.block}",
                )  # fmt: skip
                journal.append([row])
                return True

            done = {(s.block, s.label) for s in read_run(self.directory).samples}
            Course(
                record=record, watcher=self.heard, measure=measure, began_ns=0,
                settles=lambda cell: (cell.block, cell.label) in done,
            ).run(["boot"])  # fmt: skip
        return read_run(self.directory).run


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    clock = Clock()
    monkeypatch.setattr(course, "time", clock)
    wave = itertools.cycle([100.0, 104, 97, 101, 99, 103])
    return Bench(directory=tmp_path, clock=clock, values=lambda _cell: next(wave))


def asked(**changes: object) -> Run:
    blocks = 6
    stated = Protocol(warmup=False, pilot_blocks=blocks, wanted_blocks=blocks)
    return replace(
        run_with(["host", "vm"], blocks=blocks),
        protocol=replace(stated, **changes),  # type: ignore[arg-type]  # the fields vary by test
    )


def test_without_a_wish_there_are_as_many_blocks_as_planned(scripted: Bench) -> None:
    run = scripted.goes(asked())
    assert (run.plan.blocks, len(scripted.cells), run.outcome) == (6, 12, "complete")
    assert run.protocol is not None
    assert run.protocol.end == "plan"
    assert scripted.heard.planned == [(12, 6, 0)]
    during = run.environment["during"]
    assert [each["block"] for each in during] == [1, 2, 3, 4, 5, 6]


def test_the_warm_up_is_recorded_marked_and_not_counted(scripted: Bench) -> None:
    scripted.goes(asked(warmup=True))
    rows = read_run(scripted.directory).samples
    assert [row.warmup for row in rows] == [True] * 2 + [False] * 12
    assert {row.block for row in rows if row.warmup} == {0}
    assert scripted.heard.finished_cells == 12


def test_a_pilot_plans_the_blocks_that_the_precision_needs(scripted: Bench) -> None:
    noise = itertools.cycle([80.0, 120, 95, 108, 88, 113, 101])
    scripted.values = lambda _cell: next(noise)
    run = scripted.goes(asked(precision_ratio=0.08))
    assert run.protocol is not None
    assert run.protocol.end == "precision"
    assert run.protocol.reached_ratio is not None
    assert run.protocol.reached_ratio <= 0.08
    assert run.plan.blocks == run.protocol.wanted_blocks > run.protocol.pilot_blocks == 6
    assert len(scripted.cells) == 2 * run.plan.blocks
    assert "are planned" in scripted.heard.said[0]


def test_what_cannot_become_precise_ends_at_the_most_blocks(scripted: Bench) -> None:
    hopeless = itertools.cycle([1.0, 1000, 30, 2, 600, 5, 70])
    scripted.values = lambda _cell: next(hopeless)
    run = scripted.goes(asked(precision_ratio=0.01))
    assert run.protocol is not None
    assert (run.plan.blocks, run.protocol.end) == (MOST_BLOCKS, "most")


def test_a_budget_ends_a_run_in_time_with_whole_blocks_and_says_what_is_left(
    scripted: Bench,
) -> None:
    run = scripted.goes(asked(budget_s=9.0))
    assert run.protocol is not None
    assert (run.plan.blocks, run.protocol.wanted_blocks, run.protocol.end) == (4, 6, "budget")
    assert len(scripted.cells) == 8
    assert scripted.clock.now_s <= 9
    assert scripted.heard.said == ["the budget ends the run after 4 of 6 blocks"]
    assert run.outcome == "complete"


def test_a_budget_that_is_gone_before_it_begins_leaves_one_block(scripted: Bench) -> None:
    run = scripted.goes(asked(budget_s=1.0))
    assert (run.plan.blocks, len(scripted.cells)) == (1, 2)


def test_an_interrupted_run_goes_on_where_it_was(scripted: Bench) -> None:
    with pytest.raises(Interrupted):
        scripted.goes(asked(), stop_after=5)
    halted = read_run(scripted.directory).run
    assert halted.outcome == "interrupted"
    assert [each["block"] for each in halted.environment["during"]] == [1, 2]
    run = scripted.goes(halted)
    assert len(scripted.cells) == len({(c.block, c.label) for c in scripted.cells}) == 12
    assert [each["block"] for each in run.environment["during"]] == [1, 2, 3, 4, 5, 6]
    assert scripted.heard.planned[-1] == (12, 6, 5)
