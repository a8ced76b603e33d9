"""The runtime's verbs: ``run`` a container, everything about images, and a registry of them.

The only place of this package that prints and chooses an exit status: the workload's own, 125
for a failure of ours, 126 and 127 for a command that cannot run, 2 for wrong usage.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from runtime import commandline
from runtime.commandline import Parser
from runtime.container.container import Options, container, explain
from runtime.container.interrupts import end_on_termination
from runtime.container.launch.process import CommandNotRunnable
from runtime.container.spec import Limits
from runtime.container.state import instances_of, sweep
from runtime.container.steps import render
from runtime.container.trial import obstacle
from runtime.errors import RuntimeFault, SpecError
from runtime.image import Image, Store, find_image
from runtime.image import cli as image_cli
from runtime.image.registry import cli as registry_cli

_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str]) -> int:
    """Run one verb (``run``, ``image``, ``registry``) with its arguments; the exit status."""
    verb, *rest = argv
    try:
        return _VERBS[verb](rest)
    except RuntimeFault as error:
        status = error.status if isinstance(error, CommandNotRunnable) else commandline.OURS
        return commandline.ended_by(error, status=status, debug="--debug" in rest)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    arguments = run_parser().parse_args(argv)
    image = find_image(Store(), arguments.image)
    command = command_of(image, arguments.command)
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


def run_parser() -> Parser:
    """The options of ``run --on container``."""
    return commandline.run_parser(
        "container",
        description="Run a command of an image in a container, in the foreground.",
        cpus=commandline.cores,
        without={},
    )


def command_of(image: Image, words: Sequence[str]) -> tuple[str, ...]:
    """What runs when the user asks for *words*. Raises SpecError if nobody names a command."""
    command = image.config.command(words)
    if not command:
        raise SpecError("the image names no command", remedy="give one after the image")
    return command


def foreground_options(arguments: argparse.Namespace) -> Options:
    """What the parsed options of ``run`` come to."""
    return Options(
        env=commandline.environment(arguments.env),
        cwd=arguments.workdir,
        user=arguments.user,
        limits=Limits(
            memory_bytes=arguments.memory, cpus=arguments.cpus, pids=arguments.pids_limit
        ),
    )


def _image(argv: Sequence[str]) -> int:
    """The image verbs; an image that instances stand on is not removed under them."""
    end_on_termination()
    return image_cli.main(argv, in_use=instances_of)


def _registry(argv: Sequence[str]) -> int:
    end_on_termination()
    return registry_cli.main(argv, in_use=instances_of)


_VERBS = {"run": _run, "image": _image, "registry": _registry}
