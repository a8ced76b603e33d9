"""``doctor``: what this machine can do, and how to get the rest.

Each rung is printed when it has been tried. Exit status: 0 if host, container and vm all run
here, 1 if one of them does not, 128+n if signal n ended it (130: Ctrl-C), 2 for wrong usage.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TextIO

from benchmarks.doctor.render import Style, render_part, render_rung, render_verdict
from benchmarks.doctor.rung import Rung
from benchmarks.doctor.verdict import Verdict, verdict
from runtime.commandline import Parser
from runtime.container.interrupts import end_on_termination

SCHEMA = 1
_INTERRUPTED = 128 + signal.SIGINT
_UNHEARD = 128 + signal.SIGPIPE


def main(argv: Sequence[str]) -> int:
    """Climb the ladder and say what was found; the exit status."""
    arguments = doctor_parser().parse_args(argv)
    from benchmarks.doctor.ladder import ladder  # noqa: PLC0415 - the engines

    end_on_termination()
    try:
        found = _print_json(ladder()) if arguments.json else _print_text(ladder())
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read us has heard enough; what is buffered has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNHEARD
    return 1 if found.lacking else 0


def doctor_parser() -> Parser:
    """The options of ``doctor``."""
    parser = Parser(
        prog="isoscope doctor",
        description="What this machine can do, each thing tried, and how to get the rest.",
        epilog="exit status: 0 if host, container and vm all run here, 1 if one does not.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _print_json(rungs: Iterable[Rung]) -> Verdict:
    climbed = tuple(rungs)
    found = verdict(climbed)
    document = {
        "schema": SCHEMA,
        "rungs": [asdict(rung) for rung in climbed],
        **asdict(found),
    }
    _say(json.dumps(document, indent=2))
    return found


def _print_text(rungs: Iterable[Rung]) -> Verdict:
    style, climbed = _style(sys.stdout), list[Rung]()
    for rung in rungs:
        if not climbed or climbed[-1].part != rung.part:
            _say(render_part(rung.part, style))
        for line in render_rung(rung, style):
            _say(line)
        climbed.append(rung)
    found = verdict(climbed)
    _say(render_verdict(found))
    return found


def _style(out: TextIO) -> Style:
    """Signs, colours and wrapping for a terminal that can have them; nothing of it for a file."""
    if not out.isatty():
        return Style()
    wants_colours = "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Style(
        columns=os.get_terminal_size(out.fileno()).columns or None,
        has_signs="utf" in out.encoding.lower(),
        has_colours=wants_colours,
    )


def _say(line: str) -> None:
    encoding = sys.stdout.encoding
    sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()
