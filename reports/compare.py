"""Two runs side by side: what changed, and whether it may be asked at all. Pure but for reading.

For each metric and label that both runs measured alike, the ratio of the later run's median to
the earlier one's. The blocks of two runs are not pairs, so each run's blocks are resampled on
their own (percentile bootstrap; Efron & Tibshirani 1993, ch. 13). The margin is the metric's
own, never below twice the larger noise floor of the two runs. Runs that differ in image, limits,
suite, boot profile, cache state or machine are not compared: their medians stand side by side,
without a ratio.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.results import Arm, Limits, Metric, Results, Run, Workload
from benchmarks.stats import (
    MIN_BLOCKS,
    Interval,
    Ratio,
    Spread,
    Verdict,
    judge,
    margin_of,
    spread_of,
)
from benchmarks.summary import Summary, counted
from reports.style import format_bytes
from reports.words import ENGLISH, Words

RESAMPLES = 10_000
PREPARATION = "prepare"
"""The metric that is timed once for an image and a backend, however many runs tell of it."""
_CHUNK_VALUES = 4_000_000
_MACHINE = ("cpu", "cpus", "memory_bytes", "machine", "hypervisor")
_SETTINGS = (
    "kernel", "distribution", "cgroups", "governor", "smt", "clocksource",
    "transparent_hugepages", "ksm", "swap_bytes", "mitigations",
)  # fmt: skip

ByBlock = Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something the two runs do not share; ``forbids`` says that it makes them incomparable."""

    what: str
    earlier: str
    later: str
    forbids: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One metric of one label in both runs. ``why_not`` says why there is no verdict."""

    workload: str
    metric: Metric
    arm: Arm
    earlier: Spread | None
    later: Spread | None
    ratio: Ratio | None
    margin: float
    verdict: Verdict | None
    more_blocks: int | None
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Everything that is said about two runs."""

    earlier: Run
    later: Run
    differences: tuple[Difference, ...]
    cells: tuple[Cell, ...]

    @property
    def is_allowed(self) -> bool:
        """Whether the runs may be compared at all."""
        return not any(difference.forbids for difference in self.differences)


def compare(
    earlier: tuple[Results, Summary],
    later: tuple[Results, Summary],
    words: Words = ENGLISH,
    *,
    resamples: int = RESAMPLES,
) -> RunComparison:
    """The later run against the earlier one, in the order of the later run's plan."""
    (before, _), (after, _) = earlier, later
    differences = tuple(_differences(before.run, after.run, words))
    allowed = not any(difference.forbids for difference in differences)
    cells = tuple(_cells(earlier, later, words, resamples=resamples, allowed=allowed))
    return RunComparison(earlier=before.run, later=after.run, differences=differences, cells=cells)


def unpaired_ratio(later: ByBlock, earlier: ByBlock, *, resamples: int, key: str) -> Ratio | None:
    """Median over median, each run's blocks resampled alone; None where a value has no ratio.

    ``blocks`` is the smaller number of the two; below MIN_BLOCKS there is no interval. *key*
    seeds the draws.
    """
    top = np.array([later[block] for block in sorted(later)])
    bottom = np.array([earlier[block] for block in sorted(earlier)])
    if not top.size or not bottom.size or top.min() <= 0 or bottom.min() <= 0:
        return None
    estimate = float(np.median(top) / np.median(bottom))
    blocks = min(len(top), len(bottom))
    if not 0 < estimate < math.inf:
        return None
    if blocks < MIN_BLOCKS:
        return Ratio(estimate=estimate, blocks=blocks, ci95=None, ci90=None)
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
    size = max(1, _CHUNK_VALUES // (len(top) + len(bottom)))  # bounds the memory
    chunks = []
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        mine = top[source.integers(0, len(top), size=(count, len(top)))]
        theirs = bottom[source.integers(0, len(bottom), size=(count, len(bottom)))]
        chunks.append(np.median(mine, axis=1) / np.median(theirs, axis=1))
    ends = np.quantile(np.concatenate(chunks), [0.025, 0.05, 0.95, 0.975]).tolist()
    if not (ends[0] > 0 and ends[-1] < math.inf):
        return None
    return Ratio(
        estimate=estimate,
        blocks=blocks,
        ci95=Interval(low=ends[0], high=ends[3]),
        ci90=Interval(low=ends[1], high=ends[2]),
    )


def _differences(earlier: Run, later: Run, words: Words) -> Iterator[Difference]:
    """What forbids a comparison first, then what may explain one."""
    yield from _unequal(_conditions(earlier, words), _conditions(later, words), forbids=True)
    for names, forbids in ((_MACHINE, True), (_SETTINGS, False)):
        sides = [
            {words("compare.machine", what=name): run.environment.get(name) for name in names}
            for run in (earlier, later)
        ]
        yield from _unequal(*sides, forbids=forbids)
    programs = [
        {words("word.version_of", name=name): version for name, version in run.versions.items()}
        for run in (earlier, later)
    ]
    yield from _unequal(*programs, forbids=False)


def _conditions(run: Run, words: Words) -> dict[str, object]:
    own: dict[str, object] = {
        "suite": run.suite,
        "image": sorted(run.images.values()),
        "limits": run.limits,
        "cache_state": run.cache_state,
        "boot_profile": run.boot_profile,
    }
    return {words(f"record.{name}"): value for name, value in own.items()}


def _unequal(
    earlier: Mapping[str, object], later: Mapping[str, object], *, forbids: bool
) -> Iterator[Difference]:
    for what in dict.fromkeys((*earlier, *later)):
        mine, theirs = earlier.get(what), later.get(what)
        if mine != theirs:
            yield Difference(
                what=what, earlier=_shown(mine), later=_shown(theirs), forbids=forbids
            )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Limits):
        memory = "-" if value.memory_bytes is None else format_bytes(value.memory_bytes)
        return f"cpus {value.cpus or '-'}, memory {memory}"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {each}" for name, each in value.items())
    return "-" if value is None else str(value)


def _cells(
    earlier: tuple[Results, Summary],
    later: tuple[Results, Summary],
    words: Words,
    *,
    resamples: int,
    allowed: bool,
) -> Iterator[Cell]:
    (before, before_summary), (after, after_summary) = earlier, later
    old, new = _values(before), _values(after)
    floors = _floors([before_summary, after_summary])
    told = {(row.workload, row.metric, row.label) for row in (*before.samples, *after.samples)}
    for place in _places(before.run, after.run):
        workload, metric, arm = place
        key = (workload.name, metric.name, arm.label)
        if key not in told:
            continue  # owed by nobody: a control shares its twin's preparation
        why = _why_not(before.run, after.run, place, words)
        if why is None and not (old.get(key) and new.get(key)):
            why = words("compare.no_value")
        is_compared = why is None and allowed
        ratio = None
        if is_compared:
            seed = f"{before.run.run}/{after.run.run}/{'/'.join(key)}"
            ratio = unpaired_ratio(new[key], old[key], resamples=resamples, key=seed)
        margin = margin_of(metric.name, floors.get(key[:2]))
        verdict, more = (
            judge(ratio, margin, fixed=margin_of(metric.name, None))
            if is_compared
            else (None, None)
        )
        if verdict is Verdict.TOO_FEW and set(new[key]) | set(old[key]) == {0}:
            verdict = Verdict.ONCE
        yield Cell(
            workload=workload.name,
            metric=metric,
            arm=arm,
            earlier=spread_of(old.get(key, {}).values()),
            later=spread_of(new.get(key, {}).values()),
            ratio=ratio,
            margin=margin,
            verdict=verdict,
            more_blocks=more,
            why_not=why if allowed else why or words("compare.forbidden"),
        )


Place = tuple[Workload, Metric, Arm]


def _places(earlier: Run, later: Run) -> list[Place]:
    """The cells of both plans: the later run's order, each metric's labels together."""
    found: dict[tuple[str, str, str], Place] = {}
    for run in (later, earlier):
        for workload in run.plan.workloads:
            for metric in workload.metrics:
                for arm in run.plan.backends:
                    key = (workload.name, metric.name, arm.label)
                    found.setdefault(key, (workload, metric, arm))
    places = list(found.values())
    metrics = list(dict.fromkeys((workload.name, metric.name) for workload, metric, _ in places))
    return sorted(places, key=lambda place: metrics.index((place[0].name, place[1].name)))


def _why_not(earlier: Run, later: Run, place: Place, words: Words) -> str | None:
    """Why this cell alone cannot be compared."""
    workload, metric, arm = place
    sides = [
        (
            run.plan.arm(arm.label),
            next((each for each in run.plan.workloads if each.name == workload.name), None),
        )
        for run in (earlier, later)
    ]
    for (found, where), name in zip(sides, ("earlier", "later"), strict=True):
        if found is None or where is None or metric.name not in {m.name for m in where.metrics}:
            return words(f"compare.only_not_{name}")
    (old_arm, old_work), (new_arm, new_work) = sides
    if old_arm is None or new_arm is None or old_work is None or new_work is None:
        return None  # told above; narrows the types
    if (old_arm.backend, old_arm.accelerator) != (new_arm.backend, new_arm.accelerator):
        ends = (old_arm.accelerator or old_arm.backend, new_arm.accelerator or new_arm.backend)
        return words("compare.accelerator", earlier=ends[0], later=ends[1])
    old_metric = next(each for each in old_work.metrics if each.name == metric.name)
    new_metric = next(each for each in new_work.metrics if each.name == metric.name)
    if old_work.argv != new_work.argv or _definition(old_metric) != _definition(new_metric):
        return words("compare.definition")
    if metric.name == PREPARATION and _is_cached(later, new_arm):
        return words("compare.cached")
    return None


def _is_cached(run: Run, arm: Arm) -> bool:
    """Whether *run* found the image prepared: what it tells was timed in an earlier run."""
    return any(cost.cached and cost.backend == arm.backend for cost in run.preparations)


def _definition(metric: Metric) -> tuple[str | None, ...]:
    return (metric.unit, metric.direction, metric.start, metric.stop, metric.method)


def _values(results: Results) -> dict[tuple[str, str, str], dict[int, float]]:
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for sample in counted(results.samples):
        if sample.value is not None:
            key = (sample.workload, sample.metric, sample.label)
            values.setdefault(key, {})[sample.block] = float(sample.value)
    return values


def _floors(summaries: Iterable[Summary]) -> dict[tuple[str, str], float]:
    """The larger noise floor of the two runs, by workload and metric."""
    floors: dict[tuple[str, str], float] = {}
    for summary in summaries:
        for each in summary.floors:
            if each.floor is not None:
                key = (each.workload, each.metric.name)
                floors[key] = max(each.floor, floors.get(key, 0.0))
    return floors
