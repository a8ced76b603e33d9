import itertools
import json
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.results import Accelerator, Limits, Results, Sample, Workload, read_run, write_run
from benchmarks.stats import Verdict
from benchmarks.summary import Summary, summarise
from reports.cli import compare_main
from reports.compare import Cell, RunComparison, compare, unpaired_ratio
from reports.compare_view import forbidding

WriteRun = Callable[..., Path]
Side = tuple[Results, Summary]


@pytest.fixture
def base(write_synthetic: WriteRun) -> Results:
    return read_run(write_synthetic())


def side(results: Results, **changes: Any) -> Side:
    changed = replace(results, run=replace(results.run, **changes))
    return changed, summarise(changed, resamples=200, seed=1)


def compared(earlier: Side, later: Side) -> RunComparison:
    return compare(earlier, later, resamples=500)


def scaled(results: Results, metric: str, factor: float) -> Results:
    def change(sample: Sample) -> Sample:
        if sample.metric != metric or sample.value is None:
            return sample
        return replace(sample, value=sample.value * factor)

    return replace(results, samples=tuple(change(sample) for sample in results.samples))


def test_the_same_run_twice_is_equal_and_never_worse(base: Results) -> None:
    found = compared(side(base), side(base))
    assert found.is_allowed
    assert found.differences == ()
    told = {cell.verdict for cell in found.cells}
    assert not told & {Verdict.HIGHER, Verdict.LOWER}
    assert Verdict.EQUIVALENT in told
    assert all(cell.ratio is None or cell.ratio.estimate == 1 for cell in found.cells)


def test_a_preparation_that_was_not_timed_again_is_not_compared(base: Results) -> None:
    template = base.run.plan.workloads[0].metrics[0]
    timed = replace(template, name="prepare", start="image in the store", stop="startable")
    prepare = Workload(name="prepare", argv=(), metrics=(timed,))
    plan = replace(base.run.plan, workloads=(prepare, *base.run.plan.workloads))
    row = replace(
        base.samples[0], block=0, workload="prepare", metric="prepare", value=5, unit="ns",
        status="ok", error=None, phases=None, facts=None, label="host", backend="host",
    )  # fmt: skip
    first = replace(base, samples=(row, *base.samples))
    costs = tuple(replace(cost, cached=True) for cost in base.run.preparations)

    def prepared(later: Side) -> Cell:
        found = compared(side(first, plan=plan), later)
        (cell,) = [each for each in found.cells if each.metric.name == "prepare"]
        return cell

    again = prepared(side(first, plan=plan))
    assert (again.verdict, again.why_not) == (Verdict.ONCE, None)
    cached = prepared(side(first, plan=plan, preparations=costs))
    assert (cached.ratio, cached.verdict) == (None, None)
    assert cached.why_not == "made before the later run, which did not time it again"


def test_a_label_that_is_missing_later_stands_in_its_metrics_group(base: Results) -> None:
    arms = tuple(arm for arm in base.run.plan.backends if arm.label != "container")
    rows = tuple(each for each in base.samples if each.label != "container")
    later = replace(base, samples=rows)
    found = compared(side(base), side(later, plan=replace(base.run.plan, backends=arms)))
    groups = [name for name, _ in itertools.groupby(cell.metric.name for cell in found.cells)]
    assert len(groups) == len(set(groups))
    gone = [cell for cell in found.cells if cell.arm.label == "container"]
    assert {cell.why_not for cell in gone} == {"not in the later run"}


def test_a_change_is_found_with_its_size(base: Results) -> None:
    found = compared(side(base), side(scaled(base, "cpu.sha256", 1.5)))
    worse = {
        (cell.metric.name, cell.arm.label)
        for cell in found.cells
        if cell.verdict is Verdict.HIGHER
    }
    assert worse == {("cpu.sha256", arm.label) for arm in base.run.plan.backends}
    for cell in found.cells:
        if cell.metric.name == "cpu.sha256":
            assert cell.ratio is not None
            assert cell.ratio.ci95 is not None
            assert cell.ratio.estimate == pytest.approx(1.5)
            assert cell.ratio.ci95.low < 1.5 < cell.ratio.ci95.high


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"suite": "other"}, "suite (first-look / other)"),
        ({"images": {"x": "sha256:00"}}, "image"),
        ({"limits": Limits(cpus=2, memory_bytes=None)}, "limits (cpus 1, memory 512 MiB"),
        ({"cache_state": "cold"}, "cache state"),
        ({"boot_profile": "distro"}, "boot profile"),
        ({"environment": {"cpu": "Another"}}, "machine: cpu"),
    ],
)
def test_what_forbids_a_comparison_is_named_and_no_ratio_taken(
    base: Results, changes: dict[str, Any], told: str
) -> None:
    found = compared(side(base), side(base, **changes))
    assert not found.is_allowed
    assert told in forbidding(found)
    assert all(cell.ratio is None and cell.verdict is None for cell in found.cells)
    assert all(cell.why_not for cell in found.cells)
    assert any(cell.earlier is not None and cell.later is not None for cell in found.cells)


def test_other_software_is_told_and_forbids_nothing(base: Results) -> None:
    newer = {**base.run.versions, "qemu": "99"}
    found = compared(side(base), side(base, versions=newer))
    assert found.is_allowed
    assert [(each.what, each.later) for each in found.differences] == [("version of qemu", "99")]


def test_another_accelerator_or_definition_stops_its_cells_alone(base: Results) -> None:
    plan = base.run.plan
    arms = tuple(
        replace(arm, accelerator="kvm") if arm.label == "vm" else arm for arm in plan.backends
    )
    workloads = tuple(
        replace(workload, argv=("other",)) if workload.name == "sha256" else workload
        for workload in plan.workloads
    )
    samples = tuple(
        replace(sample, accelerator="kvm") if sample.label == "vm" else sample
        for sample in base.samples
    )
    other = replace(base, samples=samples)
    later = side(
        other,
        plan=replace(plan, backends=arms, workloads=workloads),
        accelerators={"vm": Accelerator(name="kvm", sentence="")},
    )
    found = compared(side(base), later)
    assert found.is_allowed
    for cell in found.cells:
        if cell.arm.label == "vm":
            assert cell.why_not == "other accelerator: tcg, then kvm"
        elif cell.workload == "sha256":
            assert cell.why_not == "measured in another way (command, events or method)"
        else:
            assert cell.why_not is None
        assert (cell.verdict is None) == (cell.why_not is not None)


def test_what_only_one_run_has_is_told(base: Results) -> None:
    plan = base.run.plan
    fewer = replace(
        base, samples=tuple(sample for sample in base.samples if sample.label != "container")
    )
    arms = tuple(arm for arm in plan.backends if arm.label != "container")
    less = side(fewer, plan=replace(plan, backends=arms))
    gone = {cell.why_not for cell in compared(side(base), less).cells}
    new = {cell.why_not for cell in compared(less, side(base)).cells}
    assert gone == {None, "not in the later run"}
    assert new == {None, "not in the earlier run"}


def test_the_interval_is_that_of_two_samples_that_are_no_pairs() -> None:
    source = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        earlier = dict(enumerate(source.lognormal(0, 0.2, 12).tolist()))
        later = dict(enumerate(source.lognormal(0, 0.2, 12).tolist()))
        ratio = unpaired_ratio(later, earlier, resamples=400, key=str(trial))
        assert ratio is not None
        assert ratio.ci95 is not None
        hits += ratio.ci95.low <= 1 <= ratio.ci95.high
    assert 0.88 <= hits / 200 <= 1


def test_ratios_of_unequal_runs_use_every_block() -> None:
    earlier, later = {1: 2.0, 2: 4.0, 3: 6.0}, {9: 8.0}
    ratio = unpaired_ratio(later, earlier, resamples=10, key="k")
    assert ratio is not None
    assert ratio.estimate == 8 / statistics.median(earlier.values())
    assert (ratio.blocks, ratio.ci95) == (1, None)
    assert unpaired_ratio({1: 0.0}, earlier, resamples=10, key="k") is None
    assert unpaired_ratio({}, earlier, resamples=10, key="k") is None


@pytest.fixture
def pair(write_synthetic: WriteRun, tmp_path: Path) -> tuple[str, str]:
    earlier = write_synthetic()
    later = tmp_path / "later"
    later.mkdir()
    results = scaled(read_run(earlier), "boot.exit", 3)
    write_run(later, results.run)
    (later / "samples.jsonl").write_bytes(b"".join(each.line() for each in results.samples))
    return str(earlier), str(later)


def test_the_command_prints_a_table_and_writes_a_page(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare_main([*pair, "--html", str(tmp_path / "c.html")]) == 0
    said = capsys.readouterr().out
    assert "slower" in said
    assert "These runs are comparable" in said
    page = (tmp_path / "c.html").read_bytes()
    assert b"Two runs compared" in page
    assert compare_main([*pair, "--html", str(tmp_path / "c.html"), "--lang", "ko"]) == 0
    assert "느림" in capsys.readouterr().out
    assert compare_main([*pair, "--html", str(tmp_path / "c.html")]) == 0
    assert (tmp_path / "c.html").read_bytes() == page


def test_json_and_markdown(pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_main([*pair, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["comparable"] is True
    assert len(told["cells"]) == 36
    assert compare_main([*pair, "--format", "md"]) == 0
    row = r"boot\.exit \(boot\) \| host \| 1\.\d\d ms \| 4\.\d\d ms \| 3\.00x \|.*slower"
    assert re.search(row, capsys.readouterr().out)


def test_runs_that_are_not_comparable_say_so_with_a_status(
    pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = read_run(Path(pair[1])).run
    write_run(Path(pair[1]), replace(run, suite="other"))
    assert compare_main([*pair, "--html", str(tmp_path / "c.html")]) == 1
    assert "not comparable: suite (first-look / other)" in capsys.readouterr().out
    assert b"not comparable: suite" in (tmp_path / "c.html").read_bytes()


@pytest.mark.parametrize(
    ("argv", "status", "sentence"),
    [
        (["absent", "absent"], 125, "isoscope compare: no run 'absent'"),
        (["absent"], 2, "LATER is missing"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], argv: list[str], status: int, sentence: str
) -> None:
    assert compare_main(argv) == status
    assert sentence in capsys.readouterr().err.splitlines()[-1]
