import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import METRIC, SAMPLE, run_with

from benchmarks.errors import BenchmarkError
from benchmarks.results import (
    Metric,
    Results,
    Sample,
    Scalar,
    Status,
)
from benchmarks.stats import (
    Interval,
    Ratio,
    Verdict,
    judge,
    margin_of,
    ratio_of_medians,
    spread_of,
)
from benchmarks.summary import Row, Summary, counted, summarise


def sample(
    label: str,
    block: int,
    value: float | None,
    *,
    attempt: int = 1,
    status: Status = "ok",
    metric: Metric = METRIC,
    facts: Mapping[str, Scalar] | None = None,
) -> Sample:
    return replace(
        SAMPLE,
        label=label,
        backend=label.rstrip("'"),
        block=block,
        value=value,
        attempt=attempt,
        status=status,
        error=None if status == "ok" else "why",
        metric=metric.name,
        unit=metric.unit,
        facts=facts,
    )


def results_of(
    values: Mapping[str, Sequence[float]], *, metric: Metric = METRIC, blocks: int | None = None
) -> Results:
    rows = [
        sample(label, block, value, metric=metric)
        for label, series in values.items()
        for block, value in enumerate(series, start=1)
    ]
    planned = blocks or max(len(series) for series in values.values())
    return Results(run=run_with(list(values), metric, planned), samples=tuple(rows))


def row_of(summary: Summary, label: str) -> Row:
    return next(row for row in summary.rows if row.arm.label == label)


def lognormal(source: np.random.Generator, centre: float, sigma: float, n: int) -> list[float]:
    return [float(value) for value in centre * np.exp(source.normal(0, sigma, n))]


@given(st.lists(st.floats(0, 1e15), min_size=2, max_size=250))
def test_spread_is_what_the_standard_library_says(values: list[float]) -> None:
    spread = spread_of(values)
    assert spread is not None
    twentieths = statistics.quantiles(values, n=20, method="inclusive")
    assert spread.n == len(values)
    assert spread.median == pytest.approx(statistics.median(values))
    assert (spread.low, spread.high) == (min(values), max(values))
    if len(values) < 200:  # fewer than ten values are expected beyond p5
        assert (spread.p5, spread.p95) == (None, None)
        assert spread.tails == (min(values), max(values))
    else:
        assert spread.tails == pytest.approx((twentieths[0], twentieths[-1]))


def test_nothing_has_no_spread() -> None:
    assert spread_of([]) is None


def test_one_value_is_its_own_spread() -> None:
    spread = spread_of([3.0])
    assert spread is not None
    assert (spread.n, spread.median, spread.tails) == (1, 3, (3, 3))


def coverage(blocks: int, replicates: int) -> float:
    """How often the interval holds the true ratio of 3, block effects included."""
    source = np.random.default_rng(11)
    hits = 0
    for index in range(replicates):
        disturbance = np.exp(source.normal(0, 0.2, blocks))
        base = dict(enumerate(disturbance * np.exp(source.normal(0, 0.05, blocks))))
        arm = dict(enumerate(3 * disturbance * np.exp(source.normal(0, 0.05, blocks))))
        ratio = ratio_of_medians(arm, base, resamples=400, key=str(index))
        assert ratio is not None
        assert ratio.ci95 is not None
        hits += ratio.ci95.low <= 3 <= ratio.ci95.high
    return hits / replicates


@pytest.mark.parametrize("blocks", [6, 10, 20])
def test_the_interval_covers_about_as_often_as_it_says(blocks: int) -> None:
    assert 0.90 <= coverage(blocks, 300) <= 0.995


def test_blocks_are_resampled_in_pairs() -> None:
    # The arms differ by exactly 2 in every block and by much between blocks: only a paired
    # resampling sees no doubt at all.
    base = {block: 1.5**block for block in range(12)}
    arm = {block: 2 * value for block, value in base.items()}
    ratio = ratio_of_medians(arm, base, resamples=500, key="k")
    assert ratio is not None
    assert ratio.ci95 is not None
    assert (ratio.ci95.low, ratio.ci95.high) == pytest.approx((2, 2))


@given(
    st.lists(st.tuples(st.floats(1e-9, 1e15), st.integers(1, 3)), min_size=6, max_size=40),
    st.sampled_from([1, 7, 200]),
)
def test_an_interval_is_that_of_plain_medians_to_the_last_bit(
    pairs: list[tuple[float, int]], resamples: int
) -> None:
    top, bottom = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    ratio = ratio_of_medians(
        dict(enumerate(top)), dict(enumerate(bottom)), resamples=resamples, key="k"
    )
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(b"k").digest()))
    chosen = source.integers(0, len(pairs), size=(resamples, len(pairs)))
    draws = np.median(top[chosen], axis=1) / np.median(bottom[chosen], axis=1)
    assert ratio is not None
    assert ratio.ci95 is not None
    ends = (ratio.ci95.low, ratio.ci95.high)
    assert ends == tuple(np.quantile(draws, [(1 - 0.95) / 2, 1 - (1 - 0.95) / 2]).tolist())


def test_draws_of_more_values_than_are_drawn_at_a_time_go_on_where_they_were() -> None:
    source = np.random.default_rng(5)
    arm, base = (dict(enumerate(lognormal(source, 3, 0.5, 70_001))) for _ in range(2))
    ratio = ratio_of_medians(arm, base, resamples=3, key="k")
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(b"k").digest()))
    chosen = source.integers(0, 70_001, size=(3, 70_001))
    top, bottom = (np.array(list(side.values())) for side in (arm, base))
    draws = np.median(top[chosen], axis=1) / np.median(bottom[chosen], axis=1)
    assert ratio is not None
    assert ratio.ci90 is not None
    assert ratio.ci90.low == np.quantile(draws, (1 - 0.9) / 2)


def test_only_blocks_that_both_have_are_compared() -> None:
    base = dict.fromkeys(range(8), 1.0) | {99: 1e6}
    arm = dict.fromkeys(range(8), 2.0) | {77: 1e6}
    ratio = ratio_of_medians(arm, base, resamples=50, key="k")
    assert ratio is not None
    assert (ratio.estimate, ratio.blocks) == (2.0, 8)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    source = np.random.default_rng(1)
    values = {"host": lognormal(source, 1, 0.3, 12), "vm": lognormal(source, 9, 0.3, 12)}
    results = results_of(values)
    assert summarise(results, seed=1) == summarise(results, seed=1)
    first = row_of(summarise(results, seed=1, resamples=500), "vm").comparison
    other = row_of(summarise(results, seed=2, resamples=500), "vm").comparison
    assert first is not None
    assert other is not None
    assert first.ratio != other.ratio


def test_a_further_label_changes_no_other_number() -> None:
    source = np.random.default_rng(2)
    values = {"host": lognormal(source, 1, 0.3, 9), "vm": lognormal(source, 9, 0.3, 9)}
    alone = row_of(summarise(results_of(values), seed=1), "vm")
    values["runc"] = lognormal(source, 3, 0.3, 9)
    assert row_of(summarise(results_of(values), seed=1), "vm") == alone


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_few_blocks_give_a_ratio_but_no_interval(blocks: int) -> None:
    summary = summarise(results_of({"host": [1.0] * blocks, "vm": [4.0] * blocks}), seed=1)
    comparison = row_of(summary, "vm").comparison
    assert comparison is not None
    assert comparison.verdict is Verdict.TOO_FEW
    assert comparison.ratio == Ratio(estimate=4, blocks=blocks, ci95=None, ci90=None)


def test_a_zero_has_no_ratio_but_a_difference() -> None:
    metric = replace(METRIC, name="disk.instance", unit="bytes")
    values: dict[str, list[float]] = {"host": [0] * 8, "vm": [4096] * 8}
    comparison = row_of(summarise(results_of(values, metric=metric), seed=1), "vm").comparison
    assert comparison is not None
    assert comparison.verdict is Verdict.UNDEFINED
    assert comparison.ratio is None
    assert comparison.difference == 4096


def test_absurd_magnitudes_have_no_ratio_and_no_warning() -> None:
    values = {"host": [5e-324] * 8, "vm": [9e18] * 8}
    comparison = row_of(summarise(results_of(values), seed=1), "vm").comparison
    assert comparison is not None
    assert comparison.verdict is Verdict.UNDEFINED


def test_constant_samples_are_told_as_such() -> None:
    summary = summarise(results_of({"host": [5.0] * 7, "vm": [5.0] * 7}), seed=1)
    row = row_of(summary, "vm")
    assert row.spread is not None
    assert row.spread.constant
    assert row.comparison is not None
    assert row.comparison.verdict is Verdict.EQUIVALENT


def ratio_with(low: float, high: float, *, low90: float, high90: float) -> Ratio:
    return Ratio(
        estimate=math.sqrt(low * high),
        blocks=10,
        ci95=Interval(low=low, high=high),
        ci90=Interval(low=low90, high=high90),
    )


@pytest.mark.parametrize(
    ("low", "high", "low90", "high90", "verdict"),
    [
        (1.2, 1.4, 1.22, 1.38, Verdict.HIGHER),
        (0.5, 0.7, 0.52, 0.68, Verdict.LOWER),
        (0.95, 1.05, 0.96, 1.04, Verdict.EQUIVALENT),
        (0.89, 1.12, 0.92, 1.09, Verdict.EQUIVALENT),
        (1.05, 1.30, 1.06, 1.28, Verdict.INCONCLUSIVE),
        (0.80, 1.25, 0.82, 1.22, Verdict.INCONCLUSIVE),
        (1.09, 1.30, 1.11, 1.28, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts_follow_the_margin(
    low: float, high: float, low90: float, high90: float, verdict: Verdict
) -> None:
    assert judge(ratio_with(low, high, low90=low90, high90=high90), 0.10)[0] is verdict


def test_the_blocks_proposed_shrink_the_interval_off_the_margin() -> None:
    ratio = ratio_with(0.80, 1.25, low90=0.82, high90=1 / 0.82)
    more = judge(ratio, 0.10)[1]
    assert more is not None
    half_width = -math.log(0.82) * math.sqrt(10 / (10 + more))
    assert half_width <= math.log(1.1)
    assert half_width > 0.93 * math.log(1.1)


def test_between_the_margins_no_block_helps() -> None:
    ends = Interval(low=1.5, high=2.5)
    ratio = Ratio(estimate=2.0, blocks=10, ci95=ends, ci90=ends)
    assert judge(ratio, 3.0, fixed=0.1) == (Verdict.INCONCLUSIVE, None)
    verdict, more = judge(ratio, 0.9, fixed=0.1)
    assert verdict is Verdict.INCONCLUSIVE
    assert more is not None


def test_an_estimate_on_the_margin_proposes_nothing() -> None:
    edge = ratio_with(1.1 / 1.2, 1.1 * 1.2, low90=1.1 / 1.15, high90=1.1 * 1.15)
    assert judge(edge, 0.10) == (Verdict.INCONCLUSIVE, None)


@pytest.mark.parametrize(
    ("metric", "margin"),
    [
        ("boot.exit", 0.10),
        ("prepare", 0.10),
        ("memory.pss", 0.02),
        ("cpu.sha256", 0.02),
        ("disk.image", 0.05),
        ("network.rr", 0.05),
    ],
)
def test_margins_by_family_and_never_below_twice_the_floor(metric: str, margin: float) -> None:
    assert margin_of(metric, None) == margin
    assert margin_of(metric, 0.001) == margin
    assert margin_of(metric, 0.2) == pytest.approx(1.2**2 - 1)


def test_the_noise_floor_is_what_the_control_reaches() -> None:
    source = np.random.default_rng(3)
    values = {
        "host": lognormal(source, 1, 0.1, 12),
        "host'": lognormal(source, 1, 0.1, 12),
        "vm": lognormal(source, 1.12, 0.001, 12),
    }
    summary = summarise(results_of(values), seed=1)
    (floor,) = summary.floors
    assert (floor.control, floor.twin) == ("host'", "host")
    assert floor.ratio is not None
    assert floor.ratio.ci95 is not None
    assert floor.floor is not None
    ends = (1 / floor.ratio.ci95.low, floor.ratio.ci95.high)
    assert floor.floor == pytest.approx(max(ends) - 1)
    comparison = row_of(summary, "vm").comparison
    assert comparison is not None
    assert comparison.margin == pytest.approx(max(0.1, (1 + floor.floor) ** 2 - 1))
    control = row_of(summary, "host'").comparison
    assert control is not None
    assert control.margin == 0.10


def test_the_floor_is_unknown_without_control_or_blocks() -> None:
    assert summarise(results_of({"host": [1.0] * 9, "vm": [2.0] * 9}), seed=1).floors == ()
    (floor,) = summarise(results_of({"host": [1.0] * 3, "host'": [1.0] * 3}), seed=1).floors
    assert floor.floor is None


def test_the_last_attempt_counts_and_all_attempts_are_counted() -> None:
    rows = (
        sample("host", 1, 10),
        sample("host", 2, None, status="timeout"),
        sample("host", 2, 30, attempt=2),
        sample("host", 3, 99),
        sample("host", 3, None, attempt=2, status="failed"),
        sample("host", 4, None, status="skipped"),
        replace(sample("host", 5, 1000), warmup=True),
    )
    results = Results(run=run_with(["host"], blocks=5), samples=rows)
    row = row_of(summarise(results, seed=1), "host")
    assert row.spread is not None
    assert (row.spread.n, row.spread.median) == (2, 20)
    assert (row.counts.failed, row.counts.timeout, row.counts.skipped) == (1, 1, 1)
    assert (row.counts.retries, row.counts.missing_blocks) == (2, 1)
    assert [each.attempt for each in counted(rows)] == [1, 2, 2, 1]


def test_a_label_without_values_is_a_gap() -> None:
    rows = (sample("host", 1, 10), sample("vm", 1, None, status="failed"))
    results = Results(run=run_with(["host", "vm"], blocks=1), samples=rows)
    row = row_of(summarise(results, seed=1), "vm")
    assert row.spread is None
    assert row.comparison is None
    assert row.counts.missing_blocks == 0


def test_block_zero_is_measured_once_and_misses_nothing() -> None:
    rows = (sample("host", 0, 10), sample("vm", 0, 30))
    run = run_with(["host", "host'", "vm"], blocks=10)
    summary = summarise(Results(run=run, samples=rows), seed=1)
    assert [row.arm.label for row in summary.rows] == ["host", "vm"]
    assert summary.floors == ()
    row = row_of(summary, "vm")
    assert row.counts.missing_blocks == 0
    assert row.comparison is not None
    assert row.comparison.verdict is Verdict.ONCE
    assert row.comparison.ratio == Ratio(estimate=3, blocks=1, ci95=None, ci90=None)


def test_unequal_facts_are_listed_with_their_values_and_expected_ones_are_not() -> None:
    rows = (
        sample("host", 1, 1, facts={"cpus": 2, "rootfs_fingerprint": "a", "boot_id": "x"}),
        sample("vm", 1, 1, facts={"cpus": 1, "rootfs_fingerprint": "a", "boot_id": "y"}),
        sample("vm", 2, 1, facts={"cpus": 1, "rootfs_fingerprint": "a", "boot_id": "z"}),
    )
    summary = summarise(Results(run=run_with(["host", "vm"]), samples=rows), seed=1)
    (unequal,) = summary.inequalities
    assert unequal.fact == "cpus"
    assert [(each.label, each.values) for each in unequal.values] == [("host", (2,)), ("vm", (1,))]
    boots = [each.values for each in summary.identities if each.fact == "boot_id"]
    assert boots == [("x",), ("y", "z")]


def test_phases_are_summed_up_over_instances_that_gave_a_value() -> None:
    rows = tuple(
        replace(sample("host", block, 1), phases={"request": 0, "exec": at, "exec.detail": 1})
        for block, at in enumerate((10, 20, 60), start=1)
    )
    failed = replace(sample("host", 4, None, status="failed"), phases={"exec": 999})
    summary = summarise(Results(run=run_with(["host"]), samples=(*rows, failed)), seed=1)
    assert [(each.phase, each.spread.median, each.spread.n) for each in summary.phases] == [
        ("request", 0, 3),
        ("exec", 20, 3),
    ]


@pytest.mark.parametrize(
    ("labels", "wanted", "baseline"),
    [(["host", "vm"], None, "host"), (["vm", "runc"], None, "vm"), (["vm", "host"], "vm", "vm")],
)
def test_the_baseline(labels: list[str], wanted: str | None, baseline: str) -> None:
    results = results_of({label: [1.0] for label in labels})
    assert summarise(results, baseline=wanted, seed=1).baseline == baseline


def test_an_unknown_baseline_names_the_choices() -> None:
    with pytest.raises(BenchmarkError, match=r"no label 'moon'.*host, vm"):
        summarise(results_of({"host": [1.0], "vm": [1.0]}), baseline="moon", seed=1)


def test_a_plan_of_nothing_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="compares nothing"):
        summarise(Results(run=run_with([]), samples=()), seed=1)


def test_a_noisy_machine_makes_nothing_equivalent() -> None:
    near = Interval(low=0.7, high=1.5)
    ratio = Ratio(estimate=1.0, blocks=10, ci95=near, ci90=near)
    assert judge(ratio, 0.6, fixed=0.02)[0] is Verdict.INCONCLUSIVE
    assert judge(ratio, 0.6, fixed=0.6)[0] is Verdict.EQUIVALENT
