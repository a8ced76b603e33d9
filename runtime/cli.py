"""The runtime's verbs: ``run`` a container, everything about images, and a registry of them.

The only place of this package that prints and chooses an exit status: the workload's own, 125
for a failure of ours, 126 and 127 for a command that cannot run, 2 for wrong usage.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from runtime import commandline, image_verbs
from runtime.commandline import Parser
from runtime.container import protecting
from runtime.container.attachments import DEFAULT_NETWORK, NO_NETWORK, Wishes
from runtime.container.attended import Console, attend, check_terminal, own_size, own_variables
from runtime.container.container import Container, Options, container, explain
from runtime.container.interrupts import end_on_termination
from runtime.container.kept import finding
from runtime.container.kept.kept import Kept, note
from runtime.container.launch.process import CommandNotRunnable
from runtime.container.spec import Limits
from runtime.container.state import sweep
from runtime.container.steps import render
from runtime.container.trial import obstacle
from runtime.errors import RuntimeFault, SpecError
from runtime.image import Image, Store, find_image
from runtime.image.progress import bars
from runtime.network.addresses import check_name
from runtime.network.ports import Port, Protocol, parse_ports
from runtime.volume.mount import MountRequest, parse_mount, parse_tmpfs, parse_volume

_INTERRUPTED = 128 + signal.SIGINT


def main(argv: Sequence[str]) -> int:
    """Run one verb (``run``, ``image``, ``ps``, …) with its arguments; the exit status."""
    verb, *rest = argv
    try:
        if verb in _VERBS:
            return _VERBS[verb](rest)
        from runtime.container.kept import cli as kept_cli  # noqa: PLC0415 - the other verbs'

        return kept_cli.main(verb, rest)
    except RuntimeFault as error:
        status = error.status if isinstance(error, CommandNotRunnable) else commandline.OURS
        return commandline.ended_by(error, status=status, debug=_debugs(verb, rest))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _debugs(verb: str, words: Sequence[str]) -> bool:
    """Whether ``--debug`` is ours: after the image it is a word of the command's."""
    if verb == "run":
        return bool(run_parser().parse_args(words).debug)
    return "--debug" in words


def _run(argv: Sequence[str]) -> int:
    arguments = run_parser().parse_args(argv)
    image = find_image(Store(), arguments.image)
    command = command_of(image, arguments.command)
    attached = _wishes(arguments, image.config.exposed)
    options = protecting.protected(foreground_options(arguments), arguments)
    options = replace(options, attached=attached)
    if arguments.tty and not (arguments.detach or arguments.explain):
        check_terminal(reads=arguments.interactive)
        env = own_variables() | dict(options.env)
        options = replace(options, env=env, terminal=own_size())
    if arguments.explain:
        print(render(explain(image, command, options)), end="")
        return 0
    if os.geteuid() != 0 and (why := obstacle()) is not None:  # we could not become root
        raise why
    sweep()
    end_on_termination()
    if arguments.detach:
        return _detached(image, command, options, arguments)
    return _foreground(image, command, options, arguments)


def _detached(
    image: Image, command: Sequence[str], options: Options, arguments: argparse.Namespace
) -> int:
    """Start it, and say which it is."""
    for option, is_given in (
        ("-t", arguments.tty), ("-i", arguments.interactive), ("--timeout", arguments.timeout),
    ):  # fmt: skip
        if is_given:
            raise SpecError(
                f"{option} makes no sense with -d: nobody would be there for it",
                remedy="leave one out; isoscope exec -it goes into one that runs",
            )
    made, notices = Kept.run(
        image, command, options,
        name=arguments.name, image_name=arguments.image, is_kept=not arguments.rm,
    )  # fmt: skip
    for notice in notices:
        print(f"isoscope: {notice}", file=sys.stderr)
    print(made.id)
    return 0


def _foreground(
    image: Image, command: Sequence[str], options: Options, arguments: argparse.Namespace
) -> int:
    """Run with our own descriptors, or a terminal, as the workload's; end with its status."""
    if arguments.name:
        with finding.naming(arguments.name):
            pass  # said before anything is made; it is taken when it runs
    null = os.open(os.devnull, os.O_RDWR)
    no_input = sys.stdin is None or (sys.stdin.isatty() and not arguments.interactive)
    stdio = (null if no_input else 0, 1, 2)
    with ExitStack() as undo:
        console = None
        if options.terminal is not None:
            stdio = (null, null, null)
            console = undo.enter_context(Console())
        running = undo.enter_context(
            container(image, command, options, stdio=stdio, console=_number(console), showing=bars)
        )
        _tell(running, {port.host for port in options.attached.ports})
        note(running, image, options, name=arguments.name, asked=arguments.image)
        if console is None:
            status = running.process.poll(arguments.timeout)
        else:
            reads, limit_s = arguments.interactive, arguments.timeout
            status = attend(running.process, console, reads=reads, timeout_s=limit_s)
    if status is None:
        raise RuntimeFault(f"no end after {arguments.timeout:g} s, so it was killed")
    return status


def _number(console: Console | None) -> int:
    return -1 if console is None else console.fileno()


def _tell(running: Container, chosen: set[int]) -> None:
    """What the user must know of the network: what was changed, which ports were found."""
    if running.network is not None:
        for notice in running.network.notices:
            print(f"isoscope: {notice}", file=sys.stderr)
        for port in running.network.ports:
            if port.host not in chosen:
                print(f"isoscope: published {port}", file=sys.stderr)


def run_parser() -> Parser:
    """The options of ``run --on container``."""
    return commandline.run_parser(
        "container",
        description="Run a command of an image in a container, in the foreground.",
        cpus=commandline.cores,
        without={},
        attach=_attach,
    )


def command_of(image: Image, words: Sequence[str]) -> tuple[str, ...]:
    """What runs when the user asks for *words*. Raises SpecError if nobody names a command."""
    command = image.config.command(words)
    if not command:
        raise SpecError("the image names no command", remedy="give one after the image")
    return command


def _attach(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "-v",
        "--volume",
        action="append",
        dest="mounts",
        default=[],
        type=_read_volume,
        metavar="SOURCE:PATH[:ro]",
        help="a directory or file of the host, or a volume by name",
    )
    add(
        "--mount",
        action="append",
        dest="mounts",
        type=_read_mount,
        metavar="FIELDS",
        help="the same in words: type=bind|volume|tmpfs,source=…,target=…[,readonly]",
    )
    add(
        "--tmpfs",
        action="append",
        dest="mounts",
        type=commandline.reading(parse_tmpfs),
        metavar="PATH[:OPTIONS]",
        help="memory, such as /run:size=16m,mode=755",
    )
    add(
        "--network",
        metavar="NETWORK",
        help="none, host, bridge, container:ID, or one from 'isoscope network create';"
        " none if not given, bridge with -p and -P",
    )
    add(
        "-p",
        "--publish",
        action="append",
        dest="ports",
        default=[],
        type=commandline.reading(parse_ports),
        metavar="[[IP:]HOST:]PORT[/udp]",
        help="lead a port of this machine inside",
    )
    add(
        "-P",
        "--publish-all",
        action="store_true",
        help="lead a free port to each that the image exposes",
    )
    add("--name", metavar="NAME", help="it is found by this, also by members of its network")
    add("-d", "--detach", action="store_true", help="print its id and let it run on its own")
    add("-i", "--interactive", action="store_true", help="pass on what is typed, too")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("--rm", action="store_true", help="with -d: remove it when it has ended")
    protecting.add_options(group)


def _read_volume(text: str) -> MountRequest:
    return commandline.reading(partial(parse_volume, cwd=os.getcwd()))(text)  # noqa: PTH109 - a string


def _read_mount(text: str) -> MountRequest:
    return commandline.reading(partial(parse_mount, cwd=os.getcwd()))(text)  # noqa: PTH109 - a string


def foreground_options(arguments: argparse.Namespace) -> Options:
    """What the options of ``run`` that all backends have come to."""
    return Options(
        env=commandline.environment(arguments.env),
        cwd=arguments.workdir,
        user=arguments.user,
        limits=Limits(
            memory_bytes=arguments.memory, cpus=arguments.cpus, pids=arguments.pids_limit
        ),
    )


def _wishes(arguments: argparse.Namespace, exposed: Sequence[tuple[int, Protocol]]) -> Wishes:
    ports = [port for given in arguments.ports or () for port in given]
    if arguments.publish_all:
        inside = {(port.inside, port.protocol) for port in ports}
        ports += [Port(inside=n, protocol=p) for n, p in exposed if (n, p) not in inside]
    implied = DEFAULT_NETWORK if ports or arguments.publish_all else NO_NETWORK
    return Wishes(
        mounts=tuple(arguments.mounts or ()),
        network=implied if arguments.network is None else arguments.network,
        ports=tuple(ports),
        names=() if arguments.name is None else (check_name(arguments.name, of="a container"),),
    )


def _network(argv: Sequence[str]) -> int:
    from runtime.network import cli as network_cli  # noqa: PLC0415 - only this verb's

    return network_cli.main(argv)


def _volume(argv: Sequence[str]) -> int:
    from runtime.volume import cli as volume_cli  # noqa: PLC0415 - only this verb's

    sweep()
    return volume_cli.main(argv)


def _commit(argv: Sequence[str]) -> int:
    from runtime.build import commit_cli  # noqa: PLC0415 - only this verb's

    return commit_cli.main(argv)


_VERBS = {
    "commit": _commit,
    "run": _run,
    "image": image_verbs.image,
    "network": _network,
    "registry": image_verbs.registry,
    "volume": _volume,
}
