"""The comparison matrix: every metric of every label beside a baseline, on one ratio axis. Pure.

The rows are a forest plot: a mark at the ratio, a line over its interval, the margin that was
fixed before measuring behind it. Positions are percent of the axis, so that a page can draw it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.comparisons import Comparison
from benchmarks.results import Arm, Metric, Results
from benchmarks.stats import Ratio
from benchmarks.summary import Row, Summary, summarise
from reports.scales import LogScale
from reports.style import (
    NOTHING,
    VERDICT_MARKS,
    effect,
    format_interval,
    format_tick,
    format_value,
    subject,
    title_of,
)
from reports.verdicts import amount, reading_order, verdict_word
from reports.words import ENGLISH, Words

_WIDEST = 1e9
_ROWS_FOR_EVERY_BASELINE = 700
_DRAWS_FOR_EVERY_BASELINE = 4e8
"""Rows that may stand in the page, and resampled values that may be drawn, for all baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Where a ratio stands on the axis, in percent; without interval ``low`` is ``high``."""

    low: float
    at: float
    high: float
    margin_low: float
    margin_high: float
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row. ``effect`` says whom the verdict speaks for, see ``style.effect``."""

    workload: str
    metric: str
    title: str
    subject: str
    slot: int
    is_control: bool
    median: str
    amount: str
    interval: str
    mark: str
    word: str
    effect: str
    n: int
    ratio: float | None
    value: float | None
    forest: Forest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All lines against one baseline, and the axis: (percent, text) of its ticks."""

    baseline: str
    against: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    one: float


def matrices(results: Results, summary: Summary, words: Words = ENGLISH) -> tuple[Matrix, ...]:
    """One for the summary's baseline, then for each other label where that is cheap."""
    arms = results.run.plan.backends
    own = matrix(summary, arms, words)
    controls = {floor.control for floor in summary.floors}
    labels = [arm.label for arm in arms if arm.label not in controls]
    draws = summary.resamples * results.run.plan.blocks * len(summary.rows) * len(labels)
    rows = len(summary.rows) * len(labels)
    if rows > _ROWS_FOR_EVERY_BASELINE or draws > _DRAWS_FOR_EVERY_BASELINE:
        return (own,)
    others = [
        matrix(
            summarise(results, baseline=label, resamples=summary.resamples, seed=summary.seed),
            arms,
            words,
        )
        for label in labels
        if label != summary.baseline
    ]
    return (own, *others)


def matrix(summary: Summary, arms: Sequence[Arm], words: Words = ENGLISH) -> Matrix:
    """The rows of *summary* against its baseline; *arms* in the plan's order give the slots."""
    slots = {arm.label: slot for slot, arm in enumerate(arms)}
    controls = {floor.control for floor in summary.floors}
    compared = [row for row in reading_order(summary.rows) if row.arm.label != summary.baseline]
    against = _subject_of(summary)
    scale = scale_for(row.comparison.ratio for row in compared if row.comparison)
    lines = tuple(
        _line(row, scale, words, is_control=row.arm.label in controls, slot=slots[row.arm.label])
        for row in compared
    )
    return Matrix(
        baseline=summary.baseline,
        against=against,
        lines=lines,
        ticks=ticks_of(scale),
        one=scale.percent(1),
    )


def scale_for(ratios: Iterable[Ratio | None]) -> LogScale:
    """Wide enough for every interval and for a factor of two either way, up to a billion.

    What lies beyond stands at the edge: one absurd value must not flatten all others.
    """
    low, high = 0.5, 2.0
    for ratio in ratios:
        if ratio is not None:
            ends = ratio.ci95
            low = min(low, ratio.estimate, ends.low if ends else low)
            high = max(high, ratio.estimate, ends.high if ends else high)
    low, high = max(low, 1 / _WIDEST), min(high, _WIDEST)
    pad = (high / low) ** 0.04
    return LogScale(low=low / pad, high=high * pad)


def ticks_of(scale: LogScale) -> tuple[tuple[float, str], ...]:
    """The axis in percent and text."""
    return tuple((scale.percent(at), format_tick(at, "").strip()) for at in scale.ticks())


def forest(ratio: Ratio | None, margin: float, scale: LogScale, sentence: str) -> Forest | None:
    """A ratio on the axis; None if there is none."""
    if ratio is None:
        return None
    ends = (ratio.ci95.low, ratio.ci95.high) if ratio.ci95 else (ratio.estimate,) * 2
    return Forest(
        low=scale.percent(ends[0]),
        at=scale.percent(ratio.estimate),
        high=scale.percent(ends[1]),
        margin_low=scale.percent(1 / (1 + margin)),
        margin_high=scale.percent(1 + margin),
        sentence=sentence,
    )


def _line(row: Row, scale: LogScale, words: Words, *, is_control: bool, slot: int) -> Line:
    told = _told(row.metric, row.comparison, words)
    spread = row.spread
    ratio = row.comparison.ratio if row.comparison else None
    sentence = words("forest.label", who=subject(row.arm), ratio=told[0], verdict=told[3])
    return Line(
        workload=row.workload,
        metric=row.metric.name,
        title=title_of(row.metric, words),
        subject=subject(row.arm),
        slot=slot,
        is_control=is_control,
        median=format_value(spread.median, row.metric.unit) if spread else NOTHING,
        amount=told[0],
        interval=told[1],
        mark=told[2],
        word=told[3],
        effect=effect(row.metric, row.comparison.verdict if row.comparison else None),
        n=spread.n if spread else 0,
        ratio=ratio.estimate if ratio else None,
        value=spread.median if spread else None,
        forest=forest(ratio, row.comparison.margin, scale, sentence) if row.comparison else None,
    )


def _told(
    metric: Metric, comparison: Comparison | None, words: Words
) -> tuple[str, str, str, str]:
    """Amount, interval, mark and word of a comparison."""
    if comparison is None:
        return NOTHING, NOTHING, NOTHING, words("effect.none")
    ends = comparison.ratio.ci95 if comparison.ratio else None
    return (
        amount(metric, comparison, words),
        format_interval(ends, words) if ends else NOTHING,
        VERDICT_MARKS[comparison.verdict],
        verdict_word(metric, comparison.verdict, comparison.margin, words),
    )


def _subject_of(summary: Summary) -> str:
    found = (subject(row.arm) for row in summary.rows if row.arm.label == summary.baseline)
    return next(found, summary.baseline)
