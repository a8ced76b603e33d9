"""How many blocks a run has: planned from pilot blocks, and ended by a budget. Pure.

What is looked at while a run is on is the *width* of intervals and the clock, never a verdict or a
p-value: stopping when a result pleases would make it false. Planning from a pilot's scatter is
Stein's (1945); the width of an interval shrinks with the square root of the blocks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.comparisons import twin_of
from benchmarks.results import Results
from benchmarks.stats import MIN_BLOCKS, ratio_of_medians
from benchmarks.summary import counted

MOST_BLOCKS = 200
"""More are not planned: what 200 blocks leave open is better asked on a quieter machine."""

_RESAMPLES = 2000
_SPARE = 1.05
"""A block is expected to take this much longer than the longest so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """The widest interval among those that are to be narrow, as a ratio - 1 to either side."""

    workload: str
    metric: str
    label: str
    half_width_ratio: float


def widest(results: Results, *, seed: int) -> Width | None:
    """The least precise comparison with the baseline: of each workload its first metric.

    None as long as no ratio has an interval.
    """
    plan = results.run.plan
    base = plan.backends[0].label
    control = f"{twin_of(plan, base)}'"
    labels = [arm.label for arm in plan.backends if arm.label not in (base, control)]
    labels = labels or [control]  # the baseline alone: what can be known is its own noise
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for sample in counted(results.samples):
        if sample.value is not None and sample.block > 0:
            place = (sample.workload, sample.metric, sample.label)
            values.setdefault(place, {})[sample.block] = float(sample.value)
    found = [
        Width(workload=workload.name, metric=metric, label=label, half_width_ratio=half_width)
        for workload in plan.workloads
        for metric in (workload.metrics[0].name,)
        for label in labels
        if (half_width := _half_width(values, (workload.name, metric), label, base, seed))
        is not None
    ]
    return max(found, key=lambda each: each.half_width_ratio, default=None)


def blocks_wanted(width: Width | None, done: int, precision_ratio: float) -> int:
    """How many blocks in all would make *width* no wider than *precision_ratio*, as of now."""
    if width is None:
        return min(max(done, MIN_BLOCKS), MOST_BLOCKS)
    if width.half_width_ratio <= precision_ratio:
        return done
    factor = math.log1p(width.half_width_ratio) / math.log1p(precision_ratio)
    return min(max(math.ceil(done * factor**2), done + 1), MOST_BLOCKS)


def has_time(budget_s: float, spent_s: float, blocks_s: Sequence[float]) -> bool:
    """Whether another whole block fits, the longest so far taken as its measure."""
    return spent_s + _SPARE * max(blocks_s, default=0.0) <= budget_s


def _half_width(
    values: Mapping[tuple[str, str, str], Mapping[int, float]],
    place: tuple[str, str],
    label: str,
    base: str,
    seed: int,
) -> float | None:
    arm, against = values.get((*place, label), {}), values.get((*place, base), {})
    ratio = ratio_of_medians(arm, against, resamples=_RESAMPLES, key=f"{seed}/{place}/{label}")
    if ratio is None or ratio.ci95 is None:
        return None
    return math.expm1(math.log(ratio.ci95.high / ratio.ci95.low) / 2)
