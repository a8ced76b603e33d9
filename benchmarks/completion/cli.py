"""``completion``: a script for a shell; and ``__complete``, which that script asks.

The answer is a line of flags (``files``, ``folders``, ``nospace``) and then a line for each
candidate: the word, a tab, what it is. bash hands over its line as it stands, since it cuts words
at colons and equals signs; zsh and fish hand over words.
"""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.completion.candidates import NOTHING, Candidate, Offer, offer
from benchmarks.completion.sources import SOURCES
from runtime.commandline import Parser

SHELLS = ("bash", "zsh", "fish")
_EPILOG = """\
to use it, now and in new shells:
  bash   source <(./isoscope completion bash)      the same line in ~/.bashrc, with a full path
  zsh    source <(./isoscope completion zsh)       the same line in ~/.zshrc, with a full path
  fish   ./isoscope completion fish | source       or into ~/.config/fish/completions/isoscope.fish
"""
ParserOf = Callable[[Sequence[str]], tuple[Parser, Sequence[str]] | None]


def main(argv: Sequence[str]) -> int:
    """Print the script for the shell that is named."""
    arguments = completion_parser().parse_args(argv)
    script = Path(__file__).with_name(f"isoscope.{arguments.shell}")
    sys.stdout.write(script.read_text(encoding="utf-8"))
    return 0


def completion_parser() -> Parser:
    """The options of ``completion``."""
    parser = Parser(
        prog="isoscope completion",
        description="Print a script that lets a shell complete our words.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="bash|zsh|fish")
    return parser


def complete_main(argv: Sequence[str], *, verbs: Mapping[str, str], parser_of: ParserOf) -> int:
    """Answer a shell. *parser_of* has the parser of a command line and the words that it reads."""
    match list(argv):
        case ["bash", breaks, line]:
            words = _split(line)
            for flagged in _lines(_offered(words[1:], verbs, parser_of), _cut(words[-1], breaks)):
                sys.stdout.write(f"{flagged}\n")
        case ["zsh" | "fish", *words] if words:
            for flagged in _lines(_offered(words, verbs, parser_of), 0):
                sys.stdout.write(f"{flagged}\n")
        case _:
            return 2
    return 0


def _offered(words: Sequence[str], verbs: Mapping[str, str], parser_of: ParserOf) -> Offer:
    if len(words) < 2:
        begun = words[0] if words else ""
        fitting = (each for each in verbs.items() if each[0].startswith(begun))
        return Offer(candidates=tuple(Candidate(verb, about) for verb, about in fitting))
    if (found := parser_of(words[:-1])) is None:
        return NOTHING
    parser, before = found
    return offer(parser, before, words[-1], SOURCES)


def _lines(offered: Offer, cut: int) -> list[str]:
    flags = [offered.paths, *(["nospace"] if offered.is_open else [])]
    told = (f"{each.word[cut:]}\t{each.about}" for each in offered.candidates)
    return [" ".join(flags), *told]


def _split(line: str) -> list[str]:
    """The words of *line*, the last one being typed: it may be empty, or in open quotes."""
    for quote in ("", "'", '"'):
        try:
            words = shlex.split(line + quote)
        except ValueError:
            continue
        is_new = not quote and (not line or line[-1].isspace())
        return [*words, ""] if is_new or not words else words
    return ["", ""]


def _cut(word: str, breaks: str) -> int:
    """How much of *word* stands before what bash takes for the word."""
    return max((word.rfind(each) + 1 for each in breaks if each in ":="), default=0)
