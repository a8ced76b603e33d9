"""The summary for other programs and other pages: one line of JSON, CSV, or Markdown."""

import csv
import io

from benchmarks.results import Results
from benchmarks.stats import Interval
from benchmarks.strict_json import as_json
from benchmarks.summary import Row, Summary
from reports import circumstances, doubts, odds, view
from reports.compare import RunComparison
from reports.style import printable
from reports.table import Table
from reports.validity import checks
from reports.verdicts import accelerator_notes, statements
from reports.words import ENGLISH, Words

_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|!&~$"})
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
CSV_COLUMNS = (
    "run", "suite", "workload", "metric", "unit", "direction", "label", "backend", "accelerator",
    "n", "median", "p5", "p95", "low", "high", "baseline", "ratio", "ci95_low", "ci95_high",
    "margin", "verdict", "failed", "timeout", "skipped", "retries", "missing_blocks",
    "lost_blocks", "p", "q", "cliffs_delta",
)  # fmt: skip


def as_json_line(results: Results, summary: Summary, words: Words = ENGLISH) -> str:
    """Everything in the summary and every sentence, as one JSON object on one line."""
    sentences = [statement.text for statement in statements(summary, words)]
    notes = [*accelerator_notes(results.run, words), *doubts.warnings(results, summary, words)]
    return as_json(
        {
            "schema": 1,
            "run": results.run.run,
            "suite": results.run.suite,
            "sentences": sentences,
            "notes": notes,
            "checks": checks(results, summary, words),
            "summary": summary,
        }
    ).decode()


def comparison_as_json_line(comparison: RunComparison) -> str:
    """Two runs side by side, as one JSON object on one line."""
    return as_json(
        {
            "schema": 1,
            "earlier": comparison.earlier.run,
            "later": comparison.later.run,
            "comparable": comparison.is_allowed,
            "differences": comparison.differences,
            "cells": comparison.cells,
        }
    ).decode()


def as_csv(results: Results, summary: Summary) -> str:
    """A row for each metric and label, numbers in their units; an empty cell is a gap."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in summary.rows:
        cells = (results.run.run, results.run.suite, *_csv_cells(row, summary.baseline))
        writer.writerow([_inert(cell) for cell in cells])
    return text.getvalue()


def as_markdown(results: Results, summary: Summary, words: Words = ENGLISH) -> str:
    """Sentences and tables, for an issue or a wiki; every text from the run is escaped."""
    heading = words("terminal.heading", suite=results.run.suite, run=results.run.run)
    parts = [f"# {escaped(heading)}"]
    notes = (*accelerator_notes(results.run, words), *doubts.warnings(results, summary, words))
    parts += [f"> {escaped(note)}" for note in notes]
    parts.append("\n".join(f"- {escaped(said.text)}" for said in statements(summary, words)))
    parts += [as_markdown_table(each.table) for each in view.metric_tables(summary, words)]
    parts.append(escaped(doubts.floor_sentence(summary.floors, words)))
    further = (
        odds.evidence_table(summary, words),
        view.footprint_table(results.run, summary, words),
        doubts.check_table(results, summary, words),
        circumstances.inequality_table(results, summary, words),
        doubts.trouble_table(results, words),
        doubts.skipped_table(results.run, words),
        circumstances.preparation_table(results.run, words),
        circumstances.provenance_table(results.run, words),
    )
    parts += [as_markdown_table(table) for table in further if table.rows]
    return "\n\n".join(parts) + "\n"


def as_markdown_table(table: Table) -> str:
    """The table with its caption; every cell is escaped."""
    lines = [
        f"**{escaped(table.caption)}**",
        "",
        _line(table.head),
        _line(("---",) * len(table.head), is_text=False),
        *(_line(row) for row in table.rows),
    ]
    return "\n".join(lines)


def _csv_cells(row: Row, baseline: str) -> tuple[str | int | float | None, ...]:
    spread, comparison = row.spread, row.comparison
    ratio = comparison.ratio if comparison else None
    seen = comparison.evidence if comparison else None
    return (
        row.workload,
        row.metric.name,
        row.metric.unit,
        row.metric.direction,
        row.arm.label,
        row.arm.backend,
        row.arm.accelerator,
        spread.n if spread else 0,
        *(getattr(spread, name, None) for name in ("median", "p5", "p95", "low", "high")),
        baseline,
        ratio.estimate if ratio else None,
        *_ends(ratio.ci95 if ratio else None),
        comparison.margin if comparison else None,
        str(comparison.verdict) if comparison else None,
        row.counts.failed,
        row.counts.timeout,
        row.counts.skipped,
        row.counts.retries,
        row.counts.missing_blocks,
        comparison.lost if comparison else None,
        *((seen.p, seen.q, seen.delta) if seen else (None, None, None)),
    )


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)


def _inert(cell: str | float | None) -> str | int | float | None:
    """A stranger's text that steers no terminal and that no spreadsheet takes for a formula."""
    if not isinstance(cell, str):
        return cell
    return printable(f"'{cell}" if cell.startswith(_FORMULA) else cell)


def _line(cells: tuple[str, ...], *, is_text: bool = True) -> str:
    return "| " + " | ".join(escaped(cell) if is_text else cell for cell in cells) + " |"


def escaped(text: str) -> str:
    """Text on one line that no Markdown reader takes for markup and no terminal for a command."""
    line = " ".join(text.split())
    return printable(line, limit=len(line)).translate(_MARKDOWN)
