"""``isoscope results``: which runs there are, what one says, and its samples for other programs.

Exit status: 0; 2 for a command line that cannot be read; 125 if a run is not there or cannot be
read, or a file not be written.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError, ResultsError
from benchmarks.results import RUN_FILE, Run, read_record, read_run, write_atomically
from benchmarks.strict_json import as_json
from reports import samples
from runtime.commandline import OURS, Parser, table
from runtime.fault import printable

RESULTS = Path("results")
_EPILOG = """\
examples:
  isoscope results ls
  isoscope results show RUN
  isoscope results export RUN --format csv >samples.csv
  isoscope results export RUN --format pytest-benchmark --out run.json
  isoscope results import pytest.json            its rounds as a run; then: isoscope report RUN
"""


def main(argv: Sequence[str]) -> int:
    """``results``, with *argv* (without the verb); returns the exit status."""
    options = results_parser().parse_args(argv)
    try:
        match options.verb:
            case "ls":
                _list(options.folder, is_json=options.json)
            case "show":
                _show(found(options.run))
            case "export":
                _export(found(options.run), options.format, options.out)
            case _:
                sys.stdout.write(f"{samples.imported(options.file, options.out)}\n")
    except BenchmarkError as wrong:
        sys.stderr.write(f"isoscope results: {printable(str(wrong))}\n")
        return OURS
    return 0


def results_parser() -> Parser:
    """The options of ``results``."""
    parser = Parser(
        prog="isoscope results", description="Runs, and their samples.", epilog=_EPILOG
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    ls = verbs.add_parser("ls", help="the runs there are, latest last")
    ls.add_argument("folder", nargs="?", type=Path, default=RESULTS, metavar="DIR")
    ls.add_argument("--json", action="store_true", help="one JSON list")
    show = verbs.add_parser("show", help="the table of a run")
    show.add_argument("run", metavar="RUN", help="a run's folder, or its id")
    export = verbs.add_parser("export", help="every sample, for other programs")
    export.add_argument("run", metavar="RUN", help="a run's folder, or its id")
    export.add_argument("--format", choices=tuple(samples.FORMATS), default="csv")
    export.add_argument("--out", type=Path, metavar="FILE", help="write there; parquet needs it")
    taken = verbs.add_parser("import", help="a file of pytest-benchmark's, as a run")
    taken.add_argument("file", type=Path, metavar="FILE", help="of --benchmark-json")
    taken.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where runs are")
    return parser


def found(name: str) -> Path:
    """A run by its folder or its id. Raises ResultsError."""
    for folder in (Path(name), RESULTS / name):
        if (folder / RUN_FILE).is_file():
            return folder
    raise ResultsError(
        f"no run {name!r}, neither as a folder nor under ./{RESULTS}",
        remedy="see: isoscope results ls",
    )


def _list(folder: Path, *, is_json: bool) -> None:
    """What cannot be read is named, and hides nothing else."""
    runs: list[Run] = []
    for path in sorted(folder.glob(f"*/{RUN_FILE}")):
        try:
            runs.append(read_record(path.parent))
        except BenchmarkError as wrong:
            sys.stderr.write(f"isoscope results: {printable(str(wrong))}\n")
    runs.sort(key=lambda run: run.started_at)
    rows = [_told(run) for run in runs]
    if is_json:
        names = ("run", "suite", "outcome", "blocks", "arms", "started")
        told = [dict(zip(names, row, strict=True)) for row in rows]
        sys.stdout.write(as_json(told).decode() + "\n")
    else:
        head = ("RUN", "SUITE", "OUTCOME", "BLOCKS", "ARMS", "STARTED")
        sys.stdout.write(table([head, *rows]) + "\n")


def _told(run: Run) -> tuple[str, ...]:
    arms = ",".join(arm.label for arm in run.plan.backends)
    return run.run, run.suite, run.outcome, str(run.plan.blocks), arms, run.started_at


def _show(directory: Path) -> None:
    from reports import print_summary  # noqa: PLC0415 - rich and numpy

    print_summary(directory)


def _export(directory: Path, form: str, out: Path | None) -> None:
    content = samples.FORMATS[form](read_run(directory))
    if out is not None:
        write_atomically(out, content)
        sys.stdout.write(f"{out}\n")
    elif form == "parquet":
        raise ResultsError("parquet is no text to print", remedy="give --out FILE")
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
