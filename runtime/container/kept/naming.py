"""How the verbs of containers read which one is meant."""

from runtime.commandline import Parser


def container_parser(
    verb: str, description: str, *, usage: str = "", many: bool = False
) -> Parser:
    """A parser that reads the name of a container, or with *many* of several."""
    what = "CONTAINER…" if many else "CONTAINER"
    prog = f"isoscope {verb}"
    parser = Parser(
        prog=prog, description=description, usage=f"{prog} {usage or f'[OPTION…] {what}'}"
    )
    parser.add_argument(
        "containers" if many else "container",
        nargs="+" if many else None,
        metavar="CONTAINER",
        help="name, id, or as much of the id as only it has",
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback when we fail")
    return parser
