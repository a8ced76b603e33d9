import io
import os
import pty
import re
import termios
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import reports
from benchmarks.results import Skipped, read_run, write_run
from reports.terminal import PLAIN_WIDTH, print_results

WriteRun = Callable[..., Path]
EVIL = "\x1b[31m[red]\x07\u202e\nx"


def printed(folder: Path) -> str:
    stream = io.StringIO()
    print_results(*reports.summary_of(folder), stream=stream)
    return stream.getvalue()


def _bare(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_every_row_floor_and_skipped_backend_is_told(write_synthetic: WriteRun) -> None:
    text = printed(write_synthetic())
    assert len(re.findall(r"^  (?:host|host'|container|vm\[tcg\]) ", text, re.MULTILINE)) == 36
    assert re.search(
        r"^boot\.first_output\n  host +1\.27 ms  baseline ", _bare(text), re.MULTILINE
    )
    assert re.search(r"^  vm\[tcg\] +1\.86 s  1463x \[1\d{3}.1\d{3}\] +slower", text, re.MULTILINE)
    assert "Noise floor (host against itself): boot.teardown" in text
    assert "Skipped podman: podman is not installed. To have it: apt-get install podman" in text
    assert "emulates the guest's processor in software" in text


def test_plain_text_has_no_colours_and_a_fixed_width(write_synthetic: WriteRun) -> None:
    text = printed(write_synthetic())
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= PLAIN_WIDTH


def test_long_rows_are_broken_by_no_pipe(write_synthetic: WriteRun) -> None:
    folder = write_synthetic()
    results, summary = reports.summary_of(folder)
    name = "a-backend-whose-name-is-longer-than-most"
    rows = tuple(
        replace(row, arm=replace(row.arm, label=name)) if row.arm.label == "container" else row
        for row in summary.rows
    )
    stream = io.StringIO()
    print_results(results, replace(summary, rows=rows), stream=stream)
    told = [line for line in stream.getvalue().splitlines() if line.startswith(f"  {name} ")]
    assert len(told) == 9
    assert max(map(len, told)) > 97  # where they were broken


def test_a_strangers_text_steers_nothing(write_synthetic: WriteRun) -> None:
    skipped = (Skipped(backend=EVIL, reason=EVIL, remedy=EVIL),)
    text = printed(write_synthetic(suite=EVIL, skipped=skipped))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert text.count("[red]") == 4


def test_a_console_without_our_signs_gets_plain_ones(write_synthetic: WriteRun) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_results(*reports.summary_of(write_synthetic()), stream=stream)
    stream.flush()
    assert b"197 us" in raw.getvalue()


def test_one_metric_in_two_workloads_names_them(write_synthetic: WriteRun) -> None:
    folder = write_synthetic()
    run = read_run(folder).run
    twice = (*run.plan.workloads, replace(run.plan.workloads[2], name="other"))
    write_run(folder, replace(run, plan=replace(run.plan, workloads=twice)))
    text = printed(folder)
    assert "cpu.sha256 (sha256)" in text
    assert "cpu.sha256 (other)" in text
    assert "boot.exit (" not in text


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_on_a_terminal_no_line_is_wider_than_it(write_synthetic: WriteRun, columns: int) -> None:
    folder = write_synthetic()
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream, os.fdopen(ours, "rb") as screen:
        termios.tcsetwinsize(theirs, (50, columns))
        results, summary = reports.summary_of(folder)
        few = replace(summary, rows=summary.rows[:4], floors=())
        print_results(results, few, stream=stream)
        stream.flush()
        text = (screen.read() or b"").decode()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "tcg" in plain
    assert max(len(line) for line in plain.splitlines()) <= columns
