from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.results import Protocol, Results, Run, Sample
from benchmarks.summary import summarise
from reports import summary_of
from reports.circumstances import provenance_table
from reports.doubts import warnings
from reports.validity import Check, State, checks

WriteRun = Callable[..., Path]
AT_REST = {"swapped_pages": 7, "throttled": 0, "virtual_machines": 0}
QUIET: dict[str, Any] = {
    "cpus": 2, "hypervisor": False, "governor": "performance", "smt": "off", "swap_bytes": 0,
    "transparent_hugepages": "madvise", "ksm": "0", "clocksource": "tsc",
    "before": {"load_averages": [0.1, 0, 0], "stolen_ticks": 100, **AT_REST},
    "during": [{"block": 1, **AT_REST}, {"block": 2, **AT_REST}],
    "after": {"load_averages": [0.9, 0, 0], "stolen_ticks": 110, **AT_REST},
    "turbo": False, "instrument": {"harness_cpu_ns": 1, "instances_alive_ns": 1000},
}  # fmt: skip
MACHINE = (
    "hypervisor", "load", "steal", "governor", "turbo", "thermal", "smt", "swap", "swapping",
    "neighbours", "thp", "ksm", "clocksource", "instrument",
)  # fmt: skip


@pytest.fixture
def results(write_synthetic: WriteRun) -> Results:
    return summary_of(write_synthetic(environment=QUIET))[0]


def answered(results: Results) -> dict[str, Check]:
    summary = summarise(results, resamples=200, seed=1)
    return {check.name: check for check in checks(results, summary)}


def with_run(results: Results, **changes: Any) -> Results:
    return replace(results, run=replace(results.run, **changes))


def with_environment(results: Results, **changes: Any) -> Results:
    return with_run(results, environment={**results.run.environment, **changes})


def test_a_quiet_machine_passes(results: Results) -> None:
    found = answered(results)
    assert {found[name].state for name in MACHINE} == {State.PASS}
    assert "0.0160 %" in found["steal"].seen  # 10 ticks of 2 processors in 312 s
    assert all(check.effect and check.title for check in found.values())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("hypervisor", {"hypervisor": True}),
        ("load", {"before": {**QUIET["before"], "load_averages": [0.41, 0, 0]}}),
        ("steal", {"after": {**QUIET["after"], "stolen_ticks": 100 + 313}}),
        ("governor", {"governor": "powersave"}),
        ("smt", {"smt": "on"}),
        ("swap", {"swap_bytes": 1 << 30}),
        ("thp", {"transparent_hugepages": "always"}),
        ("ksm", {"ksm": "1"}),
        ("clocksource", {"clocksource": "hpet"}),
        ("turbo", {"turbo": True}),
        ("thermal", {"after": {**QUIET["after"], "throttled": 3}}),
        ("swapping", {"after": {**QUIET["after"], "swapped_pages": 9}}),
        ("neighbours", {"before": {**QUIET["before"], "virtual_machines": 2}}),
        ("instrument", {"instrument": {"harness_cpu_ns": 60, "instances_alive_ns": 1000}}),
    ],
)
def test_each_disturbance_is_seen_alone(
    results: Results, name: str, changes: dict[str, Any]
) -> None:
    quiet, noisy = answered(results), answered(with_environment(results, **changes))
    assert noisy[name].state is State.WARN
    others = {each for each in quiet if each != name}
    assert {quiet[each] for each in others if each != "load"} <= set(noisy.values())


def test_what_the_machine_does_not_show_is_not_passed(results: Results) -> None:
    found = answered(with_run(results, environment={}))
    assert {found[name].state for name in MACHINE} == {State.UNKNOWN}


def test_the_blocks_in_which_something_grew_are_named(results: Results) -> None:
    during = [{"block": n, "throttled": count} for n, count in ((1, 0), (2, 4), (3, 4), (4, 5))]
    after = {**QUIET["after"], "throttled": 5}
    found = answered(with_environment(results, during=during, after=after))
    assert found["thermal"].seen == "5 times during the run (block 2, 4)"


def test_the_design_is_judged(results: Results) -> None:
    found = answered(results)
    assert found["blocks"].state is State.PASS
    assert found["order"].state is State.PASS
    assert found["accelerator"].state is State.WARN
    assert found["equal"].state is State.WARN
    assert "memory_total_bytes" in found["equal"].seen
    assert found["complete"].state is State.WARN  # one timeout, one failure
    few = with_run(results, plan=replace(results.run.plan, blocks=5, order="fixed"))
    assert answered(few)["blocks"].state is State.FAIL
    assert answered(few)["order"].state is State.FAIL
    assert answered(with_run(results, outcome="interrupted"))["complete"].state is State.FAIL
    assert answered(replace(results, torn="line 9"))["complete"].state is State.FAIL


def test_another_root_file_system_is_a_failure(results: Results) -> None:
    def other(sample: Sample) -> Sample:
        if sample.label != "vm" or sample.facts is None:
            return sample
        return replace(sample, facts={**sample.facts, "rootfs_fingerprint": "sha256:00"})

    changed = replace(results, samples=tuple(other(sample) for sample in results.samples))
    assert answered(changed)["equal"].state is State.FAIL


def _as_its_twin(results: Results) -> Iterator[Sample]:
    """The samples with the control's values those of host: no noise at all."""
    values = {
        (each.block, each.workload, each.metric): each.value
        for each in results.samples
        if each.label == "host"
    }
    for sample in results.samples:
        value = values[sample.block, sample.workload, sample.metric]
        yield replace(sample, value=value) if sample.label == "host'" else sample


def test_noise_beyond_the_margins_is_told(results: Results) -> None:
    seen = answered(results)["aa"]
    assert seen.state is State.WARN
    assert "Too noisy for the margins fixed before measuring: boot." in seen.seen


def test_a_control_that_differs_is_told(results: Results) -> None:
    def heavier(sample: Sample) -> Sample:
        if sample.label != "host'" or sample.value is None or sample.metric != "cpu.sha256":
            return sample
        return replace(sample, value=sample.value * 2)

    quiet = replace(results, samples=tuple(_as_its_twin(results)))
    assert answered(quiet)["aa"].state is State.PASS
    changed = replace(results, samples=tuple(heavier(sample) for sample in results.samples))
    assert answered(changed)["aa"].state is State.WARN
    assert "cpu.sha256" in answered(changed)["aa"].seen

    alone = replace(
        results,
        run=replace(
            results.run, plan=replace(results.run.plan, backends=results.run.plan.backends[:1])
        ),
        samples=tuple(sample for sample in results.samples if sample.label == "host"),
    )
    assert answered(alone)["aa"].state is State.UNKNOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(environment=st.dictionaries(st.sampled_from(sorted(QUIET)), JSON), when=st.text())
def test_a_strangers_environment_always_has_answers(
    run_alone: Run, environment: dict[str, Any], when: str
) -> None:
    results = Results(
        run=replace(run_alone, environment=environment, started_at=when, ended_at=when),
        samples=(),
    )
    found = answered(results)
    assert len(found) == 20
    assert all(check.seen.isprintable() for check in found.values())


@pytest.fixture
def run_alone(results: Results) -> Run:
    return results.run


def test_fewer_blocks_than_wanted_are_told(results: Results) -> None:
    stated = Protocol(
        warmup=True, pilot_blocks=6, wanted_blocks=40, precision_ratio=0.05, reached_ratio=0.12,
        budget_s=1200, end="budget",
    )  # fmt: skip
    stopped = with_run(results, protocol=stated)
    told = warnings(stopped, summarise(stopped, resamples=200, seed=1))
    assert "The budget of 1200 s ended the run after 10 of 40 blocks." in told
    assert "Intervals of ±5.00 % were asked for; after 10 blocks the widest was ±12.0 %." in told
    rows = {row[0]: row[1] for row in provenance_table(stopped.run).rows}
    assert rows["protocol"] == (
        "a warm-up block; a pilot of 6 blocks; intervals of ±5.00 % wanted, ±12.0 % reached; "
        "at most 1200 s"
    )
    assert "protocol" not in {row[0]: row[1] for row in provenance_table(results.run).rows}


def test_two_groups_and_a_drift_are_told(results: Results) -> None:
    def bent(sample: Sample) -> Sample:
        if sample.value is None or sample.label != "host" or sample.metric != "boot.exit":
            return sample
        return replace(sample, value=1e6 * (1 + sample.block / 10))

    summary = summarise(
        replace(results, samples=tuple(map(bent, results.samples))), resamples=200, seed=1
    )
    (drift,) = [each for each in warnings(results, summary) if each.startswith("Values that")]
    assert "host boot.exit (+" in drift
