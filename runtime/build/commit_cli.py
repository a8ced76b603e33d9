"""``commit``: a container becomes an image."""

from collections.abc import Sequence

from runtime.build.commit import commit
from runtime.commandline import Parser
from runtime.container.interrupts import end_on_termination
from runtime.container.kept.finding import find
from runtime.container.kept.kept import Kept
from runtime.container.kept.naming import container_parser


def main(argv: Sequence[str]) -> int:
    """Make it, and print its digest."""
    arguments = commit_parser().parse_args(argv)
    end_on_termination()
    image = commit(Kept(find(arguments.container)), arguments.name, message=arguments.message)
    print(image.digest)
    return 0


def commit_parser() -> Parser:
    """The options of ``commit``."""
    parser = container_parser(
        "commit", "Make an image of what a container has changed.", usage="CONTAINER REFERENCE"
    )
    parser.add_argument("name", metavar="REFERENCE", help="what the image is called")
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="kept in its history")
    return parser
