from dataclasses import replace

import pytest
from unit.reports.synthetic import make_run

from benchmarks.comparisons import Comparison
from benchmarks.results import Arm, Direction, Metric
from benchmarks.stats import Interval, Ratio, Spread, Verdict
from benchmarks.summary import Counts, Row, Summary
from reports.style import effect
from reports.verdicts import accelerator_notes, reading_order, statements, verdict_word
from reports.words import Words

HOST = Arm(label="host", backend="host", accelerator=None, note=None)
VM = Arm(label="vm", backend="vm", accelerator="tcg", note=None)
METRIC = Metric(
    name="boot.first_output",
    unit="ns",
    direction="lower",
    start="request",
    stop="output",
    method="m",
    title="Time to first output",
)
SPREAD = Spread(n=10, median=1, p5=1, p95=1, low=1, high=1)
COUNTS = Counts(failed=0, timeout=0, skipped=0, retries=0, missing_blocks=0)


def compared(
    verdict: Verdict,
    ends: tuple[float, float] | None,
    *,
    estimate: float = 812.0,
    blocks: int = 10,
    more_blocks: int | None = None,
) -> Comparison:
    interval = Interval(low=ends[0], high=ends[1]) if ends else None
    return Comparison(
        baseline="host",
        ratio=Ratio(estimate=estimate, blocks=blocks, ci95=interval, ci90=interval),
        difference=5e6,
        margin=0.1,
        verdict=verdict,
        more_blocks=more_blocks,
    )


def sentence(
    comparison: Comparison | None, metric: Metric = METRIC, counts: Counts = COUNTS
) -> str:
    host = Row(
        workload="w", metric=metric, arm=HOST, spread=SPREAD, counts=COUNTS, comparison=None
    )
    spread = SPREAD if comparison else None
    row = replace(host, arm=VM, spread=spread, counts=counts, comparison=comparison)
    summary = Summary(
        baseline="host",
        resamples=1,
        seed=1,
        rows=(host, row),
        floors=(),
        phases=(),
        identities=(),
        inequalities=(),
    )
    (statement,) = statements(summary)
    return statement.text.replace("\N{EN DASH}", "~")


def named(name: str, unit: str, title: str = "T") -> Metric:
    return replace(METRIC, name=name, unit=unit, title=title)


def test_slower() -> None:
    assert sentence(compared(Verdict.HIGHER, (790, 840))) == (
        "vm[tcg] reaches its first output 812x later than host (95 % CI 790~840; 10 blocks)."
    )


def test_faster_turns_ratio_and_interval_round_together() -> None:
    assert sentence(compared(Verdict.LOWER, (0.2, 0.5), estimate=0.25)) == (
        "vm[tcg] reaches its first output 4.00x earlier than host (95 % CI 2.00~5.00; 10 blocks)."
    )


def test_an_amount_keeps_its_ratio() -> None:
    smaller = compared(Verdict.LOWER, (0.2, 0.5), estimate=0.25)
    assert sentence(smaller, named("memory.pss", "bytes")) == (
        "vm[tcg] takes 0.250x the memory (PSS) of host (95 % CI 0.200~0.500; 10 blocks)."
    )
    assert sentence(
        compared(Verdict.HIGHER, (3, 5), estimate=4), named("disk.image", "bytes")
    ) == (
        "vm[tcg] takes 4.00x the disk space of host for its first instance "
        "(95 % CI 3.00~5.00; 10 blocks)."
    )


def test_metrics_nobody_foresaw_have_sentences() -> None:
    higher = compared(Verdict.HIGHER, (3, 5), estimate=4)
    assert sentence(higher, named("x.time", "ns")).startswith("vm[tcg] does “T” 4.00x slower than")
    assert sentence(higher, named("x.rate", "ops/s")).startswith("T: vm[tcg] gives 4.00x that of")


def test_equivalent_names_the_margin_and_never_says_no_difference() -> None:
    assert sentence(compared(Verdict.EQUIVALENT, (0.97, 1.02), estimate=1)) == (
        "Time to first output: vm[tcg] and host are equivalent within ±10 % "
        "(90 % CI 0.970~1.02; 10 blocks)."
    )


@pytest.mark.parametrize(
    ("more", "ending"),
    [
        (40, "; about 40 more blocks could settle it)."),
        (1, "; about one more block could settle it)."),
        (None, " blocks)."),
    ],
)
def test_inconclusive_says_what_would_settle_it(more: int | None, ending: str) -> None:
    unsure = compared(Verdict.INCONCLUSIVE, (0.93, 1.11), estimate=1.02, more_blocks=more)
    assert sentence(unsure).startswith(
        "Time to first output: inconclusive, vm[tcg] is at 1.02x of host (95 % CI 0.930~1.11; 10"
    )
    assert sentence(unsure).endswith(ending)


def test_too_few() -> None:
    assert sentence(compared(Verdict.TOO_FEW, None, estimate=4, blocks=1)) == (
        "Time to first output: n too small. vm[tcg] is at 4.00x of host over 1 block; "
        "an interval needs 6."
    )


def test_no_ratio() -> None:
    zero = replace(compared(Verdict.UNDEFINED, None), ratio=None)
    assert sentence(zero) == (
        "Time to first output: the median of vm[tcg] is 5.00 ms above that of host; "
        "no ratio is taken where a value is zero."
    )
    assert "have the same median" in sentence(replace(zero, difference=0))


def test_a_gap_says_why() -> None:
    counts = replace(COUNTS, failed=2, timeout=1)
    assert sentence(None, counts=counts) == (
        "Time to first output: nothing to compare, vm[tcg] gave no value (2 failed, 1 timed out)."
    )


@pytest.mark.parametrize(
    ("unit", "words"),
    [("ns", "slower faster"), ("bytes", "larger smaller"), ("x", "higher lower")],
)
def test_words(unit: str, words: str) -> None:
    metric = replace(METRIC, unit=unit)
    told = [verdict_word(metric, verdict, 0.1) for verdict in (Verdict.HIGHER, Verdict.LOWER)]
    assert " ".join(told) == words
    assert verdict_word(metric, Verdict.TOO_FEW, 0.1) == "n too small"
    assert verdict_word(metric, Verdict.EQUIVALENT, 0.1) == "within ±10 %"


def test_once() -> None:
    assert sentence(compared(Verdict.ONCE, None, estimate=4, blocks=1)) == (
        "Time to first output: vm[tcg] is at 4.00x of host; "
        "measured once, so there is no interval."
    )


def test_korean_says_the_same_numbers() -> None:
    host = Row(
        workload="w", metric=METRIC, arm=HOST, spread=SPREAD, counts=COUNTS, comparison=None
    )
    row = replace(host, arm=VM, comparison=compared(Verdict.HIGHER, (790, 840)))
    summary = Summary(
        baseline="host",
        resamples=1,
        seed=1,
        rows=(host, row),
        floors=(),
        phases=(),
        identities=(),
        inequalities=(),
    )
    (said,) = statements(summary, Words(language="ko"))
    assert said.text == (
        "vm[tcg]: 첫 출력까지 host 대비 812배 늦음 (95 % 신뢰구간 790\N{EN DASH}840; 10블록)."
    )
    assert (said.amount, said.effect) == ("812배", "worse")


@pytest.mark.parametrize(
    ("direction", "verdict", "expected"),
    [
        ("lower", Verdict.HIGHER, "worse"),
        ("lower", Verdict.LOWER, "better"),
        ("higher", Verdict.HIGHER, "better"),
        ("higher", Verdict.LOWER, "worse"),
        ("lower", Verdict.EQUIVALENT, "same"),
        ("lower", Verdict.INCONCLUSIVE, "unsure"),
        ("lower", Verdict.ONCE, "none"),
    ],
)
def test_a_verdict_speaks_for_someone(
    direction: Direction, verdict: Verdict, expected: str
) -> None:
    assert effect(replace(METRIC, direction=direction), verdict) == expected


def test_an_emulated_processor_is_told_once_for_all_that_share_a_reason() -> None:
    twin = Arm(label="vm'", backend="vm", accelerator="tcg", note=None)
    qemu = Arm(label="qemu", backend="qemu", accelerator="tcg", note=None)
    run = make_run()
    alone = replace(run, plan=replace(run.plan, backends=(HOST, VM)))
    (note,) = accelerator_notes(alone)
    assert note.startswith("vm[tcg] emulates the guest's processor")
    assert note.endswith(" KVM ran a guest too slowly.")
    three = replace(run, plan=replace(run.plan, backends=(HOST, VM, twin, qemu)))
    pair, other = accelerator_notes(three)
    assert pair.startswith("vm[tcg], vm'[tcg] emulate their guests' processors")
    assert other.startswith("qemu[tcg] emulates")


def test_what_was_measured_once_is_read_last() -> None:
    once = compared(Verdict.ONCE, None, blocks=1)
    told = (("prepare", once), ("boot.exit", compared(Verdict.HIGHER, (2, 3))))
    rows = [
        Row(
            workload="w", metric=named(name, "ns"), arm=VM, spread=SPREAD, counts=COUNTS,
            comparison=comparison,
        )
        for name, comparison in told
    ]  # fmt: skip
    assert [each.metric.name for each in reading_order(rows)] == ["boot.exit", "prepare"]


def test_a_difference_that_noise_hides_is_said_to_be_hidden() -> None:
    hidden = replace(compared(Verdict.INCONCLUSIVE, (1.5, 2.5), estimate=2), margin=3.0)
    assert sentence(hidden).endswith("; this machine's noise hides a difference of that size).")
    assert sentence(replace(hidden, margin=0.9)).endswith("10 blocks).")
