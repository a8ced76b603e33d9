import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.cli import main

WriteRun = Callable[..., Path]


@pytest.fixture
def folder(write_synthetic: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_synthetic()


def test_a_run_is_found_by_id_and_by_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synthetic-1"]) == 0
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert main([str(folder)]) == 0
    assert (folder / "report.html").read_bytes() == page
    assert capsys.readouterr().out == f"results/synthetic-1/report.html\n{folder}/report.html\n"


def test_the_page_goes_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    assert main(["synthetic-1", "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert not (folder / "report.html").exists()


def test_json_is_one_object_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synthetic-1", str(folder), "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert first["summary"]["baseline"] == "host"
    assert len(first["summary"]["rows"]) == 36
    assert any("vm[tcg] reaches its first output" in said for said in first["sentences"])


def test_markdown_goes_to_a_file_too(folder: Path, tmp_path: Path) -> None:
    assert main([folder.name, "--format", "md", "--out", str(tmp_path / "r.md")]) == 0
    assert (tmp_path / "r.md").read_text().startswith("# first-look, run synthetic-1\n")


@pytest.mark.parametrize(
    ("argv", "status", "sentence"),
    [
        ([], 2, "RUN is missing; try 'isoscope report --help'"),
        (["absent"], 125, "isoscope report: no run 'absent', neither as a folder nor under"),
        (["synthetic-1", "--format", "pdf"], 2, "invalid choice: 'pdf'"),
        (["synthetic-1", "synthetic-1", "--out", "x"], 2, "--out takes one page"),
        (["synthetic-1", "--out", "absent/x"], 125, "absent/x cannot be written: No such file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_errors_are_one_line_with_a_status(
    capsys: pytest.CaptureFixture[str], argv: list[str], status: int, sentence: str
) -> None:
    assert main(argv) == status
    said = capsys.readouterr()
    assert sentence in said.err.splitlines()[-1]
    assert said.out == ""


def test_a_malformed_run_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run.json").write_text("{}")
    assert main(["synthetic-1"]) == 125
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "run.json: field 'run' is missing" in said
    assert not (folder / "report.html").exists()


def test_help_costs_no_heavy_import() -> None:
    program = (
        "import sys\nfrom reports.cli import main\nassert main(['--help']) == 0\n"
        "print(sorted({'matplotlib', 'jinja2', 'rich', 'pandas'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert told.stdout.splitlines()[-1] == "[]"


def test_csv_of_several_runs_has_one_head(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["synthetic-1", str(folder), "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * 36
    assert [line.startswith("run,suite,") for line in lines].count(True) == 1


def test_the_page_speaks_korean(folder: Path) -> None:
    assert main(["synthetic-1"]) == 0
    english = (folder / "report.html").read_text()
    assert main(["synthetic-1", "--lang", "ko"]) == 0
    korean = (folder / "report.html").read_text()
    assert '<html lang="ko">' in korean
    assert "첫 출력까지" in korean
    assert not re.search("[\uac00-\ud7a3]", english)
    for heading in re.findall(r"<h2[^>]*>([^<]*)</h2>", korean):
        assert re.search("[\uac00-\ud7a3]", heading), heading
