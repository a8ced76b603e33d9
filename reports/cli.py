"""``isoscope report RUN... [--format html|md|json] [--out FILE]``.

RUN is the folder of a run, or its id under ./results. Exit status: 0; 2 for a usage error or an
unknown run; 1 if a run cannot be read or a report cannot be written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.results import RUN_FILE, write_atomically
from reports import publish, summary_of

RESULTS = Path("results")


def main(argv: Sequence[str]) -> int:
    """Run the command line in *argv* (without the program's name); returns the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    runs = [_find(name) for name in options.runs]
    unknown = [name for name, found in zip(options.runs, runs, strict=True) if found is None]
    if unknown:
        return _complain(
            f"no run {unknown[0]!r}, neither as a folder nor under ./{RESULTS}; "
            "see what is there with: ls results",
            status=2,
        )
    if options.format == "html" and options.out is not None and len(runs) > 1:
        return _complain("--out takes one page, but several runs were named", status=2)
    try:
        _report([run for run in runs if run is not None], options.format, options.out)
    except BenchmarkError as wrong:
        return _complain(str(wrong), status=1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isoscope report", description="Write the report of one or more runs."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run's folder, or its id")
    parser.add_argument(
        "--format",
        choices=("html", "md", "json"),
        default="html",
        help="html: report.html in the run's folder; md, json: standard output",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write there instead")
    return parser


def _find(name: str) -> Path | None:
    for directory in (Path(name), RESULTS / name):
        if (directory / RUN_FILE).is_file():
            return directory
    return None


def _report(runs: Sequence[Path], form: str, out: Path | None) -> None:
    if form == "html":
        for run in runs:
            _say(publish(run, out=out))
        return
    from reports import export  # noqa: PLC0415 - only when asked for

    render = export.as_markdown if form == "md" else export.as_json_line
    text = "".join(f"{render(*summary_of(run))}\n" for run in runs)
    if out is None:
        sys.stdout.write(text)
        return
    write_atomically(out, text.encode())
    _say(out)


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}\n")


def _complain(sentence: str, *, status: int) -> int:
    sys.stderr.write(f"isoscope report: {sentence}\n")
    return status
