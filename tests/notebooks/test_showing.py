"""What the cells show: from the recording, and from evidence with gaps and contradictions."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness import Request, bench
from benchmarks.progress import Lines
from benchmarks.suites import SUITES
from notebooks.course import lesson01, observing
from notebooks.course.claims import claims
from notebooks.course.evidence import Evidence, Look
from notebooks.course.predictions import NotAPrediction, Prediction
from notebooks.course.show import Show
from reports.notebook import Badge, Lane, Shown, marks, results
from runtime.image import Image

SHOW = lesson01.begin().show
KOREAN = lesson01.begin("ko").show
HANGUL = re.compile("[\uac00-\ud7a3]")


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
        others=tuple(fail(look) for look in evidence.others),
    )


def everything(evidence: Evidence, show: Show = SHOW) -> list[Shown]:
    guess = Prediction(vm_start_ms=60_000, kernels=3, vm_given_128_mib=128, words=show.words)
    views = (
        show.provenance, show.waterfall, show.identity, show.memory, show.pairs, show.plan,
        show.claims,
    )  # fmt: skip
    shown = [view(evidence) for view in views]
    return [*shown, show.compare(guess, evidence), show.given(guess, evidence)]


def test_everything_wears_its_badge(evidence: Evidence) -> None:
    for shown in everything(evidence):
        assert f"<b>RECORDED</b> {evidence.recorded} on " in shown._repr_html_()
        assert f"[{evidence.badge(SHOW.words)}]" in repr(shown)
    for shown in everything(replace(evidence, recorded=None)):
        assert "<b>LIVE</b> this machine, now; vm by tcg" in shown._repr_html_()


def test_everything_speaks_korean(evidence: Evidence) -> None:
    for shown, english in zip(everything(evidence, KOREAN), everything(evidence), strict=True):
        assert HANGUL.search(shown._repr_html_())
        assert not HANGUL.search(english._repr_html_())
        title, conclusion, *_ = repr(shown).splitlines()
        assert HANGUL.search(title)
        assert HANGUL.search(conclusion)


@pytest.mark.parametrize("backend", ["host", "container", "vm"])
def test_a_subject_that_failed_is_a_gap_and_told(evidence: Evidence, backend: str) -> None:
    gap = failed(evidence, backend)
    assert len(everything(gap)) == 9
    failures = 5 if backend == "host" else 7
    told = repr(SHOW.provenance(gap))
    assert told.count(f"failed: {backend}") == failures
    assert f"{failures} instances failed." in told
    assert "—" in repr(SHOW.pairs(gap))
    assert "cannot_tell_here" in {*judged(gap).values()}


def test_nothing_at_all_is_still_shown(evidence: Evidence) -> None:
    nothing = replace(evidence, looks=(), pairs=(), others=(), plan="")
    assert len(everything(nothing)) == 9
    assert "No phase was seen." in repr(SHOW.waterfall(nothing))
    assert "No two amounts" in repr(SHOW.given(Prediction(), nothing))


def test_the_recorded_verdicts(evidence: Evidence) -> None:
    assert judged(evidence) == {
        "c13": "confirmed",
        "c08": "confirmed",
        "c10": "confirmed_if",
        "c11": "cannot_tell_here",
        "c19": "cannot_tell_here",
    }


def test_verdicts_follow_the_data(evidence: Evidence) -> None:
    other = changed(evidence, "container", facts={"boot_id": "another"})
    assert judged(other)["c13"] == "refuted"
    host = evidence.of("host")[0].facts
    assert judged(changed(evidence, "vm", facts=host))["c08"] == "refuted"
    quick = changed(evidence, "vm", phases=evidence.of("container")[0].phases)
    assert judged(quick)["c10"] == "cannot_tell_here"
    fast = replace(evidence, accelerator="kvm")
    assert judged(fast)["c11"] == "confirmed_if"
    small = changed(fast, "vm", memory=evidence.of("container")[0].memory)
    assert judged(small)["c11"] == "refuted"


def test_the_waterfall_says_the_order_in_words(evidence: Evidence) -> None:
    quick = changed(evidence, "vm", phases={"request": 0, "output": 1_000})
    slow = changed(quick, "host", phases={"request": 0, "output": 60_000_000_000})
    first = repr(SHOW.waterfall(slow)).splitlines()[1]
    assert first.startswith("In this order: vm[tcg] reaches 'output' after 1.00 µs; container ")
    assert first.endswith("; host reaches 'output' after 60.0 s (medians).")


def test_a_prediction_is_compared_by_factor(evidence: Evidence) -> None:
    exact = changed(evidence, "container", phases={"request": 0, "output": 20_000_000})
    told = repr(SHOW.compare(Prediction(container_start_ms=200), exact))
    assert "container: 10 times too high (20.0 ms measured)." in told
    told = repr(SHOW.compare(Prediction(container_start_ms=2), exact))
    assert "container: 10 times too low" in told
    assert "You predicted nothing here." in told
    assert "The vm was emulated" in told
    accelerated = repr(SHOW.compare(Prediction(), replace(exact, accelerator="kvm")))
    assert "The vm was emulated" not in accelerated


def test_a_prediction_repeats_what_was_said() -> None:
    assert "replace the Nones" in repr(Prediction())
    assert repr(Prediction(vm_start_ms=2.5)) == "You predict: vm_start_ms = 2.5"


@pytest.mark.parametrize("value", [0, -1, "ten", True, float("nan")])
def test_what_cannot_be_compared_is_refused(value: object) -> None:
    with pytest.raises(NotAPrediction, match="vm_start_ms is"):
        Prediction(vm_start_ms=value)  # type: ignore[arg-type]


def test_the_source_shown_is_the_source_run() -> None:
    shown = repr(SHOW.source(observing.look))
    assert (
        shown
        == "\n".join(Path(observing.__file__).read_text().partition("def look(")[1:])
        .replace("\n", "", 1)
        .partition("\n\n\n")[0]
        + "\n"
    )


def test_the_plan_is_counted_as_it_is_printed(evidence: Evidence) -> None:
    shown = repr(SHOW.plan(evidence))
    steps = [line for line in evidence.plan.splitlines() if line.startswith("  ")]
    assert f"One clone and {len(steps)} steps" in shown
    assert evidence.plan in shown
    table = shown.partition("\n\n")[0].splitlines()
    assert "none" not in {line.split()[0] for line in table}
    for call in ("pivot_root", "umount2", "seccomp", "execveat"):
        (row,) = (line for line in table if line.split()[1] == call)
        (step,) = (line for line in steps if line.split()[1].startswith(f"{call}("))
        assert row.split()[0] == step.split()[0]


def test_a_step_that_a_plan_lacks_is_told(evidence: Evidence) -> None:
    lines = evidence.plan.splitlines()
    without = "\n".join(line for line in lines if "seccomp(" not in line)
    (row,) = (
        line
        for line in repr(SHOW.plan(replace(evidence, plan=without))).splitlines()
        if "seccomp" in line
    )
    assert row.startswith("none ")


def test_what_is_given_is_set_beside_what_is_taken(evidence: Evidence) -> None:
    taken = evidence.pss_by_limit("vm")
    assert list(taken) == [128 << 20, 256 << 20, 1 << 30]
    shown = repr(SHOW.given(Prediction(vm_given_128_mib=96), evidence))
    (row,) = (line for line in shown.splitlines() if line.startswith("vm[tcg], 128 MiB"))
    assert "96.0 MiB" in row
    assert f"it takes {taken[1 << 30] / taken[128 << 20]:.3g} times as much" in shown


def test_kernels_are_counted(evidence: Evidence) -> None:
    assert "you said 9, and 4 were counted among 9" in repr(
        SHOW.compare(Prediction(kernels=9), evidence)
    )
    assert "4 kernels were counted" in repr(SHOW.compare(Prediction(), evidence))


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
    assert "16 times the one before" in shown.markup


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
