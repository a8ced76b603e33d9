"""What the samples of a run support, and no more. Pure: results in, values out, words elsewhere.

The unit of analysis is the instance, one per block and label. Two labels are compared by the
ratio of their medians; its interval comes from resampling *blocks*, both arms together, because
what disturbs a block disturbs both (percentile bootstrap; Efron & Tibshirani 1993, ch. 13). A
comparison of the baseline with itself (A/A) gives the noise floor, and no difference below twice
that floor is claimed. With fewer than six blocks no interval is claimed at all. Every draw comes
from a seed that depends on the run's seed and the comparison only, so numbers do not change when
another row joins the table.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from benchmarks.backend import COMMON_PHASES
from benchmarks.errors import BenchmarkError
from benchmarks.results import Arm, Metric, Plan, Results, Sample, Scalar

MIN_BLOCKS = 6
"""Below this a nominal 95 % interval is not one: five values cover a median to 93.75 % at most."""

MARGINS = {"boot": 0.10, "prepare": 0.10, "memory": 0.02, "cpu": 0.02, "disk": 0.05}
"""Smallest ratio - 1 that matters, by metric family; fixed before any measurement."""
OTHER_MARGIN = 0.05

SAME_FACTS = ("rootfs_fingerprint", "cpus", "memory_total_bytes")
"""Identity facts that must agree between labels, or the comparison is not like with like."""

_WORTH_PROPOSING_BLOCKS = 1000
_CHUNK = 1000

Values = NDArray[np.float64]
ByBlock = Mapping[int, float]


class Verdict(StrEnum):
    """What an interval says about a ratio to the baseline, given the margin."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "n too small"
    UNDEFINED = "no ratio"
    ONCE = "measured once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From ``low`` to ``high``, both included."""

    low: float
    high: float

    def within(self, margin_log: float) -> bool:
        """Whether every ratio in it is at most a factor exp(*margin_log*) away from 1."""
        return -margin_log <= math.log(self.low) and math.log(self.high) <= margin_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Order statistics of *n* values, in the metric's unit; percentiles interpolate linearly."""

    n: int
    median: float
    p5: float
    p95: float
    low: float
    high: float

    @property
    def constant(self) -> bool:
        """Whether all values are the same: a property of the thing, or a clock that is stuck."""
        return self.low == self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What did not give a value: rows of all attempts; ``missing_blocks`` have no row at all."""

    failed: int
    timeout: int
    skipped: int
    retries: int
    missing_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Median over median of the ``blocks`` that both labels have; no interval below MIN_BLOCKS."""

    estimate: float
    blocks: int
    ci95: Interval | None
    ci90: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A label against the baseline. ``margin`` is a ratio - 1 (0.1: a factor of 1.1 either way).

    ``ratio`` is None where a value is zero; ``difference`` of the medians is always there.
    ``more_blocks`` estimates how many further blocks would settle an inconclusive verdict.
    """

    baseline: str
    ratio: Ratio | None
    difference: float
    margin: float
    verdict: Verdict
    more_blocks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload's metric on one label. Without values ``spread`` is None: a gap, no zero."""

    workload: str
    metric: Metric
    arm: Arm
    spread: Spread | None
    counts: Counts
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """How far a label differs from itself: the noise below which nothing is claimed.

    ``floor`` is the ratio - 1 that the interval of control against its twin reaches, None if
    there are too few blocks to say.
    """

    workload: str
    metric: Metric
    control: str
    twin: str
    ratio: Ratio | None
    floor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpread:
    """When a common phase was reached, in ns since the request, over a label's instances."""

    workload: str
    label: str
    phase: str
    spread: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Every different value that an identity fact had in the instances of a label."""

    workload: str
    fact: str
    label: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inequality:
    """A fact that must agree between labels and does not."""

    workload: str
    fact: str
    values: tuple[Identity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All that is said about a run, in the order of its plan."""

    baseline: str
    resamples: int
    seed: int
    rows: tuple[Row, ...]
    floors: tuple[Floor, ...]
    phases: tuple[PhaseSpread, ...]
    identities: tuple[Identity, ...]
    inequalities: tuple[Inequality, ...]


def summarise(
    results: Results, *, baseline: str | None = None, resamples: int = 10_000, seed: int
) -> Summary:
    """The summary of *results*; *baseline* is ``host`` if it was measured, else the first label.

    Raises BenchmarkError if the plan has no such label.
    """
    plan = results.run.plan
    base = _baseline(plan, baseline)
    measured = [sample for sample in results.samples if not sample.warmup]
    used = counted(results.samples)
    once = _once(plan, measured)
    table = _Table(values=_values(used), once=once, resamples=resamples, seed=seed)
    floors = _floors(plan, base, table)
    identities = _identities(plan, used)
    return Summary(
        baseline=base,
        resamples=resamples,
        seed=seed,
        rows=_rows(plan, base, table, measured, floors),
        floors=floors,
        phases=_phases(plan, used),
        identities=identities,
        inequalities=_inequalities(identities),
    )


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """The rows that count: no warm-ups, and of each cell those of the last attempt alone."""
    measured = [sample for sample in samples if not sample.warmup]
    last: dict[tuple[int, str, str], int] = {}
    for sample in measured:
        cell = (sample.block, sample.label, sample.workload)
        last[cell] = max(sample.attempt, last.get(cell, 0))
    return [
        sample
        for sample in measured
        if sample.attempt == last[sample.block, sample.label, sample.workload]
    ]


def ratio_of_medians(arm: ByBlock, base: ByBlock, *, resamples: int, key: str) -> Ratio | None:
    """The ratio over the blocks both have; None if there are none, or if a value has no ratio.

    *key* seeds the draws: the same key and values give the same interval.
    """
    blocks = sorted(arm.keys() & base.keys())
    top = np.array([arm[block] for block in blocks])
    bottom = np.array([base[block] for block in blocks])
    if not blocks or top.min() <= 0 or bottom.min() <= 0:
        return None
    with np.errstate(over="ignore"):  # a stranger's file may hold 1e-300
        estimate = float(np.median(top) / np.median(bottom))
        draws = _bootstrap(top, bottom, resamples, key)
    if not (draws.min() > 0 and draws.max() < math.inf):
        return None
    if len(blocks) < MIN_BLOCKS:
        return Ratio(estimate=estimate, blocks=len(blocks), ci95=None, ci90=None)
    return Ratio(
        estimate=estimate,
        blocks=len(blocks),
        ci95=_percentile_interval(draws, 0.95),
        ci90=_percentile_interval(draws, 0.90),
    )


def judge(ratio: Ratio | None, margin: float) -> tuple[Verdict, int | None]:
    """The verdict on a ratio, and for an inconclusive one how many blocks more would settle it.

    Outside the margin is judged by the 95 % interval; inside it by the 90 % interval, which is
    two one-sided tests at 5 % (Schuirmann 1987).
    """
    if ratio is None:
        return Verdict.UNDEFINED, None
    if ratio.ci95 is None or ratio.ci90 is None:
        return Verdict.TOO_FEW, None
    edge = math.log1p(margin)
    if math.log(ratio.ci95.low) > edge:
        return Verdict.HIGHER, None
    if math.log(ratio.ci95.high) < -edge:
        return Verdict.LOWER, None
    if ratio.ci90.within(edge):
        return Verdict.EQUIVALENT, None
    return Verdict.INCONCLUSIVE, _more_blocks(ratio, edge)


def margin_of(metric: str, floor: float | None) -> float:
    """The margin fixed for the metric's family, but never below twice the noise floor."""
    margin = MARGINS.get(metric.partition(".")[0], OTHER_MARGIN)
    if floor is None:
        return margin
    return max(margin, math.expm1(2 * math.log1p(floor)))


def spread_of(values: Iterable[float]) -> Spread | None:
    """The order statistics of *values*; None if there are none."""
    array = np.array(list(values), dtype=np.float64)
    if not array.size:
        return None
    low, p5, median, p95, high = np.quantile(array, [0, 0.05, 0.5, 0.95, 1]).tolist()
    return Spread(n=array.size, median=median, p5=p5, p95=p95, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The counted values by (workload, metric, label), and how they are compared."""

    values: Mapping[tuple[str, str, str], ByBlock]
    once: frozenset[str]
    resamples: int
    seed: int

    def of(self, workload: str, metric: Metric, label: str) -> ByBlock:
        return self.values.get((workload, metric.name, label), {})

    def ratio(self, workload: str, metric: Metric, label: str, base: str) -> Ratio | None:
        key = f"{self.seed}/{workload}/{metric.name}/{label}/{base}"
        return ratio_of_medians(
            self.of(workload, metric, label),
            self.of(workload, metric, base),
            resamples=self.resamples,
            key=key,
        )

    def compare(
        self, workload: str, metric: Metric, label: str, base: str, floor: float | None
    ) -> Comparison | None:
        """None where one of the two has no value at all: nothing was compared."""
        mine = spread_of(self.of(workload, metric, label).values())
        theirs = spread_of(self.of(workload, metric, base).values())
        if label == base or mine is None or theirs is None:
            return None
        ratio = self.ratio(workload, metric, label, base)
        margin = margin_of(metric.name, floor)
        verdict, more_blocks = judge(ratio, margin)
        if workload in self.once and verdict is Verdict.TOO_FEW:
            verdict = Verdict.ONCE
        return Comparison(
            baseline=base,
            ratio=ratio,
            difference=mine.median - theirs.median,
            margin=margin,
            verdict=verdict,
            more_blocks=more_blocks,
        )


def _rows(
    plan: Plan, base: str, table: _Table, measured: Iterable[Sample], floors: Iterable[Floor]
) -> tuple[Row, ...]:
    noise = {(floor.workload, floor.metric.name): floor for floor in floors}
    statuses: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in measured:
        statuses.setdefault((sample.workload, sample.metric, sample.label), []).append(sample)
    rows = []
    for workload, metric in _places(plan):
        floor = noise.get((workload, metric.name))
        for arm in plan.backends:
            # A control is judged by the fixed margin: its own noise must not excuse it.
            usable = floor.floor if floor is not None and floor.control != arm.label else None
            mine = table.of(workload, metric, arm.label)
            samples = statuses.get((workload, metric.name, arm.label), [])
            planned = 0 if workload in table.once else plan.blocks
            if workload in table.once and not samples:
                continue  # paid by another label of the same backend
            row = Row(
                workload=workload,
                metric=metric,
                arm=arm,
                spread=spread_of(mine.values()),
                counts=_counts(samples, planned),
                comparison=table.compare(workload, metric, arm.label, base, usable),
            )
            rows.append(row)
    return tuple(rows)


def _floors(plan: Plan, base: str, table: _Table) -> tuple[Floor, ...]:
    """One for each metric if the plan has a control, ``host'`` beside ``host``."""
    labels = [arm.label for arm in plan.backends]
    twin = next((label for label in [base, *labels] if f"{label}'" in labels), None)
    if twin is None:
        return ()
    return tuple(
        _floor(table, workload, metric, twin)
        for workload, metric in _places(plan)
        if workload not in table.once
    )


def _floor(table: _Table, workload: str, metric: Metric, twin: str) -> Floor:
    control = f"{twin}'"
    ratio = table.ratio(workload, metric, control, twin)
    floor = None
    if ratio is not None and ratio.ci95 is not None:
        floor = math.expm1(max(-math.log(ratio.ci95.low), math.log(ratio.ci95.high)))
    return Floor(
        workload=workload, metric=metric, control=control, twin=twin, ratio=ratio, floor=floor
    )


def _bootstrap(top: Values, bottom: Values, resamples: int, key: str) -> Values:
    """*resamples* ratios of medians, each over blocks drawn with replacement, arms paired."""
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
    draws = []
    for start in range(0, resamples, _CHUNK):  # bounds the memory, not the result
        size = (min(_CHUNK, resamples - start), len(top))
        chosen = source.integers(0, len(top), size=size)
        draws.append(np.median(top[chosen], axis=1) / np.median(bottom[chosen], axis=1))
    return np.concatenate(draws)


def _percentile_interval(draws: Values, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
    return Interval(low=low, high=high)


def _more_blocks(ratio: Ratio, edge: float) -> int | None:
    """Blocks until the interval no longer crosses the margin, if the estimate stays as it is.

    Its width shrinks with the square root of the blocks. None where that is not worth proposing.
    """
    distance = abs(abs(math.log(ratio.estimate)) - edge)
    interval = ratio.ci95 if abs(math.log(ratio.estimate)) > edge else ratio.ci90
    if interval is None or distance == 0:
        return None
    half_width = (math.log(interval.high) - math.log(interval.low)) / 2
    needed = math.ceil(ratio.blocks * (half_width / distance) ** 2)
    more = max(1, needed - ratio.blocks)
    return more if more <= _WORTH_PROPOSING_BLOCKS else None


def _baseline(plan: Plan, wanted: str | None) -> str:
    labels = [arm.label for arm in plan.backends]
    if wanted is not None and wanted not in labels:
        raise BenchmarkError(
            f"the run has no label {wanted!r} to compare with",
            remedy=f"choose one of {', '.join(labels)}",
        )
    if not labels:
        raise BenchmarkError("the run's plan compares nothing: it names no backend")
    if wanted is not None:
        return wanted
    return "host" if "host" in labels else labels[0]


def _once(plan: Plan, measured: Iterable[Sample]) -> frozenset[str]:
    """Workloads that stand in block 0 alone: measured once for the run, as preparations are."""
    blocks: dict[str, set[int]] = {}
    for sample in measured:
        blocks.setdefault(sample.workload, set()).add(sample.block)
    return frozenset(each.name for each in plan.workloads if blocks.get(each.name) == {0})


def _values(used: Iterable[Sample]) -> dict[tuple[str, str, str], dict[int, float]]:
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for sample in used:
        if sample.value is not None:
            place = (sample.workload, sample.metric, sample.label)
            values.setdefault(place, {})[sample.block] = float(sample.value)
    return values


def _counts(samples: Sequence[Sample], planned: int) -> Counts:
    statuses = [sample.status for sample in samples]
    return Counts(
        failed=statuses.count("failed"),
        timeout=statuses.count("timeout"),
        skipped=statuses.count("skipped"),
        retries=sum(sample.attempt > 1 for sample in samples),
        missing_blocks=max(0, planned - len({sample.block for sample in samples})),
    )


def _places(plan: Plan) -> list[tuple[str, Metric]]:
    return [(workload.name, metric) for workload in plan.workloads for metric in workload.metrics]


def _phases(plan: Plan, used: Iterable[Sample]) -> tuple[PhaseSpread, ...]:
    """Of instances that gave their first value; in the order of the common vocabulary."""
    reached: dict[tuple[str, str, str], list[int]] = {}
    for sample in used:
        for phase, at_ns in (sample.phases or {}).items():
            if sample.status == "ok" and phase in COMMON_PHASES:
                reached.setdefault((sample.workload, sample.label, phase), []).append(at_ns)
    return tuple(
        PhaseSpread(workload=workload.name, label=arm.label, phase=phase, spread=spread)
        for workload in plan.workloads
        for arm in plan.backends
        for phase in COMMON_PHASES
        if (spread := spread_of(reached.get((workload.name, arm.label, phase), ()))) is not None
    )


def _identities(plan: Plan, used: Iterable[Sample]) -> tuple[Identity, ...]:
    """In the order of plan and of fact names; values in the order they were first seen."""
    found: dict[tuple[str, str, str], dict[str, Scalar]] = {}
    for sample in used:
        for fact, value in (sample.facts or {}).items():
            # Keyed by repr: 1, 1.0 and True are different facts.
            seen = found.setdefault((sample.workload, fact, sample.label), {})
            seen.setdefault(repr(value), value)
    places = {(workload, fact) for workload, fact, _ in found}
    names = [workload.name for workload in plan.workloads]
    return tuple(
        Identity(workload=workload, fact=fact, label=arm.label, values=tuple(values.values()))
        for workload, fact in sorted(places, key=lambda place: (names.index(place[0]), place[1]))
        for arm in plan.backends
        if (values := found.get((workload, fact, arm.label))) is not None
    )


def _inequalities(identities: Iterable[Identity]) -> tuple[Inequality, ...]:
    unequal = []
    for (workload, fact), group in groupby(
        identities, key=lambda each: (each.workload, each.fact)
    ):
        members = tuple(group)
        different = {repr(value) for member in members for value in member.values}
        if fact in SAME_FACTS and len(different) > 1:
            unequal.append(Inequality(workload=workload, fact=fact, values=members))
    return tuple(unequal)
