"""``bench``, and ``run`` for the backends that are no engine of their own.

Prints to standard error while it works; the results are files. Exit status: 0 when the run ended
(failed instances are results), 1 when no instance gave a value, 125 for a failure of ours, 128+n
if signal n ended it (130: Ctrl-C), 2 for wrong usage.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.backends import BACKENDS, OWN, PEERS
from benchmarks.errors import BenchmarkError, Interrupted, Terminated
from benchmarks.explain import explained
from benchmarks.failures import failed_arms, has_values
from benchmarks.results import read_run
from benchmarks.suites import SUITES, TOOLS_IMAGE, Suite
from runtime import commandline
from runtime.commandline import Parser
from runtime.container.interrupts import end_on_termination
from runtime.container.launch.process import CommandNotRunnable
from runtime.errors import ImageError, RuntimeFault
from runtime.fault import printable
from runtime.image import Image, Store, find_image

MOST_BLOCKS = 10_000
NOTHING_MEASURED = 1
_BENCH_EPILOG = """\
suites:
{purposes}

examples:
  isoscope bench                                   {own}; the report is with the results
  isoscope bench boot --on container,vm --blocks 20 --seed 1
  isoscope bench --resume results/RUN              go on after Ctrl-C or a crash
  isoscope bench --json >run.json                  progress stays on standard error

--on takes {own} and, where they are installed:
{peers}.
One run at a time measures on a machine: the lock is in /run/lock, or where ISOSCOPE_LOCK says.

exit status: 0 the run ended and something was measured, 1 no instance gave a value, 2 wrong usage,
125 a failure of ours, 128+n ended by signal n, 130 being Ctrl-C (what is finished is kept).
"""
_TOOLS_MADE_BY = (
    "./isoscope image bootstrap debian && ./isoscope image build -t bench"
    " --secret id=sources,src=/etc/apt/sources.list.d/debian.sources benchmarks/images/bench"
)
_DURATION = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", re.ASCII)
_FOREVER_S = 7 * 86400.0
"""How long a command on a peer may run that was given no ``--timeout``."""
_BY_URI = {
    "qemu:///embed": "vm",
    "qemu:///session": "vm:session",
    "qemu:///system": "vm:system",
}
"""The arm that a libvirt's machine is measured as: results say which one it was."""
Publish = Callable[[Path], None]
Document = Callable[[Path], dict[str, object]]


def main(argv: Sequence[str], *, publish: Publish, document: Document) -> int:
    """Run the verb *argv[0]*.

    Of a finished run *publish* is given the folder, to write the report and print a summary; with
    ``--json`` *document* is instead, and what it returns is printed.
    """
    verb, *rest = argv
    try:
        match verb:
            case "bench":
                return _bench(rest, publish, document)
            case "gc":
                return _gc(rest)
            case _:
                return _run(rest)
    except (BenchmarkError, RuntimeFault) as error:
        status = error.status if isinstance(error, CommandNotRunnable) else commandline.OURS
        return commandline.ended_by(error, status=status, debug=_debugs(verb, rest))
    except Interrupted as stopped:
        again = shlex.join(["./isoscope", "bench", "--resume", str(stopped.directory)])
        print(
            f"isoscope: interrupted; what is finished is kept; to go on: {again}", file=sys.stderr
        )
        return 128 + stopped.number
    except Terminated as stopped:  # before there was a run to go on with
        print("isoscope: interrupted", file=sys.stderr)
        return 128 + stopped.number


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _debugs(verb: str, words: Sequence[str]) -> bool:
    """Whether ``--debug`` is ours: after the image it is a word of the command's."""
    if verb != "run":
        return "--debug" in words
    name = words[1] if words[:1] == ["--on"] else "host"
    mine = words[2:] if words[:1] == ["--on"] else words
    return bool(run_parser(name).parse_args(mine).debug)


def _bench(argv: Sequence[str], publish: Publish, document: Document) -> int:
    parser = bench_parser()
    arguments = parser.parse_args(argv)
    if arguments.explain:
        print(explained(SUITES[arguments.suite]))
        return 0
    from benchmarks.stats import MIN_BLOCKS  # noqa: PLC0415 - numpy

    pilot = arguments.blocks or SUITES[arguments.suite].blocks
    if arguments.precision is not None and pilot < MIN_BLOCKS:
        parser.error(f"--precision needs a pilot of {MIN_BLOCKS} blocks or more, not {pilot}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) wants it
            signal.signal(number, _terminated)
    directory = _measured(arguments)
    results = read_run(directory)
    failed, has_any = failed_arms(results), has_values(results)
    if arguments.json:
        found = {"measured": has_any, "failures": [asdict(arm) for arm in failed]}
        print(json.dumps(document(directory) | found))
    else:
        publish(directory)
    for arm in failed:
        print(f"isoscope: {printable(arm.sentence())}", file=sys.stderr)
    if not has_any:
        print("isoscope: nothing was measured", file=sys.stderr)
    return 0 if has_any else NOTHING_MEASURED


def _measured(arguments: argparse.Namespace) -> Path:
    """Measure what is asked for; the run's folder."""
    from benchmarks.harness import Request, bench, resume  # noqa: PLC0415 - heavy
    from benchmarks.progress import watcher  # noqa: PLC0415 - as above

    suite = SUITES[arguments.suite]
    with watcher() as watching:
        if arguments.resume is not None:
            return resume(_run_directory(arguments.resume, arguments.out), watching)
        request = Request(
            suite=suite,
            on=_asked_of(arguments.on, arguments.connect),
            image=_image(suite, arguments.image),
            blocks=arguments.blocks or suite.blocks,
            seed=arguments.seed,
            out=arguments.out,
            command=_again(arguments, suite),
            warmup=arguments.warmup,
            precision_ratio=arguments.precision,
            budget_s=arguments.budget,
        )
        return bench(request, watching)


def _image(suite: Suite, asked: str | None) -> Image:
    """What is run: as asked for, or what *suite* needs. Raises ImageError, BenchmarkError."""
    name = asked or suite.image
    try:
        return find_image(Store(), name)
    except ImageError:
        if name != TOOLS_IMAGE:
            raise
        raise BenchmarkError(
            f"the suite {suite.name!r} needs the image {TOOLS_IMAGE!r}, which is not made yet",
            remedy=f"make it once, in about two minutes: {_TOOLS_MADE_BY}",
        ) from None


def _again(arguments: argparse.Namespace, suite: Suite) -> tuple[str, ...]:
    """The command that measures the same again, in the same order."""
    more: list[str] = []
    if arguments.precision is not None:
        more += ["--precision", f"{100 * arguments.precision:g}%"]
    if arguments.budget is not None:
        more += ["--budget", f"{arguments.budget:g}s"]
    if arguments.warmup is not None:
        more += ["--warmup" if arguments.warmup else "--no-warmup"]
    return (
        "./isoscope", "bench", arguments.suite,
        "--on", ",".join(_asked_of(arguments.on, arguments.connect)),
        "--blocks", str(arguments.blocks or suite.blocks), "--seed", str(arguments.seed),
        "--image", arguments.image or suite.image, *more,
    )  # fmt: skip


def _run_directory(run: Path, out: Path) -> Path:
    """A run by its folder, or by its name under *out*."""
    directory = run if run.is_dir() else out / run
    if not directory.is_dir():
        raise BenchmarkError(f"no run {str(run)!r} here or in {out}", remedy=f"see: ls {out}")
    return directory


def _gc(argv: Sequence[str]) -> int:
    from benchmarks.remains import sweep  # noqa: PLC0415 - only this verb's

    arguments = gc_parser().parse_args(argv)
    removed = sweep()
    if arguments.json:
        print(json.dumps(removed))
    else:
        print("\n".join(f"removed: {line}" for line in removed) or "nothing was left behind")
    return 0


def gc_parser() -> Parser:
    """The options of ``gc``."""
    parser = Parser(
        prog="isoscope gc", description="Remove what killed runs and commands left here."
    )
    parser.add_argument("--json", action="store_true", help="a list of what was removed")
    return parser


def bench_parser() -> Parser:
    """The options of ``bench``."""
    purposes = "\n".join(f"  {each.name:11}{each.purpose}" for each in SUITES.values())
    parser = Parser(
        prog="isoscope bench",
        usage="isoscope bench [SUITE] [--on A,B] [--blocks N] [OPTION…]\n"
        "       isoscope bench --resume RUN",
        description="Measure one image on several backends, in randomised blocks.",
        epilog=_BENCH_EPILOG.format(purposes=purposes, own=", ".join(OWN), peers=", ".join(PEERS)),
    )
    add = parser.add_argument_group("what").add_argument
    add("suite", nargs="?", default="quick", choices=sorted(SUITES), metavar="SUITE",
        help="quick if none is named")  # fmt: skip
    add("--on", type=_backends, default=OWN, metavar="A,B",
        help=f"backends, the baseline first (default: {','.join(OWN)})")  # fmt: skip
    add("--connect", choices=tuple(_BY_URI), default="qemu:///embed", metavar="URI",
        help="the libvirt that vm is asked of: qemu:///embed (if not given), qemu:///session,"
        " qemu:///system; the same as vm:session, vm:system in --on")  # fmt: skip
    add("--image", metavar="IMAGE", help="what every backend runs (default: the suite's)")
    add("--explain", action="store_true",
        help="what the suite asks, and what threatens the answers")  # fmt: skip
    add = parser.add_argument_group("how often, in which order").add_argument
    add("--blocks", type=_positive, metavar="N", help="how many blocks (default: the suite's)")
    narrow = "plan the blocks, those being a pilot, so that intervals are this narrow"
    add("--precision", type=_percent, metavar="P%", help=narrow)
    add("--budget", type=_duration, metavar="TIME",
        help="end within 90s, 20m or 1h30m, with whole blocks")  # fmt: skip
    add("--warmup", action=argparse.BooleanOptionalAction, default=None,
        help="one block that does not count (default: if intervals are asked for)")  # fmt: skip
    add("--seed", type=_seed, default=None, metavar="N", help="of the order; default: a new one")
    add("--resume", type=Path, metavar="RUN", help="go on with this run as it was planned")
    add = parser.add_argument_group("what comes out").add_argument
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="where runs are kept")
    add("--json", action="store_true", help="one JSON object on standard output, at the end")
    add("--debug", action="store_true", help="show a traceback when isoscope itself fails")
    parser.set_defaults(seed=int.from_bytes(os.urandom(4)))
    return parser


def _asked_of(on: Sequence[str], uri: str) -> tuple[str, ...]:
    """The arms, with the machine's replaced by the one of another libvirt."""
    named = (_BY_URI[uri] if name == "vm" else name for name in on)
    return tuple(dict.fromkeys(named))


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise argparse.ArgumentTypeError(f"unknown backend {name!r}: choose from {known}")
    if not names:
        raise argparse.ArgumentTypeError("name at least one backend")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_BLOCKS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of blocks: give 1 or more, at most {MOST_BLOCKS}"
        )
    return int(text)


def _percent(text: str) -> float:
    number = text.removesuffix("%").strip()
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", number) or not 0.1 <= float(number) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no precision: write 5%, from 0.1% to 100%")
    return float(number) / 100


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s, 20m or 1h30m")
    hours, minutes, seconds = (int(each or 0) for each in match.groups())
    if not (spent_s := 3600 * hours + 60 * minutes + seconds):
        raise argparse.ArgumentTypeError(f"{text!r} is no time to measure in")
    return float(spent_s)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: give a whole number below 2^63")
    return int(text)


def _run(argv: Sequence[str]) -> int:
    """``run`` on the backend that ``--on NAME`` at the very front names; ``host`` without it."""
    if argv[:1] == ["--on"] and argv[1] != "host":
        return _run_peer(argv[1], argv[2:])
    return _run_host(argv[2:] if argv[:1] == ["--on"] else argv)


def run_parser(name: str) -> Parser:
    """The options of ``run --on`` *name*: those that the host, or a peer, can honour."""
    without = {"--explain": "it has no plan of ours to show"}
    described = f"Run a command of an image with {name}, as the harness would."
    if name == "host":
        limits = ("--memory", "--cpus", "--pids-limit")
        without |= dict.fromkeys(limits, "a plain process has no limits; leave it out")
        described = "Run a command of an image as a plain process: chroot and nothing else."
    return commandline.run_parser(
        name, description=described, cpus=commandline.cores, without=without
    )


def _run_peer(name: str, argv: Sequence[str]) -> int:
    """A command on a peer, as the harness would run it; its output comes when it has ended."""
    from benchmarks.backend import InstanceSpec, InstanceTimeout  # noqa: PLC0415 - only this verb's
    from benchmarks.launcher import worker  # noqa: PLC0415
    from benchmarks.remains import sweep  # noqa: PLC0415
    from runtime.cli import command_of, foreground_options  # noqa: PLC0415

    arguments = run_parser(name).parse_args(argv)
    end_on_termination()
    image = find_image(Store(), arguments.image)
    options = foreground_options(arguments)
    spec = InstanceSpec(
        image=image.digest,
        argv=command_of(image, arguments.command),
        env=options.env,
        cwd=options.cwd,
        user=options.user,
        stdin=b"" if sys.stdin.isatty() else sys.stdin.buffer.read(),
        cpus=options.limits.cpus,
        memory_bytes=options.limits.memory_bytes,
        pids=options.limits.pids,
    )
    sweep()
    with worker(name) as backend:
        if (why := backend.probe()) is not None:
            raise BenchmarkError(why.reason, remedy=why.remedy)
        backend.prepare(image.digest)
        try:
            with backend.launch(spec) as instance:
                result = instance.wait(timeout_s=arguments.timeout or _FOREVER_S)
        except InstanceTimeout as passed:
            raise BenchmarkError(passed.message) from passed
    sys.stdout.buffer.write(result.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr)
    sys.stderr.buffer.flush()
    return result.exit_status


def _run_host(argv: Sequence[str]) -> int:
    from benchmarks.backends import host  # noqa: PLC0415 - only this verb's
    from runtime.cli import command_of, foreground_options  # noqa: PLC0415

    arguments = run_parser("host").parse_args(argv)
    image = find_image(Store(), arguments.image)
    if (why := host.HostBackend().probe()) is not None:
        raise BenchmarkError(why.reason, remedy=why.remedy)
    status = host.foreground(
        image,
        command_of(image, arguments.command),
        foreground_options(arguments),
        timeout_s=arguments.timeout,
    )
    if status is None:
        raise BenchmarkError(f"no end after {arguments.timeout:g} s, so it was killed")
    return status
