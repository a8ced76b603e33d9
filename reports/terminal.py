"""What a bench says when it ends: one table, its noise floor, and what could not run.

Text from the run's files is stripped of control characters (it must not steer a terminal) and is
never read as markup. Without a terminal there are no colours; a console that cannot encode our
signs gets plain ones.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, TextIO

from benchmarks.results import Results
from benchmarks.summary import Row, Summary
from reports import doubts, view
from reports.compare import RunComparison
from reports.compare_view import comparison_table, forbidding
from reports.style import (
    NOTHING,
    format_interval,
    format_ratio,
    format_value,
    printable,
    subject,
)
from reports.verdicts import accelerator_notes, reading_order, verdict_word
from reports.words import ENGLISH, Words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_WIDTH = 100
"""Of sentences that go to a file or a pipe. Rows of tables are not broken there: what reads them
reads lines."""
UNBROKEN_WIDTH = 1000
WIDE = 78
"""Below this many columns only what is compared stands in the table."""
_ASCII = str.maketrans(
    {"\N{EN DASH}": "-", "\N{EM DASH}": "-", "µ": "u", "\N{HORIZONTAL ELLIPSIS}": "~", "±": "+-"}
)


def print_results(
    results: Results,
    summary: Summary,
    *,
    stream: TextIO | None = None,
    words: Words = ENGLISH,
) -> None:
    """Print the summary to *stream*, standard output if None."""
    with _console(stream if stream is not None else sys.stdout) as (console, told):
        for part in _parts(results, summary, told, words, width=console.width):
            _say(console, part)


def print_comparison(
    comparison: RunComparison, *, stream: TextIO | None = None, words: Words = ENGLISH
) -> None:
    """Print what two runs share, do not share, and say of each other."""
    from rich.table import Table  # noqa: PLC0415 - on use only

    shown = comparison_table(comparison, words)
    with _console(stream if stream is not None else sys.stdout) as (console, told):
        lead = words(
            "page.compare_lead", later=comparison.later.run, earlier=comparison.earlier.run
        )
        _say(console, told(lead))
        _say(console, told(forbidding(comparison, words) or words("page.comparable"), 2000))
        for each in comparison.differences:
            _say(console, told(f"  {each.what}: {each.earlier} / {each.later}", 200))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for index, name in enumerate(shown.head[1:]):
            numeric = index in (1, 2)
            table.add_column(told(name), justify="right" if numeric else "left", overflow="fold")
        for metric, rows in groupby(shown.rows, lambda row: row[0]):
            table.add_row(told(metric), style="bold")
            for row in rows:
                table.add_row(*(told(cell, 60).replace(NOTHING, "-") for cell in row[1:]))
        console.print(table)


class _Told(Protocol):
    def __call__(self, text: str, limit: int = 400) -> str:
        """The text as this console can show it: on one line, steering nothing."""


@contextmanager
def _console(out: TextIO) -> "Iterator[tuple[Console, _Told]]":
    """A console on *out*, and what makes a stranger's text fit for it."""
    from rich.console import Console  # noqa: PLC0415 - on use only

    is_plain = not out.isatty()
    can_encode = "utf" in (getattr(out, "encoding", None) or "utf-8").lower()

    def told(text: str, limit: int = 400) -> str:
        clean = printable(text, limit=limit)
        return clean if can_encode else clean.translate(_ASCII).encode("ascii", "replace").decode()

    yield (
        Console(
            file=out,
            width=UNBROKEN_WIDTH if is_plain else _width(out),
            no_color=is_plain,
            highlight=False,
            markup=False,
            emoji=False,
        ),
        told,
    )


def _say(console: "Console", part: "Table | str") -> None:
    """A sentence is broken into lines, a table's rows only by a terminal that is too narrow."""
    is_broken = isinstance(part, str) and console.width == UNBROKEN_WIDTH
    console.print(part, width=PLAIN_WIDTH if is_broken else None)


def _width(terminal: TextIO) -> int:
    """Of this very terminal: rich would ask standard input's."""
    return os.get_terminal_size(terminal.fileno()).columns or PLAIN_WIDTH


def _parts(
    results: Results, summary: Summary, told: _Told, words: Words, *, width: int
) -> "list[Table | str]":
    is_wide = width >= WIDE
    rows = reading_order(summary.rows)
    troubled = [row for row in rows if view.troubles_of(row, words) != NOTHING]
    lines = []
    if not is_wide:
        lines = [words("terminal.n", n=results.run.plan.blocks)]
        lines += [_trouble(row, words) for row in troubled]
    skips = [
        words("terminal.skipped", backend=skip.backend, reason=skip.reason, remedy=skip.remedy)
        for skip in results.run.skipped
    ]
    lines += [
        doubts.floor_sentence(summary.floors, words),
        *doubts.warnings(results, summary, words),
        *accelerator_notes(results.run, words),
        *skips,
    ]
    table = _table(summary, words, is_wide=is_wide, with_troubles=bool(troubled))
    for (workload, metric), group in groupby(rows, lambda row: (row.workload, row.metric)):
        places = {row.workload for row in rows if row.metric.name == metric.name}
        name = f"{metric.name} ({workload})" if len(places) > 1 else metric.name
        table.add_row(told(name, limit=40), style="bold")
        for row in group:
            cells = _cells(row, summary.baseline, words)[: len(table.columns)]
            table.add_row(*(told(cell, limit=60) for cell in cells))
    table.title = told(words("terminal.heading", suite=results.run.suite, run=results.run.run))
    return [table, *(told(line) for line in lines)]


def _table(summary: Summary, words: Words, *, is_wide: bool, with_troubles: bool) -> "Table":
    """On a narrow terminal only what is compared; what else there is to say stands below."""
    from rich.table import Table  # noqa: PLC0415 - on use only

    against = next(subject(row.arm) for row in summary.rows if row.arm.label == summary.baseline)
    gap = 2 if is_wide else 1
    table = Table(box=None, title_justify="left", padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column("", overflow="fold", min_width=17)
    table.add_column(words("column.median"), justify="right", no_wrap=True)
    table.add_column(
        words("column.ratio", base=printable(against, limit=16)),
        overflow="fold",
        min_width=19 if is_wide else None,
    )
    table.add_column(words("column.verdict"), overflow="fold")
    if is_wide:
        table.add_column("n", justify="right", no_wrap=True)
    if is_wide and with_troubles:
        table.add_column(words("column.without"), overflow="fold")
    return table


def _trouble(row: Row, words: Words) -> str:
    return words(
        "terminal.trouble",
        metric=row.metric.name,
        who=subject(row.arm),
        n=row.spread.n if row.spread else 0,
        troubles=view.troubles_of(row, words),
    )


def _cells(row: Row, baseline: str, words: Words) -> tuple[str, ...]:
    compared = row.comparison
    return (
        f"  {subject(row.arm)}",
        format_value(row.spread.median, row.metric.unit) if row.spread else "-",
        _ratio(row, baseline, words),
        verdict_word(row.metric, compared.verdict, compared.margin, words) if compared else "-",
        str(row.spread.n if row.spread else 0),
        view.troubles_of(row, words).replace(NOTHING, "-"),
    )


def _ratio(row: Row, baseline: str, words: Words) -> str:
    if row.arm.label == baseline:
        return words("word.baseline")
    if row.comparison is None:
        return "-"
    ratio = row.comparison.ratio
    if ratio is None:
        return "-"
    interval = f" [{format_interval(ratio.ci95, words)}]" if ratio.ci95 else ""
    return format_ratio(ratio.estimate, words) + interval
