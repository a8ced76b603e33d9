"""``isoscope run --on vm``: one command in one machine, with docker's habits."""

import argparse
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from runtime.image import ImageError, Store, find_image
from vmbackend.accelerator import accelerator
from vmbackend.channel import Kind
from vmbackend.command import Completed
from vmbackend.errors import MachineError
from vmbackend.machine import Machine, explain, machine
from vmbackend.remains import sweep
from vmbackend.spec import MIB, MachineSpec

_OURS = 125
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d{1,15})([bkmg]?)", re.IGNORECASE)
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
    options = _parser().parse_args(argv)
    with _signals_raise():
        try:
            return _run(options)
        except (MachineError, ImageError) as error:
            if options.debug:
                raise
            _say(f"isoscope: {error}")
            return _OURS
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
        _say(f"isoscope: note: {chosen.sentence}")
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
        env=dict(options.env),
        cwd=options.workdir,
        user=options.user,
        cpus=options.cpus,
        memory_bytes=options.memory,
        accelerator=options.accel,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isoscope run --on vm", description="Run a command of an image in a virtual machine."
    )
    add = parser.add_argument
    add("-e", "--env", action="append", default=[], type=_variable, metavar="NAME[=VALUE]")
    add("-w", "--workdir", metavar="DIR", help="working directory; made if it is missing")
    add("-u", "--user", metavar="USER[:GROUP]", help="names of the image, or numbers")
    add("-m", "--memory", type=_size, default=256 * MIB, metavar="SIZE", help="256m if not given")
    add("--cpus", type=int, default=1, metavar="N", help="virtual processors; 1 if not given")
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="KVM, or emulated (TCG)")
    add(
        "--timeout", type=_seconds, metavar="S", help="end a command that takes longer, in seconds"
    )
    add("-i", "--interactive", action="store_true", help="pass standard input from a terminal too")
    add("--quiet", action="store_true", help="no note about the accelerator")
    add("--explain", action="store_true", help="print the libvirt XML and run nothing")
    add("--debug", action="store_true", help="show where an error comes from")
    add("image", metavar="IMAGE")
    add("command", nargs=argparse.REMAINDER, metavar="CMD")
    return parser


def _variable(text: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME for the value it has here, as docker."""
    name, equals, value = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no variable")
    return name, value if equals else os.environ.get(name, "")


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512m or 2g")
    return int(match[1]) * _UNITS[match[2].lower()]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds")
    return seconds


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
        _say(f"isoscope: cannot run {spec.argv[0]!r}: {done.failure}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _signals_raise() -> Iterator[None]:
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
