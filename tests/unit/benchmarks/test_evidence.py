import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import SAMPLE, run_with

from benchmarks.evidence import (
    FALSE_DISCOVERIES,
    block_permutation_p,
    blocks_for,
    cliffs_delta,
    false_discovery_rates,
)
from benchmarks.results import Results, Sample, Status
from benchmarks.stats import Verdict
from benchmarks.summary import Row, summarise

POSITIVE = st.lists(st.integers(1, 50), min_size=1, max_size=9)


@given(POSITIVE, st.data())
def test_the_p_is_the_share_of_all_swaps(top: list[int], data: st.DataObject) -> None:
    bottom = data.draw(st.lists(st.integers(1, 50), min_size=len(top), max_size=len(top)))
    differences = [math.log(a) - math.log(b) for a, b in zip(top, bottom, strict=True)]
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(top))
    ]
    expected = sum(each >= abs(sum(differences)) - 1e-9 for each in sums) / len(sums)
    assert block_permutation_p(
        np.array(top, float), np.array(bottom, float), key="k"
    ) == pytest.approx(expected)


def test_twice_as_much_in_each_of_ten_blocks_is_as_rare_as_can_be() -> None:
    base = np.linspace(1, 2, 10)
    assert block_permutation_p(2 * base, base, key="k") == 2 / 2**10


def test_many_blocks_are_drawn_the_same_way_each_time_and_what_was_seen_counts() -> None:
    base = np.linspace(1, 2, 40)
    found = {block_permutation_p(3 * base, base, key="k") for _ in range(3)}
    assert found == {1 / 4096}


def test_the_same_values_are_no_evidence() -> None:
    base = np.linspace(1, 2, 20)
    assert block_permutation_p(base, base, key="k") == 1


@given(POSITIVE, POSITIVE)
def test_the_delta_counts_pairs(top: list[int], bottom: list[int]) -> None:
    pairs = [(a > b) - (a < b) for a in top for b in bottom]
    delta = cliffs_delta(np.array(top, float), np.array(bottom, float))
    assert delta == pytest.approx(sum(pairs) / len(pairs))


def test_rates_are_those_of_the_paper() -> None:
    # Benjamini & Hochberg 1995, section 3.2: at 5 % the first four of fifteen are discoveries.
    ps = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
          0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    rates = false_discovery_rates(dict(enumerate(ps)))
    assert [each for each in rates if rates[each] <= 0.05] == [0, 1, 2, 3]
    assert rates[0] == pytest.approx(0.0015)


@given(st.dictionaries(st.integers(), st.floats(1e-9, 1), max_size=30))
def test_a_rate_is_never_below_its_p_and_keeps_the_order(ps: dict[int, float]) -> None:
    rates = false_discovery_rates(ps)
    assert list(rates) == list(ps)
    assert all(ps[each] <= rates[each] <= 1 for each in ps)
    ranked = sorted(ps, key=lambda each: ps[each])
    assert [rates[each] for each in ranked] == sorted(rates.values())


def test_each_further_block_halves_the_least_p() -> None:
    assert [blocks_for(q) for q in (0.051, 0.1, 0.11, 0.39)] == [1, 1, 2, 3]


def results_of(values: Mapping[str, Sequence[float | None]]) -> Results:
    """Rows of each label, block by block; a None is an instance that hung."""
    blocks = max(len(series) for series in values.values())
    return Results(
        run=run_with(list(values), blocks=blocks),
        samples=tuple(
            _sample(label, block, value)
            for label, series in values.items()
            for block, value in enumerate(series, start=1)
        ),
    )


def _sample(label: str, block: int, value: float | None) -> Sample:
    status: Status = "ok" if value is not None else "timeout"
    error = None if value is not None else "no end"
    return replace(
        SAMPLE, label=label, backend=label.rstrip("'"), block=block, value=value, status=status,
        error=error,
    )  # fmt: skip


def compared(values: Mapping[str, Sequence[float | None]], label: str) -> Row:
    summary = summarise(results_of(values), resamples=400, seed=1)
    row = next(row for row in summary.rows if row.arm.label == label)
    assert row.comparison is not None
    return row


STEADY = [100.0, 101, 99, 100, 102, 98, 100, 101, 99, 100]


def test_one_of_many_comparisons_must_survive_them_all() -> None:
    six = STEADY[:6]
    alone = compared({"host": six, "vm": [2 * each for each in six]}, "vm").comparison
    assert alone is not None
    assert alone.evidence is not None
    assert alone.verdict is Verdict.HIGHER
    assert alone.evidence.q == alone.evidence.p == 2 / 2**6
    others = {f"other{i}": six[i:] + six[:i] for i in range(5)}
    among = compared({"host": six, "vm": [2 * each for each in six], **others}, "vm").comparison
    assert among is not None
    assert among.evidence is not None
    assert among.evidence.p == alone.evidence.p
    assert among.evidence.q > FALSE_DISCOVERIES
    assert (among.verdict, among.more_blocks) == (Verdict.INCONCLUSIVE, 2)


def test_a_control_claims_nothing_and_is_not_among_the_comparisons() -> None:
    values = {"host": STEADY, "host'": STEADY[::-1], "vm": [3 * each for each in STEADY]}
    control, machine = compared(values, "host'").comparison, compared(values, "vm").comparison
    assert control is not None
    assert machine is not None
    assert machine.evidence is not None
    assert control.evidence is None
    assert machine.evidence.q == machine.evidence.p
    assert machine.evidence.delta == 1


@pytest.mark.parametrize(
    ("factor", "hung", "verdict"),
    [
        (3.0, 1, Verdict.HIGHER),  # whatever the lost one was, it is still slower
        (0.3, 1, Verdict.LOWER),
        (1.0, 1, Verdict.EQUIVALENT),
    ],
)
def test_a_lost_block_is_told_and_cannot_have_turned_the_verdict(
    factor: float, hung: int, verdict: Verdict
) -> None:
    series: list[float | None] = [factor * each for each in STEADY]
    series[:hung] = [None] * hung
    comparison = compared({"host": STEADY, "vm": series}, "vm").comparison
    assert comparison is not None
    assert (comparison.verdict, comparison.lost) == (verdict, hung)


def test_lost_blocks_that_could_turn_a_verdict_leave_it_open() -> None:
    # Faster where it answered; had those that hung been as slow as its slowest, it is not.
    series: list[float | None] = [50.0] * 11 + [150.0] + [None] * 8
    comparison = compared({"host": STEADY * 2, "vm": series}, "vm").comparison
    without = compared({"host": STEADY * 2, "vm": series[:12]}, "vm").comparison
    assert without is not None
    assert without.verdict is Verdict.LOWER
    assert comparison is not None
    assert (comparison.verdict, comparison.lost) == (Verdict.INCONCLUSIVE, 8)
    assert comparison.more_blocks is None


def test_what_a_backend_cannot_say_is_no_lost_block() -> None:
    results = results_of({"host": STEADY, "vm": [3 * each for each in STEADY]})
    rows = tuple(
        replace(each, value=None, status="skipped", error="no meaning")
        if (each.label, each.block) == ("vm", 1)
        else each
        for each in results.samples
    )
    summary = summarise(replace(results, samples=rows), resamples=400, seed=1)
    comparison = summary.rows[1].comparison
    assert comparison is not None
    assert comparison.lost == 0
