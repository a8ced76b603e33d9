from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from benchmarks.results import Results, read_run
from benchmarks.summary import Summary, summarise
from reports import html
from reports.matrix import matrices, matrix

WriteRun = Callable[..., Path]
MOST_BYTES = 3_000_000


@pytest.fixture
def found(write_synthetic: WriteRun) -> tuple[Results, Summary]:
    return reports.summary_of(write_synthetic())


def test_every_mark_stands_inside_its_interval(found: tuple[Results, Summary]) -> None:
    results, summary = found
    shown = matrix(summary, results.run.plan.backends)
    assert len(shown.lines) == 27
    drawn = [line.forest for line in shown.lines if line.forest is not None]
    assert len(drawn) == 24  # the host's disk.instance is zero
    for each in drawn:
        assert 0 <= each.low <= each.at <= each.high <= 100
        assert each.margin_low < shown.one < each.margin_high
    assert (shown.one, "1") in shown.ticks


def test_a_mark_right_of_one_is_more(found: tuple[Results, Summary]) -> None:
    results, summary = found
    shown = matrix(summary, results.run.plan.backends)
    for line in shown.lines:
        if line.forest is not None and line.ratio is not None:
            assert (line.forest.at > shown.one) == (
                line.ratio > 1.0
            ) or line.forest.at == shown.one
    (slow,) = (
        line for line in shown.lines if (line.metric, line.subject) == ("boot.exit", "vm[tcg]")
    )
    assert (slow.effect, slow.word, slow.mark) == ("worse", "slower", "▲")


def test_baselines_are_reciprocal(found: tuple[Results, Summary]) -> None:
    results, summary = found
    host, container, vm = matrices(results, summary)
    assert [each.baseline for each in (host, container, vm)] == ["host", "container", "vm"]
    forward = {(line.metric, line.subject): line.ratio for line in host.lines}
    back = {(line.metric, line.subject): line.ratio for line in container.lines}
    for metric in ("boot.exit", "memory.pss", "cpu.sha256"):
        there, again = forward[metric, "container"], back[metric, "host"]
        assert there is not None
        assert again is not None
        assert there * again == pytest.approx(1)


def test_many_rows_have_one_baseline(found: tuple[Results, Summary]) -> None:
    results, summary = found
    many = replace(summary, rows=summary.rows * 10)
    assert len(matrices(results, many)) == 1


def test_a_long_run_makes_a_page_of_bearable_size(write_synthetic: WriteRun) -> None:
    plan = read_run(write_synthetic()).run.plan
    results = read_run(write_synthetic(plan=replace(plan, blocks=400)))
    assert len(results.samples) > 14_000
    summary = summarise(results, resamples=100, seed=1)
    page = html.render(results, summary)
    assert len(page.encode()) < MOST_BYTES
    assert "at most 90 of 400 values" in page
    assert "Every value:" not in page
