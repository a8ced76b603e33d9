"""The report as text, compared with plain files: they double as documentation of what it says.

ISOSCOPE_UPDATE_GOLDEN=1 writes the files anew; what changed is then reviewed as a diff.
"""

import io
from collections.abc import Callable
from pathlib import Path

import golden_files

import reports
from reports.export import as_csv, as_markdown
from reports.terminal import print_results
from reports.words import Words

WriteRun = Callable[..., Path]
KOREAN = Words(language="ko")


def test_markdown(write_synthetic: WriteRun) -> None:
    text = as_markdown(*reports.summary_of(write_synthetic()))
    golden_files.check("reports/synthetic.md", text)


def test_markdown_in_korean(write_synthetic: WriteRun) -> None:
    text = as_markdown(*reports.summary_of(write_synthetic()), KOREAN)
    golden_files.check("reports/synthetic.ko.md", text)


def test_csv(write_synthetic: WriteRun) -> None:
    golden_files.check("reports/synthetic.csv", as_csv(*reports.summary_of(write_synthetic())))


def test_terminal(write_synthetic: WriteRun) -> None:
    stream = io.StringIO()
    print_results(*reports.summary_of(write_synthetic()), stream=stream)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    golden_files.check("reports/synthetic.txt", "\n".join(lines) + "\n")
