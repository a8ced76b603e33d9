"""Where a start goes, phase by phase, on each subject's own linear axis. Pure.

A bar is the time since the phase before and ends at the median; a whisker spans ``tails``. Beside
them stands when each single instance reached the same phases, so that a page can show one alone.
Positions are percent of the axis.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import Arm, Sample
from benchmarks.summary import PhaseSpread
from reports.style import format_ns, subject

MOST_RUNS = 60
"""So many blocks, the first ones, can be shown alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One phase: its bar from ``left``, ``width`` wide, its whisker, and the same in words."""

    phase: str
    left: float
    width: float
    low: float
    high: float
    took: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """One subject's phases in the order of their medians, and by block when each was reached.

    An instance has a time for each step, in ns; None is a phase that it did not show.
    """

    subject: str
    steps: tuple[Step, ...]
    runs: dict[int, list[int | None]]

    @property
    def runs_json(self) -> str:
        """``runs`` for a page's script."""
        return json.dumps(self.runs, separators=(",", ":"))


def waterfalls(
    phases: Sequence[PhaseSpread], samples: Iterable[Sample], arms: Sequence[Arm], workload: str
) -> tuple[Waterfall, ...]:
    """One for each of *arms* of which more than the request was seen; *samples* must count."""
    single: dict[str, dict[int, dict[str, int]]] = {}
    for sample in samples:
        if sample.workload == workload and sample.phases and sample.status == "ok":
            single.setdefault(sample.label, {}).setdefault(sample.block, dict(sample.phases))
    found = []
    for arm, marks in reached(phases, arms, workload):
        instances = sorted(single.get(arm.label, {}).items())[:MOST_RUNS]
        runs = {block: [times.get(mark.phase) for mark in marks] for block, times in instances}
        found.append(Waterfall(subject=subject(arm), steps=_steps(marks), runs=runs))
    return tuple(found)


def reached(
    phases: Sequence[PhaseSpread], arms: Sequence[Arm], workload: str
) -> list[tuple[Arm, list[PhaseSpread]]]:
    """For each label its phases in the order of time; labels of which nothing was seen are out."""
    found = []
    for arm in arms:
        mine = [each for each in phases if (each.workload, each.label) == (workload, arm.label)]
        mine.sort(key=lambda phase: phase.spread.median)
        if mine and mine[-1].spread.median > 0:
            found.append((arm, mine))
    return found


def _steps(marks: Sequence[PhaseSpread]) -> tuple[Step, ...]:
    end = max(mark.spread.tails[1] for mark in marks)

    def percent(at_ns: float) -> float:
        return round(100 * at_ns / end, 2)

    steps = []
    before = 0.0
    for mark in marks:
        spread = mark.spread
        took = spread.median - before
        steps.append(
            Step(
                phase=mark.phase,
                left=percent(before),
                width=percent(took),
                low=percent(spread.tails[0]),
                high=percent(spread.tails[1]),
                took=f"+{format_ns(took)}" if mark.phase != "request" else "",
                at=format_ns(spread.median) if spread.median else "0",
            )
        )
        before = spread.median
    return tuple(steps)
