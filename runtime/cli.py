"""The runtime's verbs: ``run`` a container, and everything about images.

The only place of this package that prints and chooses an exit status: the workload's own, 125
for a failure of ours, 126 and 127 for a command that cannot run, 2 for wrong usage.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from runtime.container.container import Options, container, explain
from runtime.container.interrupts import end_on_termination
from runtime.container.launch.process import CommandNotRunnable
from runtime.container.spec import Limits
from runtime.container.state import instances_of, sweep
from runtime.container.steps import render
from runtime.container.trial import obstacle
from runtime.errors import RuntimeFault
from runtime.image import Image, Store, find_image
from runtime.image import cli as image_cli

OURS = 125
_INTERRUPTED = 128 + signal.SIGINT
_LARGEST = 1e9
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def main(argv: Sequence[str]) -> int:
    """Run one verb (``run`` or ``image``) with its arguments; the exit status."""
    verb, *rest = argv
    debug = "--debug" in rest
    try:
        return _VERBS[verb](rest)
    except RuntimeFault as error:
        if debug:
            raise
        print(f"isoscope: {error}", file=sys.stderr)
        return error.status if isinstance(error, CommandNotRunnable) else OURS
    except KeyboardInterrupt:
        return _INTERRUPTED


class OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line that names the next command to type."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong; exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see '{self.prog} --help'\n")


def size(text: str) -> int:
    """``64m`` -> bytes, with docker's binary suffixes b, k, m, g, t. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([bkmgt]?)b?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or 64m, 1g")
    amount = float(match[1]) * _UNITS[match[2]]
    if amount >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is more than any machine has")
    return int(amount)


def cores(text: str) -> float:
    """A positive number of cores, such as 0.5. Raises ArgumentTypeError."""
    return _positive(text, "a number of cores")


def seconds(text: str) -> float:
    """A positive, finite time. Raises ArgumentTypeError."""
    return _positive(text, "a time in seconds")


def _positive(text: str, noun: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < _LARGEST:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"{text!r} is not {noun}: write a number such as 1.5")
    return number


def environment(entries: Sequence[str]) -> Mapping[str, str]:
    """``NAME=value`` sets; ``NAME`` alone passes ours on, if there is one (docker's rule)."""
    pairs = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            pairs[name] = value
        elif name in os.environ:
            pairs[name] = os.environ[name]
    return pairs


def _run(argv: Sequence[str]) -> int:
    arguments = run_parser(limits=True).parse_args(argv)
    image = find_image(Store(), arguments.image)
    command = image.config.command(arguments.command)
    options = foreground_options(arguments)
    if arguments.explain:
        print(render(explain(image, command, options)), end="")
        return 0
    if os.geteuid() != 0 and (why := obstacle()) is not None:
        raise why
    sweep()
    return _foreground(image, command, options, timeout_s=arguments.timeout)


def _foreground(
    image: Image, command: Sequence[str], options: Options, *, timeout_s: float | None
) -> int:
    """Run with our own descriptors as the workload's; end with its status."""
    end_on_termination()
    stdin = os.open(os.devnull, os.O_RDONLY) if sys.stdin is None or sys.stdin.isatty() else 0
    with container(image, command, options, stdio=(stdin, 1, 2)) as running:
        status = running.process.poll(timeout_s)
    if status is None:
        raise RuntimeFault(f"no end after {timeout_s:g} s, so it was killed")
    return status


def run_parser(*, limits: bool) -> argparse.ArgumentParser:
    """The options of ``run``; without *limits* those that need a container are left out."""
    parser = OneLineParser(
        prog="isoscope run", description="Run a command of an image, in the foreground."
    )
    add = parser.add_argument
    add("--on", metavar="BACKEND", help="container (if not given), vm or host")
    add("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    add("-w", "--workdir", metavar="DIR", help="working directory inside; made if missing")
    add("-u", "--user", metavar="USER[:GROUP]", help="user inside, by name or number")
    add("--timeout", type=seconds, metavar="SECONDS", help="kill it if it has not ended by then")
    add("--debug", action="store_true", help="show a traceback when isoscope itself fails")
    if limits:
        add("-m", "--memory", type=size, metavar="SIZE", help="memory limit, such as 64m")
        add("--cpus", type=cores, metavar="N", help="cpu limit in cores, such as 0.5")
        add("--pids-limit", type=int, metavar="N", help="how many processes it may have")
        add("--explain", action="store_true", help="print the plan, call by call; run nothing")
    add("image", metavar="IMAGE", help="a reference or digest; see 'isoscope image ls'")
    add("command", nargs=argparse.REMAINDER, metavar="CMD", help="instead of the image's own")
    return parser


def foreground_options(arguments: argparse.Namespace) -> Options:
    """What the parsed options of ``run`` come to."""
    return Options(
        env=environment(arguments.env),
        cwd=arguments.workdir,
        user=arguments.user,
        limits=Limits(
            memory_bytes=getattr(arguments, "memory", None),
            cpus=getattr(arguments, "cpus", None),
            pids=getattr(arguments, "pids_limit", None),
        ),
    )


def _image(argv: Sequence[str]) -> int:
    """The image verbs; an image that instances stand on is not removed under them."""
    if argv[:1] == ["rm"]:
        store = Store()
        for name in argv[1:]:
            if name.startswith("-"):
                continue
            if running := instances_of(store.resolve(name).digest):
                raise RuntimeFault(
                    f"{name} is in use by {', '.join(running)}", remedy="end what runs first"
                )
    return image_cli.main(argv)


_VERBS = {"run": _run, "image": _image}
