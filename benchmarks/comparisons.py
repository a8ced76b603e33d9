"""How each label compares with the baseline: ratio, test, and what failures leave of a verdict.

Pure. What an interval supports is decided in ``benchmarks.stats``; here a claim must also survive
that many questions are asked at once, and that instances failed.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.evidence import (
    FALSE_DISCOVERIES,
    Evidence,
    block_permutation_p,
    blocks_for,
    cliffs_delta,
    false_discovery_rates,
    paired,
)
from benchmarks.results import Metric, Plan, Sample
from benchmarks.stats import (
    MIN_BLOCKS,
    ByBlock,
    Ratio,
    Verdict,
    judge,
    margin_of,
    ratio_of_medians,
    spread_of,
)

_CLAIMS = (Verdict.HIGHER, Verdict.LOWER)

Place = tuple[str, str, str]
"""Workload, metric, label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A label against the baseline. ``margin`` is a ratio - 1 (0.1: a factor of 1.1 either way).

    ``ratio`` is None where a value is zero; ``difference`` of the medians is always there.
    ``more_blocks`` estimates how many further blocks would settle an inconclusive verdict.
    ``lost`` counts the blocks that an instance which failed or hung took from the comparison: a
    verdict stands only if it would whether those had been the best or the worst. ``evidence`` is
    None below MIN_BLOCKS, for a control, and where there is no ratio.
    """

    baseline: str
    ratio: Ratio | None
    difference: float
    margin: float
    verdict: Verdict
    more_blocks: int | None
    lost: int = 0
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """How often is resampled, and from which seed."""

    resamples: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The counted values, and how they compare."""

    values: Mapping[Place, ByBlock]
    once: frozenset[str]
    ratios: Mapping[tuple[str, str, str, str], Ratio | None]
    lost: Mapping[Place, frozenset[int]]
    evidence: Mapping[Place, Evidence]
    draws: Draws

    def of(self, workload: str, metric: Metric, label: str) -> ByBlock:
        return self.values.get((workload, metric.name, label), {})

    def ratio(self, workload: str, metric: Metric, label: str, base: str) -> Ratio | None:
        return self.ratios[workload, metric.name, label, base]

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
        fixed = margin_of(metric.name, None)
        verdict, more_blocks = judge(ratio, margin, fixed=fixed)
        evidence = self.evidence.get((workload, metric.name, label))
        lost = self._lost(workload, metric.name, label, base)
        if workload in self.once and verdict is Verdict.TOO_FEW:
            verdict = Verdict.ONCE
        if verdict in _CLAIMS and evidence is not None and evidence.q > FALSE_DISCOVERIES:
            verdict, more_blocks = Verdict.INCONCLUSIVE, blocks_for(evidence.q)
        if verdict in (*_CLAIMS, Verdict.EQUIVALENT) and lost:
            outcomes = self._had_they_not_failed(workload, metric.name, label, base)
            if any(judge(each, margin, fixed=fixed)[0] is not verdict for each in outcomes):
                verdict, more_blocks = Verdict.INCONCLUSIVE, None
        return Comparison(
            baseline=base,
            ratio=ratio,
            difference=mine.median - theirs.median,
            margin=fixed if verdict is Verdict.EQUIVALENT else margin,
            verdict=verdict,
            more_blocks=more_blocks,
            lost=len(lost),
            evidence=evidence,
        )

    def _lost(self, workload: str, metric: str, label: str, base: str) -> frozenset[int]:
        """The blocks in which one of the two failed or hung."""
        return frozenset().union(
            *(self.lost.get((workload, metric, each), frozenset()) for each in (label, base))
        )

    def _had_they_not_failed(
        self, workload: str, metric: str, label: str, base: str
    ) -> list[Ratio | None]:
        """The ratio if each lost value had been the least, or the greatest, that its label gave.

        A median asks for the rank of a value alone, so that worse than the worst is no worse.
        """

        def filled(each: str, extreme: Callable[[Iterable[float]], float]) -> ByBlock:
            place = (workload, metric, each)
            seen = self.values[place]
            return {block: extreme(seen.values()) for block in self.lost.get(place, ())} | {**seen}

        return [
            ratio_of_medians(
                filled(label, mine),
                filled(base, theirs),
                resamples=self.draws.resamples,
                key=f"{self.draws.seed}/{workload}/{metric}/{label}/{base}/{mine.__name__}",
            )
            for mine, theirs in ((min, max), (max, min))
        ]


def compared(plan: Plan, base: str, used: Sequence[Sample], draws: Draws) -> Table:
    """Everything that *used*, the rows that count, say of the labels and *base*."""
    values, once = _values(used), _once(plan, used)
    return Table(
        values=values,
        once=once,
        ratios=_ratios(plan, base, values, draws),
        lost=_lost(used),
        evidence=_evidence(plan, base, values, once, seed=draws.seed),
        draws=draws,
    )


def places(plan: Plan) -> list[tuple[str, Metric]]:
    return [(workload.name, metric) for workload in plan.workloads for metric in workload.metrics]


def twin_of(plan: Plan, base: str) -> str | None:
    """The label that stands in the plan a second time, as its own control."""
    labels = [arm.label for arm in plan.backends]
    return next((label for label in [base, *labels] if f"{label}'" in labels), None)


def _ratios(
    plan: Plan, base: str, values: Mapping[Place, ByBlock], draws: Draws
) -> dict[tuple[str, str, str, str], Ratio | None]:
    """Every label's to the baseline, and a control's to its twin; by place and denominator.

    Each has draws of its own, so that they need not be made one after the other.
    """
    twin = twin_of(plan, base)
    pairs = [(arm.label, base) for arm in plan.backends if arm.label != base]
    if twin is not None and twin != base:
        pairs.append((f"{twin}'", twin))
    wanted = [
        (workload, metric.name, *pair) for workload, metric in places(plan) for pair in pairs
    ]

    def ratio(workload: str, metric: str, label: str, against: str) -> Ratio | None:
        return ratio_of_medians(
            values.get((workload, metric, label), {}),
            values.get((workload, metric, against), {}),
            resamples=draws.resamples,
            key=f"{draws.seed}/{workload}/{metric}/{label}/{against}",
        )

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # numpy works outside the GIL
        return dict(zip(wanted, pool.map(lambda each: ratio(*each), wanted), strict=True))


def _evidence(
    plan: Plan, base: str, values: Mapping[Place, ByBlock], once: frozenset[str], *, seed: int
) -> dict[Place, Evidence]:
    """For every comparison that claims something: a control's claims nothing."""
    control = f"{twin_of(plan, base)}'"
    found: dict[Place, tuple[float, float]] = {}
    for workload, metric in places(plan):
        for arm in plan.backends:
            place = (workload, metric.name, arm.label)
            if workload in once or arm.label in (base, control):
                continue
            above, below = paired(
                values.get(place, {}), values.get((workload, metric.name, base), {})
            )
            if len(above) >= MIN_BLOCKS and min(above.min(), below.min()) > 0:
                p = block_permutation_p(above, below, key=f"{seed}/{'/'.join(place)}")
                found[place] = (p, cliffs_delta(above, below))
    rates = false_discovery_rates({place: p for place, (p, _) in found.items()})
    return {
        place: Evidence(p=p, q=rates[place], delta=delta) for place, (p, delta) in found.items()
    }


def _once(plan: Plan, used: Iterable[Sample]) -> frozenset[str]:
    """Workloads that stand in block 0 alone: measured once for the run, as preparations are."""
    blocks: dict[str, set[int]] = {}
    for sample in used:
        blocks.setdefault(sample.workload, set()).add(sample.block)
    return frozenset(each.name for each in plan.workloads if blocks.get(each.name) == {0})


def _values(used: Iterable[Sample]) -> dict[Place, dict[int, float]]:
    values: dict[Place, dict[int, float]] = {}
    for sample in used:
        if sample.value is not None:
            place = (sample.workload, sample.metric, sample.label)
            values.setdefault(place, {})[sample.block] = float(sample.value)
    return values


def _lost(used: Iterable[Sample]) -> dict[Place, frozenset[int]]:
    """The blocks whose last attempt failed or hung; what a backend cannot say is none."""
    lost: dict[Place, set[int]] = {}
    for sample in used:
        if sample.status in {"failed", "timeout"}:
            place = (sample.workload, sample.metric, sample.label)
            lost.setdefault(place, set()).add(sample.block)
    return {place: frozenset(blocks) for place, blocks in lost.items()}
