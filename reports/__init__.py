"""What a run's results say, for people: one offline page, a table in the terminal, Markdown, data.

Reads results and statistics, measures nothing. matplotlib, jinja2 and rich are imported when
something is rendered. Every text is there in English and in Korean (``reports.words``).
"""

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import Results, read_run, write_atomically
from reports.words import ENGLISH, Words

if TYPE_CHECKING:
    from benchmarks.summary import Summary

__all__ = ["ENGLISH", "Words", "print_summary", "publish", "summary_of"]

REPORT_FILE = "report.html"


def summary_of(directory: Path) -> "tuple[Results, Summary]":
    """A run's results with their summary, seeded as the run. Raises BenchmarkError."""
    from benchmarks.summary import summarise  # noqa: PLC0415 - numpy

    results = read_run(directory)
    return results, summarise(results, seed=results.run.plan.seed)


def publish(directory: Path, *, out: Path | None = None, words: Words = ENGLISH) -> Path:
    """Write a run's page, whole or not at all, and say where it is.

    It goes to ``report.html`` in the run's folder, or to *out*.
    The same results give the same bytes. Raises BenchmarkError.
    """
    from reports import html  # noqa: PLC0415 - jinja2 and matplotlib

    page = html.render(*summary_of(directory), words)
    path = directory / REPORT_FILE if out is None else out
    write_atomically(path, page.encode())
    return path


def print_summary(directory: Path, *, words: Words = ENGLISH) -> None:
    """Print a run's table to standard output. Raises BenchmarkError."""
    from reports import terminal  # noqa: PLC0415 - rich

    terminal.print_results(*summary_of(directory), words=words)
