"""The report as text, compared with plain files: they double as documentation of what it says.

UPDATE_GOLDEN=1 writes the files anew; what changed is then reviewed as a diff.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import reports
from reports.export import as_markdown
from reports.terminal import print_results

WriteRun = Callable[..., Path]
GOLDEN = Path(__file__).parents[2] / "golden" / "reports"


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_markdown(write_synthetic: WriteRun) -> None:
    compare("synthetic.md", as_markdown(*reports.summary_of(write_synthetic())))


def test_terminal(write_synthetic: WriteRun) -> None:
    stream = io.StringIO()
    print_results(*reports.summary_of(write_synthetic()), stream=stream)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    compare("synthetic.txt", "\n".join(lines) + "\n")
