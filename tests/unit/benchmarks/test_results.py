import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.backend import COMMON_PHASES
from benchmarks.errors import ResultsError
from benchmarks.results import (
    Arm,
    Limits,
    Metric,
    Plan,
    Run,
    Sample,
    Workload,
    read_run,
    write_run,
)

OUTPUT = Metric(
    name="boot.first_output",
    unit="ns",
    direction="lower",
    start="request",
    stop="output",
    method="monotonic",
    title="Time to first output",
)
EXIT = replace(OUTPUT, name="boot.exit", stop="exit", title="Time to exit")
RUN = Run(
    run="r1",
    suite="s",
    plan=Plan(
        backends=(
            Arm(label="host", backend="host", accelerator=None, note=None),
            Arm(label="vm", backend="vm", accelerator="tcg", note=None),
        ),
        workloads=(Workload(name="boot", argv=("/bin/true",), metrics=(OUTPUT, EXIT)),),
        blocks=3,
        seed=7,
        order="randomised complete blocks",
    ),
    images={"base": "sha256:00"},
    preparations=(),
    cache_state="warm",
    boot_profile="minimal",
    limits=Limits(cpus=0.5, memory_bytes=None),
    versions={},
    environment={"cpu": {"model": "x", "threads": 2}, "list": [1, None, True]},
    accelerators={},
    skipped=(),
    command=("isoscope", "bench"),
    started_at="2026-11-23T10:00:00+00:00",
    ended_at=None,
    outcome="running",
)
FIRST = Sample(
    run="r1",
    block=1,
    order=1,
    label="vm",
    backend="vm",
    accelerator="tcg",
    workload="boot",
    instance="i1",
    attempt=1,
    warmup=False,
    image="sha256:00",
    metric="boot.first_output",
    value=123,
    unit="ns",
    method="monotonic",
    status="ok",
    error=None,
    at_ns=5,
    phases={"request": 0, "kernel.initcalls": 50, "output": 123},
    facts={"boot_id": "b", "cpus": 1, "load": 0.5, "secure": None},
)
SECOND = replace(FIRST, metric="boot.exit", phases=None, facts=None)

DESIGN_LINE = (
    '{"schema":1,"run":"r1","block":3,"order":1,"label":"vm","backend":"vm","accelerator":"tcg",'
    '"workload":"boot","instance":"i","attempt":1,"warmup":false,"image":"sha256:00",'
    '"metric":"boot.first_output","value":1234567890,"unit":"ns","method":"m","status":"ok",'
    '"error":null,"at_ns":17,"phases":{"request":0,"output":1234567890}}'
)


def folder(tmp_path: Path, lines: bytes) -> Path:
    write_run(tmp_path, RUN)
    (tmp_path / "samples.jsonl").write_bytes(lines)
    return tmp_path


def line_with(**changes: Any) -> bytes:
    return json.dumps({**json.loads(FIRST.line()), **changes}).encode() + b"\n"


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
count = st.integers(0, 2**63 - 1)
phase = st.sampled_from(COMMON_PHASES).flatmap(
    lambda common: st.sampled_from([common, f"{common}.detail"])
)
values = st.one_of(count, st.floats(0, 1e18))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    value = draw(st.none() | values)
    statuses = ["ok"] if value is not None else ["failed", "timeout", "skipped"]
    return Sample(
        run=draw(text),
        block=draw(count),
        order=draw(count),
        label=draw(text),
        backend=draw(text),
        accelerator=draw(st.none() | text),
        workload=draw(text),
        instance=draw(text),
        attempt=draw(st.integers(1, 9)),
        warmup=draw(st.booleans()),
        image=draw(text),
        metric=draw(text),
        value=value,
        unit=draw(st.sampled_from(["ns", "bytes", "count"])),
        method=draw(text),
        status=draw(st.sampled_from(statuses)),
        error=None if value is not None else draw(text),
        at_ns=draw(count),
        phases=draw(st.none() | st.dictionaries(phase, count, max_size=4)),
        facts=draw(st.none() | st.dictionaries(text, st.none() | st.booleans() | values | text)),
    )


@given(samples())
def test_a_sample_survives_its_line_exactly(sample: Sample) -> None:
    line = sample.line()
    again = Sample.parse(line)
    assert again == sample
    assert type(again.value) is type(sample.value)
    assert again.line() == line
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


def test_the_line_of_the_design_is_read_and_written_with_facts_added() -> None:
    sample = Sample.parse(DESIGN_LINE.encode())
    assert sample.line().decode() == DESIGN_LINE[:-1] + ',"facts":null}\n'


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    assert read_run(tmp_path).run == RUN
    assert read_run(tmp_path).samples == ()


def test_writing_a_run_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    write_run(tmp_path, replace(RUN, outcome="complete"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert read_run(tmp_path).run.outcome == "complete"


def test_a_run_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"run\.json cannot be written: No such file"):
        write_run(tmp_path / "absent", RUN)


@pytest.mark.parametrize(
    "tail",
    [
        SECOND.line()[:-1],
        SECOND.line()[:40],
        SECOND.line()[:40] + b"\n",
        b'{"run":"\xc3\n',
        b"\0" * 512 + b"\n",
    ],
    ids=["no newline", "cut", "cut with newline", "cut inside a character", "zeroes"],
)
def test_a_torn_last_line_is_dropped_and_reported(tmp_path: Path, tail: bytes) -> None:
    results = read_run(folder(tmp_path, FIRST.line() + tail))
    assert results.samples == (FIRST,)
    assert results.torn is not None
    assert "line 2 " in results.torn


def test_a_whole_journal_is_not_torn(tmp_path: Path) -> None:
    results = read_run(folder(tmp_path, FIRST.line() + SECOND.line()))
    assert results.samples == (FIRST, SECOND)
    assert results.torn is None


BAD_LINES = {
    "wrong schema": (line_with(schema=2), "'schema' should be 1, not 2"),
    "schema as true": (line_with(schema=True), "'schema' should be 1, not True"),
    "text for a number": (line_with(block="3"), "'block' should be an integer, not '3'"),
    "true for a number": (line_with(at_ns=True), "'at_ns' should be an integer"),
    "float for an integer": (line_with(attempt=1.0), "'attempt' should be an integer"),
    "unknown status": (line_with(status="fine"), "'status' should be 'ok' or"),
    "negative": (line_with(value=-1), "'value' is negative"),
    "negative phase": (line_with(phases={"exec": -1}), "'phases.exec' is negative"),
    "unknown phase": (line_with(phases={"lunch": 1}), "unknown phase 'lunch'"),
    "phase as text": (line_with(phases={"exec": "1"}), "'phases.exec' should be an integer"),
    "value of a failure": (line_with(status="failed", error="x"), "beside 'ok' only"),
    "failure without error": (line_with(status="failed", value=None), "beside a failure"),
    "ok without value": (line_with(value=None), "beside 'ok' only"),
    "unknown field": (line_with(colour="red"), "unknown field 'colour'"),
    "fact that nests": (line_with(facts={"a": [1]}), "'facts.a' should be"),
    "other run": (line_with(run="r2"), "belongs to run 'r2', not to 'r1'"),
    "other label": (line_with(label="moon"), "label 'moon' is not in the plan"),
    "other accelerator": (line_with(accelerator="kvm"), "backend or accelerator"),
    "other metric": (line_with(metric="boot.lunch"), "'boot.lunch' is not in the plan"),
    "other unit": (line_with(unit="bytes"), "in 'bytes', and in 'ns' in the plan"),
    "NaN": (line_with(value=float("nan")), "NaN is not a JSON number"),
    "infinity": (line_with(value=float("inf")), "Infinity is not a JSON number"),
    "overflow": (line_with().replace(b"123,", b"1e999,"), "'value' is too large"),
    "65 bits": (line_with(value=2**64), "'value' does not fit in 64 bits"),
    "5000 digits": (line_with().replace(b"123,", b"9" * 5000 + b","), "too many digits"),
    "lone surrogate": (line_with(method="\ud800"), "'method' holds text that is not Unicode"),
    "twice": (line_with()[:-2] + b',"run":"r1"}\n', "names the same field twice"),
    "a list": (b"[]\n", "the whole should be an object"),
    "deep": (b"[" * 100_000 + b"]" * 100_000 + b"\n", "nested too deeply"),
    "long": (line_with(method="x" * (1 << 20)), "longer than"),
}


@pytest.mark.parametrize(("line", "sentence"), BAD_LINES.values(), ids=BAD_LINES.keys())
@pytest.mark.parametrize("is_last", [False, True])
def test_a_malformed_line_is_an_error_with_its_number(
    tmp_path: Path, line: bytes, sentence: str, *, is_last: bool
) -> None:
    good = replace(SECOND, attempt=2).line()
    with pytest.raises(ResultsError) as caught:
        read_run(folder(tmp_path, good + line + (b"" if is_last else SECOND.line())))
    assert "samples.jsonl, line 2: " in caught.value.message
    assert sentence in caught.value.message
    assert len(caught.value.message) < 400


def test_a_cut_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="line 1: this is not JSON"):
        read_run(folder(tmp_path, FIRST.line()[:30] + b"\n" + SECOND.line()))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    fields = json.loads(FIRST.line())
    del fields["unit"]
    with pytest.raises(ResultsError, match="line 1: field 'unit' is missing"):
        read_run(folder(tmp_path, json.dumps(fields).encode() + b"\n"))


def test_a_metric_stands_once_for_an_instance(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"line 2: metric 'boot\.first_output' stands twice"):
        read_run(folder(tmp_path, FIRST.line() * 2))


def test_a_carriage_return_ends_no_line(tmp_path: Path) -> None:
    spaced = FIRST.line().replace(b",", b",\r", 1)
    assert read_run(folder(tmp_path, spaced + SECOND.line())).samples == (FIRST, SECOND)


def test_phases_stand_on_the_first_row_only(tmp_path: Path) -> None:
    second = replace(SECOND, phases={"request": 0})
    with pytest.raises(ResultsError, match="line 2: phases and facts stand on the first row"):
        read_run(folder(tmp_path, FIRST.line() + second.line()))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"schema": 1', '"schema": 2', "field 'schema' should be 1"),
        ('"seed": 7', '"seed": NaN', "NaN is not a JSON number"),
        ('"blocks": 3', '"blocks": -3', "field 'blocks' is negative"),
        ('"outcome": "running"', '"outcome": "great"', "field 'outcome' should be"),
        ('"label": "vm"', '"label": "host"', "a label stands twice"),
        ('"run": "r1"', '"run": "../../etc"', "'../../etc' is no run id"),
        ('"direction": "lower"', '"direction": "up"', r"metrics[0].direction' should be 'lower'"),
        ("{", "", "this is not JSON"),
    ],
)
def test_a_malformed_record_is_an_error_with_its_field(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = folder(tmp_path, b"") / "run.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ResultsError) as caught:
        read_run(tmp_path)
    assert "run.json: " in caught.value.message
    assert sentence in caught.value.message


def test_what_is_no_run_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"No such file.*give the folder of a run"):
        read_run(tmp_path)


def test_a_folder_in_place_of_the_journal_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    (tmp_path / "samples.jsonl").mkdir()
    with pytest.raises(ResultsError, match="no regular file"):
        read_run(tmp_path)


def test_a_value_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(ResultsError, match="not finite"):
        replace(FIRST, value=float("nan"))
    with pytest.raises(ResultsError, match="cannot be written as JSON"):
        replace(FIRST, method=os.fsdecode(b"\xff")).line()
