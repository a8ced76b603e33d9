"""What a bench says when it ends: one table, its noise floor, and what could not run.

Text from the run's files is stripped of control characters (it must not steer a terminal) and is
never read as markup. Without a terminal there are no colours; a console that cannot encode our
signs gets plain ones.
"""

import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from benchmarks.results import Results
from benchmarks.summary import Row, Summary
from reports import view
from reports.style import format_interval, format_ratio, format_value, printable, subject
from reports.verdicts import accelerator_notes, verdict_word

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 100
WIDE = 70
"""Below this many columns numbers fold too."""
_ASCII = str.maketrans(
    {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "µ": "u", "\N{HORIZONTAL ELLIPSIS}": "~", "±": "+-"}
)


def print_results(results: Results, summary: Summary, *, stream: TextIO | None = None) -> None:
    """Print the summary to *stream*, standard output if None."""
    from rich.console import Console  # noqa: PLC0415 - on use only

    out = stream if stream is not None else sys.stdout
    is_plain = not out.isatty()
    console = Console(
        file=out,
        width=PLAIN_WIDTH if is_plain else _width(out),
        no_color=is_plain,
        highlight=False,
        markup=False,
        emoji=False,
    )
    can_encode = "utf" in (getattr(out, "encoding", None) or "utf-8").lower()
    for part in _parts(results, summary, has_unicode=can_encode, width=console.width):
        console.print(part)


def _width(terminal: TextIO) -> int:
    """Of this very terminal: rich would ask standard input's."""
    return os.get_terminal_size(terminal.fileno()).columns or PLAIN_WIDTH


def _parts(
    results: Results, summary: Summary, *, has_unicode: bool, width: int
) -> "list[Table | str]":
    def told(text: str, limit: int = 400) -> str:
        clean = printable(text, limit=limit)
        return (
            clean if has_unicode else clean.translate(_ASCII).encode("ascii", "replace").decode()
        )

    skips = [
        f"Skipped {skip.backend}: {skip.reason}. To have it: {skip.remedy}"
        for skip in results.run.skipped
    ]
    lines = [
        view.floor_sentence(summary.floors),
        *view.warnings(results, summary),
        *accelerator_notes(results.run),
        *skips,
    ]
    table = _table(summary, is_wide=width >= WIDE)
    for (workload, metric), rows in groupby(summary.rows, lambda row: (row.workload, row.metric)):
        places = {row.workload for row in summary.rows if row.metric.name == metric.name}
        name = f"{metric.name} ({workload})" if len(places) > 1 else metric.name
        table.add_row(told(name, limit=40), style="bold")
        for row in rows:
            table.add_row(*(told(cell, limit=60) for cell in _cells(row, summary.baseline)))
    table.title = told(f"{results.run.suite}, run {results.run.run}")
    return [table, *(told(line) for line in lines)]


def _table(summary: Summary, *, is_wide: bool) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - on use only

    against = next(subject(row.arm) for row in summary.rows if row.arm.label == summary.baseline)
    table = Table(box=None, title_justify="left", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", min_width=17 if is_wide else None)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column(
        f"ratio to {printable(against, limit=16)}",
        overflow="fold",
        min_width=19 if is_wide else None,
    )
    table.add_column("verdict", overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("without value", overflow="fold")
    return table


def _cells(row: Row, baseline: str) -> tuple[str, ...]:
    return (
        f"  {subject(row.arm)}",
        format_value(row.spread.median, row.metric.unit) if row.spread else "-",
        _ratio(row, baseline),
        verdict_word(row.metric, row.comparison) if row.comparison else "-",
        str(row.spread.n if row.spread else 0),
        view.troubles_of(row).replace(view.NONE, "-"),
    )


def _ratio(row: Row, baseline: str) -> str:
    if row.arm.label == baseline:
        return "baseline"
    if row.comparison is None:
        return "-"
    ratio = row.comparison.ratio
    if ratio is None:
        return "-"
    interval = f" [{format_interval(ratio.ci95)}]" if ratio.ci95 else ""
    return format_ratio(ratio.estimate) + interval
