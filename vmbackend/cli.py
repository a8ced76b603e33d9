"""``isoscope run --on vm``: one command in one machine, with docker's habits."""

import argparse
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import get_args

from runtime import commandline
from runtime.commandline import Parser
from runtime.fault import printable
from runtime.image import ImageError, Store, find_image
from vmbackend.accelerator import accelerator
from vmbackend.channel import Kind
from vmbackend.command import Completed
from vmbackend.connection import EMBEDDED, Connection, parse_connection
from vmbackend.errors import MachineError, MachineSpecError
from vmbackend.machine import Machine, explain, machine
from vmbackend.network import NetworkChoice, Port, parse_port
from vmbackend.remains import sweep
from vmbackend.share import Share, parse_share
from vmbackend.spec import MIB, BootProfile, MachineSpec

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_CHUNK_BYTES = 64 << 10
_DEFAULT_LIMIT_S = threading.TIMEOUT_MAX


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception: nothing on the way may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str]) -> int:
    """Run what the words after ``run --on vm`` say; the exit status is the command's own.

    125: ours, said in one line; 126 and 127 as docker; 2: usage; 128+n: ended by signal n.
    """
    options = run_parser().parse_args(argv)
    with signals_raise():
        try:
            return _run(options)
        except (MachineError, ImageError) as error:
            return commandline.ended_by(error, debug=options.debug)
        except BrokenPipeError:
            return 128 + signal.SIGPIPE
        except Interrupted as interrupt:
            return 128 + interrupt.number


def _run(options: argparse.Namespace) -> int:
    spec = _spec(options)
    if options.explain:
        sys.stdout.write(explain(spec))
        return 0
    sweep()
    chosen = accelerator(spec.accelerator)
    if chosen.name != "kvm" and not options.quiet:
        _say(f"isoscope: note: {printable(chosen.sentence)}")
    feeding = options.interactive or not sys.stdin.isatty()
    with machine(spec, feeding=feeding, sink=_write_out) as guest:
        if feeding:
            threading.Thread(target=_pump, args=(guest,), name="stdin", daemon=True).start()
        done = guest.wait(timeout_s=options.timeout or _DEFAULT_LIMIT_S)
    _tell_failure(done, spec)
    return done.exit_status


def _spec(options: argparse.Namespace) -> MachineSpec:
    image = find_image(Store(), options.image)
    argv = image.config.command(options.command)
    if not argv:
        raise MachineError(f"{options.image} names no command", remedy="give one after the image")
    return MachineSpec(
        image=image.digest,
        argv=argv,
        env=commandline.environment(options.env),
        cwd=options.workdir,
        user=options.user,
        cpus=options.cpus,
        memory_bytes=options.memory,
        accelerator=options.accel,
        profile=options.profile,
        network=options.network,
        ports=tuple(options.ports),
        shares=tuple(options.shares),
        connection=options.connect,
        has_balloon=options.balloon,
    )


def run_parser() -> Parser:
    """The options of ``run --on vm``: those of every backend, and how a machine is made."""
    parser = commandline.run_parser(
        "vm",
        description="Run a command of an image in a virtual machine, in the foreground.",
        cpus=commandline.whole,
        without={"--pids-limit": "a machine has a kernel of its own, which nothing counts for"},
        attach=_attach,
    )
    parser.set_defaults(memory=256 * MIB, cpus=1)
    add = parser.add_argument_group("machine; 256m and 1 processor if not given").add_argument
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="KVM, or emulated (TCG)")
    add("--profile", choices=get_args(BootProfile), default="minimal",
        help="distro: boot the image's own init, then run the command;"
        " ordinary: a machine, kernel and initrd as people get them without choosing")  # fmt: skip
    add(
        "--connect",
        type=_connection,
        default=EMBEDDED,
        metavar="URI",
        help="the libvirt to ask: qemu:///embed (if not given), qemu:///session, qemu:///system",
    )
    add(
        "--balloon",
        action="store_true",
        help="a device by which the guest gives pages that it does not use back to this computer",
    )
    add("-i", "--interactive", action="store_true", help="pass standard input from a terminal too")
    add("--quiet", action="store_true", help="no note about the accelerator")
    return parser


def _attach(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--network", choices=get_args(NetworkChoice), default="none",
        help="user: out through QEMU, and to what listens on this computer's loopback, 10.0.2.2",
    )  # fmt: skip
    group.add_argument(
        "-p", "--publish", action="append", dest="ports", default=[], type=_port,
        metavar="HOST:GUEST[/udp]", help="lead a port of 127.0.0.1 into the machine",
    )  # fmt: skip
    group.add_argument(
        "-v", "--volume", action="append", dest="shares", default=[], type=_share,
        metavar="/HOST:/PATH[:ro]", help="a directory of this computer inside, by virtiofs",
    )  # fmt: skip


def _connection(text: str) -> Connection:
    try:
        return parse_connection(text)
    except MachineSpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> Share:
    try:
        return parse_share(text)
    except MachineSpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _port(text: str) -> Port:
    try:
        return parse_port(text)
    except MachineSpecError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _write_out(kind: Kind, data: bytes) -> None:
    """To our own descriptor, unbuffered and whole; waits for whoever reads it."""
    descriptor = 1 if kind is Kind.STDOUT else 2
    left = memoryview(data)
    while left:
        select.select((), (descriptor,), ())
        left = left[os.write(descriptor, left[: select.PIPE_BUF]) :]


def _pump(guest: Machine) -> None:
    """Our standard input to the guest, until its end or ours."""
    with suppress(OSError):  # closed, or a terminal that hung up: an end like any other
        while data := os.read(0, _CHUNK_BYTES):
            guest.feed(data)
    guest.feed(b"")


def _tell_failure(done: Completed, spec: MachineSpec) -> None:
    if done.failure is not None:
        _say(f"isoscope: cannot run {spec.argv[0]!r}: {printable(done.failure)}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def signals_raise() -> Iterator[None]:
    """Until the end of the block SIGINT and SIGTERM unwind the stack, so all is cleaned up."""
    before = {number: signal.signal(number, _interrupt) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for again in _STOPPING:
        signal.signal(again, signal.SIG_IGN)  # one is enough: the clean-up must not be interrupted
    raise Interrupted(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
