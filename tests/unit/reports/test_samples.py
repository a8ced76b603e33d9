"""Samples leave as other programs read them, and pytest-benchmark's come in."""

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import reports
from benchmarks.results import read_run
from reports.export import as_markdown
from reports.results_cli import main
from reports.validity import State, checks

WriteRun = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(write_synthetic: WriteRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = write_synthetic()
    monkeypatch.chdir(made.parent.parent)
    return Path("results") / made.name


def test_ls_names_every_run_and_what_cannot_be_read(folder: Path, capsys: Capture) -> None:
    torn = folder.parent / "torn"
    torn.mkdir()
    (torn / "run.json").write_text("{")
    assert main(["ls"]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["RUN", "synthetic-1"]
    assert "torn/run.json" in told.err
    assert main(["ls", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["run"], run["outcome"], run["arms"]) == (
        "synthetic-1", "complete", "host,host',container,vm",
    )  # fmt: skip
    assert main(["ls", "nowhere"]) == 0


def test_show_is_the_table(folder: Path, capsys: Capture) -> None:
    assert main(["show", folder.name]) == 0
    assert "boot.first_output" in capsys.readouterr().out


def test_csv_has_a_row_for_each_sample(folder: Path, capsys: Capture) -> None:
    assert main(["export", folder.name]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    samples = read_run(folder).samples
    assert len(rows) == len(samples)
    for row, sample in zip(rows, samples, strict=True):
        assert row["label"] == sample.label
        assert row["value"] == ("" if sample.value is None else str(sample.value))
        assert json.loads(row["phases"] or "null") == sample.phases


def test_json_is_the_record_and_the_samples(folder: Path, capsys: Capture) -> None:
    assert main(["export", folder.name, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["run"] == json.loads((folder / "run.json").read_text())
    lines = (folder / "samples.jsonl").read_text().splitlines()
    assert document["samples"] == [json.loads(line) for line in lines]


def test_pytest_benchmark_itself_reads_what_is_written_for_it(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours.json"
    assert main(["export", folder.name, "--format", "pytest-benchmark", "--out", str(out)]) == 0
    argv = [
        sys.executable,
        "-m",
        "pytest_benchmark",
        "compare",
        str(out),
        "--columns=median,rounds",
    ]
    told = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "boot.exit[vm]" in told.stdout


def test_what_was_exported_comes_back_in_with_every_round(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "ours.json"
    assert main(["export", folder.name, "--format", "pytest-benchmark", "--out", str(out)]) == 0
    assert main(["import", str(out), "--out", str(tmp_path / "in")]) == 0
    directory = Path(capsys.readouterr().out.splitlines()[-1])
    results, summary = reports.summary_of(directory)
    rounds = [s.value for s in results.samples if s.workload.endswith("::boot.exit[container]")]
    ours = [
        s.value
        for s in read_run(folder).samples
        if (s.metric, s.label, s.status) == ("boot.exit", "container", "ok")
    ]
    assert rounds == ours
    found = {check.name: check.state for check in checks(results, summary)}
    assert found["order"] is State.FAIL  # rounds of one process are no randomised instances
    assert "not independent" in as_markdown(results, summary)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "not JSON"),
        ("[]", "is not what pytest-benchmark writes: no 'benchmarks'"),
        (
            '{"benchmarks": [{"fullname": "a", "stats": {"data": ["x"]}}]}',
            "one that is no time",
        ),
        ('{"benchmarks": [{"fullname": "a", "stats": {"data": []}}]}', "holds no rounds"),
        ('{"benchmarks": []}', "holds no benchmark"),
        (
            '{"benchmarks": [{"fullname": "a", "stats": {"data": [1]}}], "datetime": "../x"}',
            "is no date",
        ),
    ],
)
def test_a_strangers_file_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: Capture, content: str, sentence: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    assert main(["import", str(file), "--out", str(tmp_path / "in")]) == 125
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert sentence in said
    assert not (tmp_path / "in").exists()


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is here")
def test_parquet_without_pyarrow_says_how_to_get_it(folder: Path, capsys: Capture) -> None:
    assert main(["export", folder.name, "--format", "parquet", "--out", "x"]) == 125
    assert "pip install pyarrow" in capsys.readouterr().err
    assert not Path("x").exists()


def test_an_unknown_run_is_no_wrong_usage(capsys: Capture) -> None:
    assert main(["show", "nowhere"]) == 125
    assert "isoscope results ls" in capsys.readouterr().err
