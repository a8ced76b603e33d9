"""``isoscope vm``: what is asked of machines only, and of no other backend."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from runtime import commandline
from runtime.commandline import Parser
from runtime.fault import printable
from runtime.image import ImageError, Store, find_image
from vmbackend.cli import Interrupted, signals_raise
from vmbackend.errors import MachineError
from vmbackend.min_memory import DEFINITION, Try, min_memory
from vmbackend.remains import sweep
from vmbackend.spec import MIB, MachineSpec

_EPILOG = """\
examples:
  isoscope vm min-memory busybox
  isoscope vm min-memory --most 1g --json debian apt-get --version

exit status: 0 it was found; 125 a failure of ours, or the most memory did not suffice; 2 wrong
usage; 128+n if signal n ended it.
"""


def main(argv: Sequence[str]) -> int:
    """Do what the words after ``vm`` say; the exit status."""
    options = vm_parser().parse_args(argv)
    with signals_raise():
        try:
            return _min_memory(options)
        except (MachineError, ImageError) as error:
            return commandline.ended_by(error, debug=options.debug)
        except Interrupted as interrupt:
            return 128 + interrupt.number


def vm_parser() -> Parser:
    """The options of ``vm``."""
    parser = Parser(prog="isoscope vm", description="What only virtual machines can be asked.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    found = verbs.add_parser(
        "min-memory",
        help="how little memory a machine of an image can do with",
        description=f"Find {DEFINITION}: by bisection, a boot each.",
        epilog=_EPILOG,
    )
    found.add_argument("image", metavar="IMAGE", help="reference or digest; 'isoscope image ls'")
    command = found.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="CMD", help="what has to end with 0; true"
    )
    command.required = False
    found.add_argument("--most", type=commandline.size, default=256 * MIB, metavar="SIZE",
                       help="what surely suffices (256m if not given)")  # fmt: skip
    found.add_argument("--json", action="store_true", help="one JSON object, every try in it")
    found.add_argument("--debug", action="store_true", help="show a traceback of our failures")
    return parser


def _min_memory(options: argparse.Namespace) -> int:
    image = find_image(Store(), options.image)
    spec = MachineSpec(
        image=image.digest,
        argv=tuple(options.command) or ("true",),
        memory_bytes=options.most // MIB * MIB,
        is_trial=True,
    )
    sweep()
    found = min_memory(spec, told=_tell)
    if options.json:
        sys.stdout.write(json.dumps(asdict(found) | {"definition": DEFINITION}) + "\n")
    else:
        sys.stdout.write(
            f"{found.memory_mib} MiB under {found.accelerator}, kernel {found.kernel_release}:"
            f" {DEFINITION}\n"
        )
    return 0


def _tell(done: Try) -> None:
    became = f"no: {printable(done.failure)}" if done.failure else "yes"
    sys.stderr.write(f"isoscope: {done.memory_mib} MiB: {became}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
