"""``isoscope report RUN...`` and ``isoscope compare RUN RUN``.

RUN is the folder of a run, or its id under ./results. Exit status: 0; 1 if two runs are not
comparable (what makes them so is printed, and the page is written all the same); 2 for a command
line that cannot be read; 125 if a run is not there or cannot be read, or a report not be written.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.results import RUN_FILE, write_atomically
from reports import publish, summary_of
from reports.words import LANGUAGES, Words
from runtime.commandline import OURS, USAGE, Parser
from runtime.fault import printable

RESULTS = Path("results")
NOT_COMPARABLE = 1


def main(argv: Sequence[str]) -> int:
    """``report``, with *argv* (without the verb); returns the exit status."""
    try:
        options = report_parser().parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    runs = _found(options.runs)
    if isinstance(runs, str):
        return _complain("report", runs, status=OURS)
    if options.format == "html" and options.out is not None and len(runs) > 1:
        return _complain(
            "report", "--out takes one page, but several runs were named", status=USAGE
        )
    try:
        _report(runs, options.format, options.out, Words(language=options.lang))
    except BenchmarkError as wrong:
        return _complain("report", str(wrong), status=OURS)
    return 0


def compare_main(argv: Sequence[str]) -> int:
    """``compare``, with *argv* (without the verb); returns the exit status."""
    try:
        options = compare_parser().parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    runs = _found([options.earlier, options.later])
    if isinstance(runs, str):
        return _complain("compare", runs, status=OURS)
    try:
        is_allowed = _compare(runs, options.format, options.html, Words(language=options.lang))
    except BenchmarkError as wrong:
        return _complain("compare", str(wrong), status=OURS)
    return 0 if is_allowed else NOT_COMPARABLE


def report_parser() -> Parser:
    """The options of ``report``."""
    parser = Parser(prog="isoscope report", description="Write the report of one or more runs.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, or its id")
    parser.add_argument(
        "--format",
        choices=("html", "md", "json", "csv"),
        default="html",
        help="html: report.html in the run's folder; md, json, csv: standard output",
    )
    _add_json(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, help="write there instead")
    return _with_language(parser)


def compare_parser() -> Parser:
    """The options of ``compare``."""
    parser = Parser(
        prog="isoscope compare",
        description="What changed between two runs of one suite on one machine.",
    )
    parser.add_argument("earlier", metavar="EARLIER", help="a run's folder, or its id")
    parser.add_argument("later", metavar="LATER", help="the run to compare with it")
    parser.add_argument(
        "--format",
        choices=("table", "md", "json"),
        default="table",
        help="what goes to standard output",
    )
    _add_json(parser)
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page, too")
    return _with_language(parser)


def _add_json(parser: Parser) -> None:
    """As every verb that prints a table has it."""
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="as --format json"
    )


def _with_language(parser: Parser) -> Parser:
    parser.add_argument("--lang", choices=LANGUAGES, default=LANGUAGES[0], help="the language")
    return parser


def _found(names: Sequence[str]) -> list[Path] | str:
    """The folders of the runs, or a sentence about the first that there is not."""
    folders = []
    for name in names:
        here = (Path(name), RESULTS / name)
        folder = next((each for each in here if (each / RUN_FILE).is_file()), None)
        if folder is None:
            return (
                f"no run {name!r}, neither as a folder nor under ./{RESULTS}; "
                "see what is there with: ls results"
            )
        folders.append(folder)
    return folders


def _report(runs: Sequence[Path], form: str, out: Path | None, words: Words) -> None:
    if form == "html":
        for run in runs:
            _say(publish(run, out=out, words=words))
        return
    _write(_text(runs, form, words), out)


def _text(runs: Sequence[Path], form: str, words: Words) -> str:
    from reports import export  # noqa: PLC0415 - only when asked for

    if form == "csv":
        tables = [export.as_csv(*summary_of(run)).splitlines(keepends=True) for run in runs]
        return "".join([tables[0][0], *(line for table in tables for line in table[1:])])
    render = export.as_markdown if form == "md" else export.as_json_line
    return "".join(f"{render(*summary_of(run), words)}\n" for run in runs)


def _compare(runs: Sequence[Path], form: str, page: Path | None, words: Words) -> bool:
    """Print the comparison and write its page; whether the runs could be compared."""
    from reports import compare, compare_view, export, terminal  # noqa: PLC0415 - numpy

    earlier, later = runs
    compared = compare.compare(summary_of(earlier), summary_of(later), words)
    if form == "table":
        terminal.print_comparison(compared, words=words)
    elif form == "md":
        sys.stdout.write(compare_view.as_markdown(compared, words))
    else:
        sys.stdout.write(f"{export.comparison_as_json_line(compared)}\n")
    if page is not None:
        from reports import html  # noqa: PLC0415 - jinja2 and matplotlib

        write_atomically(page, html.render_comparison(compared, words).encode())
        if form == "table":
            _say(page)
    return compared.is_allowed


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
        return
    write_atomically(out, text.encode())
    _say(out)


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}\n")


def _complain(verb: str, sentence: str, *, status: int) -> int:
    sys.stderr.write(f"isoscope {verb}: {printable(sentence)}\n")
    return status
