"""The summary for other programs and other pages: one line of JSON, or Markdown."""

from benchmarks.results import Results
from benchmarks.strict_json import as_json
from benchmarks.summary import Summary
from reports import view
from reports.verdicts import accelerator_notes, statements

_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_{}[]<>#|!&~"})


def as_json_line(results: Results, summary: Summary) -> str:
    """Everything in the summary and every sentence, as one JSON object on one line."""
    sentences = [statement.text for statement in statements(summary)]
    return as_json(
        {
            "schema": 1,
            "run": results.run.run,
            "suite": results.run.suite,
            "sentences": sentences,
            "notes": [*accelerator_notes(results.run), *view.warnings(results, summary)],
            "summary": summary,
        }
    ).decode()


def as_markdown(results: Results, summary: Summary) -> str:
    """Sentences and tables, for an issue or a wiki; every text from the run is escaped."""
    parts = [f"# {_text(results.run.suite)}, run {_text(results.run.run)}"]
    parts += [
        f"> {_text(note)}"
        for note in (*accelerator_notes(results.run), *view.warnings(results, summary))
    ]
    parts.append("\n".join(f"- {_text(said.text)}" for said in statements(summary)))
    parts += [_table(each.table) for each in view.metric_tables(summary)]
    parts.append(_text(view.floor_sentence(summary.floors)))
    further = (
        view.inequality_table(results, summary),
        view.trouble_table(results),
        view.skipped_table(results.run),
        view.preparation_table(results.run),
        view.provenance_table(results.run),
    )
    parts += [_table(table) for table in further if table.rows]
    return "\n\n".join(parts) + "\n"


def _table(table: view.Table) -> str:
    lines = [
        f"**{_text(table.caption)}**",
        "",
        _line(table.head),
        _line(("---",) * len(table.head), is_text=False),
        *(_line(row) for row in table.rows),
    ]
    return "\n".join(lines)


def _line(cells: tuple[str, ...], *, is_text: bool = True) -> str:
    return "| " + " | ".join(_text(cell) if is_text else cell for cell in cells) + " |"


def _text(text: str) -> str:
    """Text on one line that no Markdown reader takes for markup."""
    return " ".join(text.split()).translate(_MARKDOWN)
