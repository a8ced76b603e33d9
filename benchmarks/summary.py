"""A run in numbers: each metric of each label beside the baseline. Pure: results in, values out.

Words are the reports'. What a number supports is decided in ``benchmarks.stats``.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.backend import COMMON_PHASES
from benchmarks.comparisons import Comparison, Draws, Table, compared, places, twin_of
from benchmarks.errors import BenchmarkError
from benchmarks.results import Arm, Metric, Plan, Results, Sample, Scalar
from benchmarks.shape import Shape, shape_of
from benchmarks.stats import Ratio, Spread, spread_of

SAME_FACTS = ("rootfs_fingerprint", "cpus", "memory_total_bytes")
"""Identity facts that must agree between labels, or the comparison is not like with like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What did not give a value: rows of all attempts; ``missing_blocks`` have no row at all."""

    failed: int
    timeout: int
    skipped: int
    retries: int
    missing_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload's metric on one label. Without values ``spread`` is None: a gap, no zero."""

    workload: str
    metric: Metric
    arm: Arm
    spread: Spread | None
    counts: Counts
    comparison: Comparison | None
    shape: Shape | None = None


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

    def _repr_html_(self) -> str:
        """Each metric on each label against the baseline; a gap is a dash, never zero."""
        from runtime.image.markup import table  # noqa: PLC0415 - only a notebook needs it

        head = ("workload", "metric", "subject", "median", "n", f"ratio to {self.baseline}",
                "95 % interval", "verdict")  # fmt: skip
        return table(head, (_cells(row) for row in self.rows))


def summarise(
    results: Results, *, baseline: str | None = None, resamples: int = 10_000, seed: int
) -> Summary:
    """The summary of *results*; *baseline* is the first label if none is named.

    Raises BenchmarkError if the plan has no such label.
    """
    plan = results.run.plan
    base = _baseline(plan, baseline)
    measured = [sample for sample in results.samples if not sample.warmup]
    used = counted(results.samples)
    table = compared(plan, base, used, Draws(resamples=resamples, seed=seed))
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


def _rows(
    plan: Plan, base: str, table: Table, measured: Iterable[Sample], floors: Iterable[Floor]
) -> tuple[Row, ...]:
    noise = {(floor.workload, floor.metric.name): floor for floor in floors}
    statuses: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in measured:
        statuses.setdefault((sample.workload, sample.metric, sample.label), []).append(sample)
    rows = []
    for workload, metric in places(plan):
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
                shape=shape_of([mine[block] for block in sorted(mine)]),
            )
            rows.append(row)
    return tuple(rows)


def _floors(plan: Plan, base: str, table: Table) -> tuple[Floor, ...]:
    """One for each metric if the plan has a control, ``host'`` beside ``host``."""
    twin = twin_of(plan, base)
    if twin is None:
        return ()
    return tuple(
        _floor(table, workload, metric, twin)
        for workload, metric in places(plan)
        if workload not in table.once
    )


def _floor(table: Table, workload: str, metric: Metric, twin: str) -> Floor:
    control = f"{twin}'"
    ratio = table.ratio(workload, metric, control, twin)
    floor = None
    if ratio is not None and ratio.ci95 is not None:
        floor = math.expm1(max(-math.log(ratio.ci95.low), math.log(ratio.ci95.high)))
    return Floor(
        workload=workload, metric=metric, control=control, twin=twin, ratio=ratio, floor=floor
    )


def _baseline(plan: Plan, wanted: str | None) -> str:
    labels = [arm.label for arm in plan.backends]
    if wanted is not None and wanted not in labels:
        raise BenchmarkError(
            f"the run has no label {wanted!r} to compare with",
            remedy=f"choose one of {', '.join(labels)}",
        )
    if not labels:
        raise BenchmarkError("the run's plan compares nothing: it names no backend")
    return labels[0] if wanted is None else wanted


def _counts(samples: Sequence[Sample], planned: int) -> Counts:
    statuses = [sample.status for sample in samples]
    return Counts(
        failed=statuses.count("failed"),
        timeout=statuses.count("timeout"),
        skipped=statuses.count("skipped"),
        retries=sum(sample.attempt > 1 for sample in samples),
        missing_blocks=max(0, planned - len({sample.block for sample in samples})),
    )


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


def _cells(row: Row) -> tuple[str, ...]:
    """What a notebook shows of *row*, in the units of the samples."""
    ratio = row.comparison.ratio if row.comparison else None
    interval = ratio.ci95 if ratio else None
    accelerator = f"[{row.arm.accelerator}]" if row.arm.accelerator else ""
    return (
        row.workload,
        row.metric.name,
        f"{row.arm.label}{accelerator}",
        f"{row.spread.median:,.0f} {row.metric.unit}" if row.spread else _GAP,
        str(row.spread.n if row.spread else 0),
        f"{ratio.estimate:,.2f}" if ratio else _GAP,
        f"{interval.low:,.2f} to {interval.high:,.2f}" if interval else _GAP,
        str(row.comparison.verdict) if row.comparison else _GAP,
    )


_GAP = "\N{EM DASH}"
