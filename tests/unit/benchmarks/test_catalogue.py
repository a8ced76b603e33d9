"""The catalogue: what every workload declares, and how values come out of what was said."""

import re
from collections import Counter

import pytest

from benchmarks import cli
from benchmarks.backend import Features, Reading, Usage
from benchmarks.explain import explained
from benchmarks.results import Limits
from benchmarks.stage import Stage
from benchmarks.stats import MIN_BLOCKS
from benchmarks.strict_json import as_json, decode, loads
from benchmarks.suites import SUITES, TOOLS_IMAGE, Suite
from benchmarks.workloads import Ensemble, Workload, WorkloadFailed, applications, crowd, held
from benchmarks.workloads.neighbours import NOISY
from benchmarks.workloads.printed import Work
from benchmarks.workloads.program import ns_per_unit, require_clock, units_per_s
from benchmarks.workloads.published import network_of
from runtime.image import Image

FULL = SUITES["full"]
every_workload = pytest.mark.parametrize(
    "workload", FULL.workloads, ids=[w.record.name for w in FULL.workloads]
)


@every_workload
def test_a_workload_says_what_it_asks_and_what_threatens_it(
    workload: Workload | Ensemble,
) -> None:
    assert workload.question.endswith(("?", "cached."))
    assert workload.threats
    assert workload.record.metrics


@every_workload
def test_a_metric_says_what_it_is(workload: Workload | Ensemble) -> None:
    for metric in workload.record.metrics:
        assert (metric.start is None) == (metric.stop is None)
        if metric.unit in {"ns", "1/s", "MB/s"}:
            assert metric.start, metric.name
            assert "CLOCK_MONOTONIC" in metric.method or re.search(
                r"fio|sysbench|redis|timer|open loop", metric.method
            )
        assert metric.unit in {"ns", "bytes", "1/s", "MB/s", "1"}
        assert metric.title[0].isupper()


def test_names_stand_once_and_the_record_survives_the_journey() -> None:
    names = Counter(w.record.name for w in FULL.workloads)
    metrics = Counter(m.name for w in FULL.workloads for m in w.record.metrics)
    assert {*names.values(), *metrics.values()} == {1}
    for workload in FULL.workloads:
        record = workload.record
        assert decode(type(record), loads(as_json(record))) == record
        assert record == workload.record  # a resumed run compares them


def test_full_holds_every_other_suite() -> None:
    held_by_full = {workload.record.name for workload in FULL.workloads}
    for suite in SUITES.values():
        assert {workload.record.name for workload in suite.workloads} <= held_by_full
        assert suite.blocks >= MIN_BLOCKS
        assert suite.image == ("busybox" if suite.name in {"quick", "boot"} else TOOLS_IMAGE)


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
def test_every_suite_can_be_explained(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    def unused(_: object) -> dict[str, object]:
        raise AssertionError

    status = cli.main(["bench", suite.name, "--explain"], publish=unused, document=unused)  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert (status, shown) == (0, explained(suite) + "\n")
    for workload in suite.workloads:
        assert workload.question in shown
        assert all(metric.name in shown for metric in workload.record.metrics)


def test_a_missing_image_is_one_sentence_with_the_command(
    busybox: Image, capsys: pytest.CaptureFixture[str]
) -> None:
    assert busybox.references

    def unused(_: object) -> dict[str, object]:
        raise AssertionError

    status = cli.main(["bench", "cpu", "--on", "host"], publish=unused, document=unused)  # type: ignore[arg-type]
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 125
    assert "isoscope image build -t bench" in line


def test_work_becomes_time_of_one_and_rate() -> None:
    said = {"loop": Work(units=4096, duration_ns=8192)}
    one = ns_per_unit("x", "loop", "X", unit="turn").value(said, {})
    rate = units_per_s("x", "loop", "X", unit="1/s", what="turn").value(said, {})
    assert (one.value, rate.value) == (2.0, 5e8)
    assert "4096 units in 8192 ns" in one.method
    with pytest.raises(WorkloadFailed, match="no work 'other'"):
        ns_per_unit("x", "other", "X", unit="turn").value(said, {})


def test_a_clock_that_runs_fast_inside_is_found_out() -> None:
    said = {"a": Work(units=1, duration_ns=600_000_000), "b": Work(units=1, duration_ns=10**9)}
    require_clock(said, {"exit": 1_600_000_000})
    require_clock(said, {})
    with pytest.raises(WorkloadFailed, match="runs fast"):
        require_clock(said, {"exit": 1_000_000_000})


def test_a_load_that_was_not_kept_up_is_no_measurement() -> None:
    (nginx,) = (each for each in applications.APPS if each.name == "apps.nginx")
    kept = b"work closed 4 5\nread offered_ns 2000\nwork answered 200 2100\n"
    assert nginx.parse(kept)["answered"] == Work(units=200, duration_ns=2100)
    with pytest.raises(WorkloadFailed, match="could not be kept up"):
        nginx.parse(kept.replace(b"2100", b"2300"))
    with pytest.raises(WorkloadFailed, match="no offered_ns"):
        nginx.parse(b"work answered 200 2100\n")


def test_without_limits_there_is_no_limited_neighbour() -> None:
    stage = Stage(
        backend="host", features=Features(), image="", limits=Limits(cpus=1, memory_bytes=1)
    )
    limited = next(each for each in NOISY if each.burden == "cpu" and each.limited)
    values = limited.perform(stage, {}, {})
    assert set(values) == {metric.name for metric in limited.record.metrics}
    assert all(
        value.value is None and "no limit" in (value.error or "") for value in values.values()
    )


def test_ports_are_reached_as_the_backend_offers() -> None:
    ports = Features(ports=True, networks=frozenset({"none", "user", "bridge"}))
    assert network_of(ports) == "bridge"
    assert network_of(Features(ports=True, networks=frozenset({"none", "user"}))) == "user"
    assert network_of(Features(networks=frozenset({"host"}))) == "host"
    assert network_of(Features()) is None


@pytest.mark.parametrize(
    ("most", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 2)), (8, (1, 2, 4, 8))]
)
def test_starts_are_told_at_each_doubling(most: int, counts: tuple[int, ...]) -> None:
    assert crowd._doubling(most) == counts


def test_an_amount_without_a_meaning_says_why() -> None:
    usage = Usage(
        readings={"pss": Reading(value_bytes=7, method="read")}, absent={"uss": "not here"}
    )
    assert held.amount(usage, "pss").value == 7
    assert held.amount(usage, "uss").error == "not here"
    assert held.amount(usage, "cgroup").error
