import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from unit.reports.synthetic import ARMS, make_run, make_samples

from benchmarks.results import Results, Sample
from benchmarks.stats import Spread
from benchmarks.summary import PhaseSpread, Summary, counted, summarise
from reports import waterfall
from reports.waterfall import Waterfall, waterfalls

HOST = ARMS[0]


def at(phase: str, median: float, *, label: str = "host") -> PhaseSpread:
    spread = Spread(n=200, median=median, p5=median * 0.5, p95=median * 2, low=0, high=median * 3)
    return PhaseSpread(workload="boot", label=label, phase=phase, spread=spread)


def one(phases: Mapping[str, float], samples: tuple[Sample, ...] = ()) -> Waterfall:
    reached = [at(phase, median) for phase, median in phases.items()]
    (found,) = waterfalls(reached, samples, [HOST], "boot")
    return found


@pytest.fixture(scope="module")
def found() -> tuple[Results, Summary]:
    run = make_run()
    results = Results(run=run, samples=tuple(make_samples(run)), torn=None)
    return results, summarise(results, resamples=50, seed=1)


def test_bars_stand_in_the_order_of_time_each_where_the_one_before_ends() -> None:
    # A container's process exists before its root does: prepared comes after engine.
    fall = one({"request": 0, "prepared": 3e6, "engine": 1e6, "output": 4e6})
    assert [step.phase for step in fall.steps] == ["request", "engine", "prepared", "output"]
    assert [step.took for step in fall.steps] == ["", "+1.00 ms", "+2.00 ms", "+1.00 ms"]
    assert [step.at for step in fall.steps] == ["0", "1.00 ms", "3.00 ms", "4.00 ms"]
    # The axis ends at the largest p95, 8 ms.
    assert [(step.left, step.width) for step in fall.steps[1:]] == [
        (0, 12.5), (12.5, 25), (37.5, 12.5)
    ]  # fmt: skip
    assert (fall.steps[3].low, fall.steps[3].high) == (25, 100)


def test_what_was_not_seen_starting_has_no_waterfall() -> None:
    assert waterfalls([], [], ARMS, "boot") == ()
    assert waterfalls([at("request", 0)], [], ARMS, "boot") == ()
    assert waterfalls([at("request", 0), at("exit", 5)], [], ARMS, "other") == ()


def test_single_runs_are_those_of_the_samples_and_of_the_attempt_that_counts(
    found: tuple[Results, Summary],
) -> None:
    results, summary = found
    falls = waterfalls(summary.phases, counted(results.samples), ARMS, "boot")
    assert [fall.subject for fall in falls] == ["host", "host'", "container", "vm[tcg]"]
    seen = {
        (sample.label, sample.block): sample.phases
        for sample in results.samples
        if sample.phases and sample.status == "ok"
    }
    for arm, fall in zip(ARMS, falls, strict=True):
        names = [step.phase for step in fall.steps]
        for block, times in json.loads(fall.runs_json).items():
            phases = seen[arm.label, int(block)]
            assert phases is not None
            assert dict(zip(names, times, strict=True)) == dict(phases)
    container = falls[2]
    assert set(container.runs) == set(range(1, 11)) - {7}  # it failed there


def test_a_phase_that_one_run_did_not_show_is_none_and_runs_are_limited(
    found: tuple[Results, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    results, summary = found
    blind = [
        replace(sample, phases={k: v for k, v in sample.phases.items() if k != "init"})
        if sample.phases and sample.block == 2
        else sample
        for sample in counted(results.samples)
    ]
    monkeypatch.setattr(waterfall, "MOST_RUNS", 3)
    container = waterfalls(summary.phases, blind, ARMS, "boot")[2]
    init = [step.phase for step in container.steps].index("init")
    assert [times[init] is None for times in container.runs.values()] == [False, True, False]
