"""What the cells show: from the recording, and from evidence with gaps and contradictions."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import Request, bench
from benchmarks.progress import Lines
from benchmarks.suites import SUITES
from notebooks.course import observing, show
from notebooks.course.claims import claims
from notebooks.course.evidence import Evidence, Look
from notebooks.course.predictions import NotAPrediction, Prediction
from reports.notebook import Badge, Lane, Shown, marks, results
from runtime.container.container import Options, explain
from runtime.image import Image


def judged(evidence: Evidence) -> dict[str, str]:
    return {each.key: each.judgement for each in claims(evidence)}


def changed(evidence: Evidence, backend: str, **changes: object) -> Evidence:
    looks = tuple(
        replace(look, **changes) if look.backend == backend else look  # type: ignore[arg-type]
        for look in evidence.looks
    )
    return replace(evidence, looks=looks)


def failed(evidence: Evidence, backend: str) -> Evidence:
    def fail(look: Look) -> Look:
        if look.backend != backend:
            return look
        return replace(look, phases={}, facts={}, memory={}, error="it hung")

    return replace(
        evidence,
        looks=tuple(fail(look) for look in evidence.looks),
        pairs=tuple(fail(look) for look in evidence.pairs),
    )


def everything(evidence: Evidence) -> list[Shown]:
    shown = [
        view(evidence)
        for view in (
            show.provenance, show.waterfall, show.identity, show.memory, show.pairs,
            show.plan_by_call, show.claims,
        )
    ]  # fmt: skip
    return [*shown, show.compare(Prediction(vm_start_ms=60_000), evidence)]


def test_everything_wears_its_badge(evidence: Evidence) -> None:
    for shown in everything(evidence):
        assert "<b>RECORDED</b> recorded on" in shown._repr_html_()
        assert f"[{evidence.badge}]" in repr(shown)
    for shown in everything(replace(evidence, recorded=None)):
        assert "<b>LIVE</b> live on this machine" in shown._repr_html_()


@pytest.mark.parametrize("backend", ["host", "container", "vm"])
def test_a_subject_that_failed_is_a_gap_and_told(evidence: Evidence, backend: str) -> None:
    gap = failed(evidence, backend)
    assert len(everything(gap)) == 8
    told = repr(show.provenance(gap))
    assert told.count(f"failed: {backend}") == 5
    assert "5 instances failed." in told
    assert "—" in repr(show.pairs(gap))
    assert "CANNOT-TELL-HERE" in {*judged(gap).values()}


def test_nothing_at_all_is_still_shown(evidence: Evidence) -> None:
    nothing = replace(evidence, looks=(), pairs=())
    assert len(everything(nothing)) == 8
    assert "No phase was seen." in repr(show.waterfall(nothing))


def test_the_recorded_verdicts(evidence: Evidence) -> None:
    assert judged(evidence) == {
        "C13": "CONFIRMED",
        "C08": "CONFIRMED",
        "C10": "CONFIRMED-IF",
        "C11": "CANNOT-TELL-HERE",
        "C19": "CANNOT-TELL-HERE",
    }


def test_verdicts_follow_the_data(evidence: Evidence) -> None:
    other = changed(evidence, "container", facts={"boot_id": "another"})
    assert judged(other)["C13"] == "REFUTED"
    host = evidence.of("host")[0].facts
    assert judged(changed(evidence, "vm", facts=host))["C08"] == "REFUTED"
    quick = changed(evidence, "vm", phases=evidence.of("container")[0].phases)
    assert judged(quick)["C10"] == "CANNOT-TELL-HERE"
    fast = replace(evidence, accelerator="kvm")
    assert judged(fast)["C11"] == "CONFIRMED-IF"
    small = changed(fast, "vm", memory=evidence.of("container")[0].memory)
    assert judged(small)["C11"] == "REFUTED"


def test_the_waterfall_says_the_order_in_words(evidence: Evidence) -> None:
    quick = changed(evidence, "vm", phases={"request": 0, "output": 1_000})
    first = repr(show.waterfall(quick)).splitlines()[1]
    assert first.startswith("In this order: vm[tcg] reaches 'output' after 1.00 µs; host ")


def test_a_prediction_is_compared_by_factor(evidence: Evidence) -> None:
    look = evidence.of("container")[0]
    exact = changed(evidence, "container", phases={"request": 0, "output": 20_000_000})
    told = repr(show.compare(Prediction(container_start_ms=200), exact))
    assert "container: 10 times too high (20.0 ms measured)." in told
    told = repr(show.compare(Prediction(container_start_ms=2), exact))
    assert "container: 10 times too low" in told
    assert "You predicted nothing here." in told
    assert look.error is None


def test_a_prediction_repeats_what_was_said() -> None:
    assert "replace the Nones" in repr(Prediction())
    assert repr(Prediction(vm_start_ms=2.5)) == "You predict: vm_start_ms = 2.5"


@pytest.mark.parametrize("value", [0, -1, "ten", True, float("nan")])
def test_what_cannot_be_compared_is_refused(value: object) -> None:
    with pytest.raises(NotAPrediction, match="vm_start_ms is"):
        Prediction(vm_start_ms=value)  # type: ignore[arg-type]


def test_the_source_shown_is_the_source_run() -> None:
    shown = repr(show.source(observing.look))
    assert (
        shown
        == "\n".join(Path(observing.__file__).read_text().partition("def look(")[1:])
        .replace("\n", "", 1)
        .partition("\n\n\n")[0]
        + "\n"
    )


def test_the_plan_is_counted_as_it_is_printed(evidence: Evidence) -> None:
    shown = show.plan_by_call(evidence)
    steps = [line for line in evidence.plan.splitlines() if line.startswith("  ")]
    assert f"One clone and {len(steps)} steps" in repr(shown)
    assert evidence.plan in repr(shown)


def test_marks_keep_gaps_and_escape_names() -> None:
    lanes = [
        Lane(name="<script>", values={"a": 1024.0, "b": None}),
        Lane(name="x", values={"a": 1 << 30, "b": 5.0}),
    ]
    badge = Badge(live=True, sentence="<here>")
    shown = marks("Title", lanes, "bytes", badge, conclusion="")
    assert "<script>" not in shown.markup
    assert "&lt;here&gt;" in shown.markup
    assert shown.markup.count("<polygon") == 2 + 3  # the series' names, and three values
    assert "—" in shown.text
    assert "16 times more" in shown.markup


def test_without_positive_values_there_is_only_the_table() -> None:
    lanes = [Lane(name="x", values={"a": 0.0})]
    shown = marks("Title", lanes, "ns", Badge(live=True, sentence="here"), conclusion="")
    assert "<svg" not in shown.markup
    assert "<table>" in shown.markup


@pytest.mark.skipif(os.geteuid() != 0, reason="the baseline needs root; run as root")
def test_a_whole_run_is_shown_with_its_cautions(tmp_path: Path, busybox: Image) -> None:
    request = Request(
        suite=SUITES["boot"], on=("host",), image=busybox, blocks=2, seed=7, out=tmp_path,
        command=("isoscope", "bench"),
    )  # fmt: skip
    shown = results(bench(request, Lines()))
    assert "below 6 no interval is claimed" in shown.markup
    assert "boot.first_output" in shown.markup
    assert "Start to first output" in shown.text
    assert "RECORDED" in shown.text


def test_an_image_and_a_plan_show_themselves(busybox: Image) -> None:
    table = busybox._repr_html_()
    assert busybox.digest in table
    assert "linux/" in table
    shown = explain(busybox, ("sh", "-c", "echo '<b>'"), Options())._repr_html_()
    assert shown.startswith("<pre>in the caller:")
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
