"""The verbs of containers that run on their own, or wait to: docker's words and habits.

Several containers may be named at once: what fails for one does not keep the others from it.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime

from runtime import commandline
from runtime.commandline import Parser
from runtime.container.attended import Console, attend, check_terminal, own_size, own_variables
from runtime.container.interrupts import end_on_termination
from runtime.container.kept import files_cli, shown, usage_cli
from runtime.container.kept.finding import find, records
from runtime.container.kept.kept import STOP_LIMIT_S, Held, Kept
from runtime.container.kept.logs import last_lines, pieces
from runtime.container.kept.naming import container_parser
from runtime.container.kept.record import standing
from runtime.container.kept.signals import parse_signal
from runtime.container.launch.process import start
from runtime.container.state import sweep
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, SpecError


def main(verb: str, argv: Sequence[str]) -> int:
    """Do *verb* with its arguments; the exit status. Raises RuntimeFault."""
    arguments = parser_of(verb).parse_args(argv)
    end_on_termination()
    sweep()
    return _VERBS[verb][1](arguments)


def parser_of(verb: str) -> Parser:
    """The options of *verb*."""
    return _VERBS[verb][0]()


def _each(names: Sequence[str], do: Callable[[Kept], object]) -> int:
    """*do* with each, and its name if that went well; 125 if it did not for one of them."""
    status = 0
    for name in names:
        try:
            told = do(Kept(find(name)))
        except RuntimeFault as error:
            status = commandline.ended_by(error)
        else:
            print(name if told is None else told, flush=True)
    return status


# --- what changes how a container is


def _start_parser() -> Parser:
    return container_parser(
        "start", "Start containers that have ended, with all they wrote.", many=True
    )


def _start(arguments: argparse.Namespace) -> int:
    return _each(arguments.containers, _started)


def _started(kept: Kept) -> None:
    for notice in kept.start():
        sys.stderr.write(f"isoscope: {notice}\n")


def _with_time(verb: str, description: str) -> Parser:
    parser = container_parser(verb, description, many=True)
    parser.add_argument(
        "-t", "--time", type=_time, default=STOP_LIMIT_S, metavar="SECONDS",
        help="how long it has to end before it is killed; 10 if not given",
    )  # fmt: skip
    return parser


def _stop_parser() -> Parser:
    return _with_time("stop", "Ask containers to end, as their image says; then kill them.")


def _stop(arguments: argparse.Namespace) -> int:
    return _each(arguments.containers, lambda kept: kept.stop(arguments.time))


def _restart_parser() -> Parser:
    return _with_time("restart", "Stop containers, and start them again.")


def _restart(arguments: argparse.Namespace) -> int:
    def do(kept: Kept) -> None:
        kept.stop(arguments.time)
        _started(kept)

    return _each(arguments.containers, do)


def _kill_parser() -> Parser:
    parser = container_parser("kill", "Send containers a signal, KILL if not given.", many=True)
    parser.add_argument(
        "-s", "--signal", type=_signal, default=int(signal.SIGKILL), metavar="SIGNAL",
        help="name or number, such as TERM, SIGHUP, 9, RTMIN+3",
    )  # fmt: skip
    return parser


def _kill(arguments: argparse.Namespace) -> int:
    return _each(arguments.containers, lambda kept: kept.kill(arguments.signal))


def _wait_parser() -> Parser:
    return container_parser(
        "wait", "Wait until containers have ended; print their statuses.", many=True
    )


def _wait(arguments: argparse.Namespace) -> int:
    return _each(arguments.containers, lambda kept: kept.wait())


def _rm_parser() -> Parser:
    parser = container_parser("rm", "Remove containers with all that they wrote.", many=True)
    parser.add_argument("-f", "--force", action="store_true", help="kill what runs")
    return parser


def _rm(arguments: argparse.Namespace) -> int:
    return _each(arguments.containers, lambda kept: kept.delete(force=arguments.force))


def _rename_parser() -> Parser:
    parser = container_parser("rename", "Give a container another name.", usage="CONTAINER NAME")
    parser.add_argument("name", metavar="NAME")
    return parser


def _rename(arguments: argparse.Namespace) -> int:
    Kept(find(arguments.container)).rename(arguments.name)
    return 0


# --- what shows how it is


def _ps_parser() -> Parser:
    parser = Parser(prog="isoscope ps", description="List the containers that run.")
    parser.add_argument("-a", "--all", action="store_true", help="those too that have ended")
    parser.add_argument("-q", "--quiet", action="store_true", help="their ids and no more")
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    parser.add_argument("--debug", action="store_true", help="show a traceback when we fail")
    return parser


def _ps(arguments: argparse.Namespace) -> int:
    found = [(record, standing(directory, record)) for directory, record in records()]
    found = [pair for pair in found if arguments.all or pair[1].state == "running"]
    if arguments.quiet:
        for record, _ in found:
            print(record.id)
    elif arguments.json:
        print(json.dumps([shown.row(*pair) for pair in found], indent=2))
    else:
        print(commandline.table([*shown.rows(found)]))
    return 0


def _inspect_parser() -> Parser:
    return container_parser("inspect", "All that is known of containers, as JSON.", many=True)


def _inspect(arguments: argparse.Namespace) -> int:
    told = [shown.inspected(Kept(find(name))) for name in arguments.containers]
    print(json.dumps(told, indent=2))
    return 0


def _logs_parser() -> Parser:
    parser = container_parser("logs", "What a container has said.")
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on until it ends")
    add("-n", "--tail", type=_lines, metavar="N", help="the last N lines; all if not given")
    add("--since", type=_since, metavar="TIME", help="90s, 10m, 2h, 2026-11-24T10:00 or seconds")
    add("-t", "--timestamps", action="store_true", help="say when each line was begun")
    return parser


def _logs(arguments: argparse.Namespace) -> int:
    kept = Kept(find(arguments.container))
    since_ns = arguments.since or 0
    if arguments.tail is not None:  # before we follow: only what is there has last lines
        said = [frame for frame in pieces(kept.frames()) if frame.at_ns >= since_ns]
        shown.say(last_lines(said, arguments.tail), timestamps=arguments.timestamps)
        if not arguments.follow:
            return 0
        since_ns = said[-1].at_ns + 1 if said else since_ns
    frames = (each for each in pieces(kept.frames(follow=arguments.follow)))
    recent = (frame for frame in frames if frame.at_ns >= since_ns)
    shown.say(recent, timestamps=arguments.timestamps)
    return 0


# --- one more command inside


def _exec_parser() -> Parser:
    parser = container_parser(
        "exec", "Run one more command in a container.", usage="[OPTION…] CONTAINER CMD…"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="let it run on its own; what it says is lost")
    add("-i", "--interactive", action="store_true", help="pass on what is typed, too")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-e", "--env", action="append", default=[], type=commandline.variable,
        metavar="NAME[=VALUE]", help="set a variable; NAME alone passes on ours")  # fmt: skip
    add("-w", "--workdir", metavar="PATH", help="working directory")
    add("-u", "--user", metavar="USER[:GROUP]", help="user, by name or number")
    return parser


def _exec(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        parser_of("exec").error("CMD is missing")
    kept = Kept(find(arguments.container))
    has_terminal = arguments.tty and not arguments.detach
    env = commandline.environment(arguments.env)
    terminal = None
    if has_terminal:
        check_terminal(reads=arguments.interactive)
        env, terminal = own_variables() | env, own_size()
    with kept.joined(
        arguments.command, env=env, cwd=arguments.workdir, user=arguments.user, terminal=terminal
    ) as (plan, init):
        return _joining(plan, init, arguments)


def _joining(plan: Plan, init: Held, arguments: argparse.Namespace) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    with ExitStack() as undo:
        stdio = (0 if arguments.interactive else null, 1, 2)
        console = None
        if arguments.detach or arguments.tty:
            stdio = (null, null, null)
        if arguments.tty and not arguments.detach:
            console = undo.enter_context(Console())
        process = start(
            plan, stdin=stdio[0], stdout=stdio[1], stderr=stdio[2], init=init.pidfd,
            console=-1 if console is None else console.fileno(),
        )  # fmt: skip
        undo.callback(process.close)
        if arguments.detach:
            process.keep()
            return 0
        if console is not None:
            return attend(process, console, reads=arguments.interactive) or 0
        return process.poll(None) or 0


# --- how values are read


def _time(text: str) -> float:
    """Seconds, also none at all. Raises ArgumentTypeError."""
    return 0.0 if text == "0" else commandline.seconds(text)


def _signal(text: str) -> int:
    try:
        return parse_signal(text)
    except SpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _lines(text: str) -> int:
    return 0 if text == "0" else commandline.whole(text)


def _since(text: str) -> int:
    """A moment as nanoseconds of CLOCK_REALTIME; ``10m`` is so long ago."""
    if (ago := _AGO.fullmatch(text)) is not None and text:
        parts = (float(ago[unit] or 0) * seconds for unit, seconds in _SECONDS.items())
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - int(sum(parts) * 1e9)
    try:
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
            return int(float(text) * 1e9)
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 90s, 10m, 2h, or 2026-11-24T10:00:00"
        ) from None


_SECONDS = {"h": 3600, "m": 60, "s": 1}
_AGO = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]+)?){unit})?" for unit in _SECONDS)
)

_VERBS: Mapping[str, tuple[Callable[[], Parser], Callable[[argparse.Namespace], int]]] = {
    "exec": (_exec_parser, _exec),
    "inspect": (_inspect_parser, _inspect),
    "kill": (_kill_parser, _kill),
    "logs": (_logs_parser, _logs),
    "ps": (_ps_parser, _ps),
    "diff": (files_cli.diff_parser, files_cli.diff),
    "cp": (files_cli.cp_parser, files_cli.cp),
    "stats": (usage_cli.stats_parser, usage_cli.stats),
    "top": (usage_cli.top_parser, usage_cli.top),
    "update": (usage_cli.update_parser, usage_cli.update_limits),
    "rename": (_rename_parser, _rename),
    "restart": (_restart_parser, _restart),
    "rm": (_rm_parser, _rm),
    "start": (_start_parser, _start),
    "stop": (_stop_parser, _stop),
    "wait": (_wait_parser, _wait),
}
"""Verb -> what reads its options, and what does it."""

VERBS = tuple(_VERBS)
