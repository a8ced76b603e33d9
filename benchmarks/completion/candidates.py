"""The words that may come next on a command line, by the parser that will read it. Pure.

What a value means is told by its metavar: ``IMAGE`` is an image wherever it stands. A source says
what there is; an option's fixed choices and the options themselves come from the parser.
"""

import argparse
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.commandline import Parser

Paths = Literal["none", "files", "folders"]
_PATHS: Mapping[str, Paths] = {
    "FILE": "files",
    "DIR": "folders",
    "CONTEXT": "folders",
    "RUN": "folders",
    "EARLIER": "folders",
    "LATER": "folders",
}
"""What the shell itself is to complete besides."""
_SAFE = re.compile(r"[\w.:@/,=+%'-]+", re.ASCII)
"""A word that no shell takes for anything else, whoever named it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A whole word, and what it is."""

    word: str
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The words that fit; ``is_open`` if one may be continued, so that no space follows it."""

    candidates: tuple[Candidate, ...] = ()
    paths: Paths = "none"
    is_open: bool = False


Source = Callable[[str], Iterable[Candidate]]
"""What there is of a kind, for what was typed of it so far."""

NOTHING = Offer()


def offer(
    parser: Parser, words: Sequence[str], current: str, sources: Mapping[str, Source]
) -> Offer:
    """What *current*, the word being typed after *words*, may become."""
    if (place := _Place.after(parser, words)) is None:
        return NOTHING
    if place.option is not None:
        return _values(place.option, current, sources)
    name, equals, value = current.partition("=")
    if current.startswith("-") and not place.only_positionals:
        option = _option(place.parser, name)
        if equals and option is not None:
            return _prefixed(f"{name}=", _values(option, value, sources))
        return _offer(_options(place.parser), current)
    found = NOTHING if place.positional is None else _values(place.positional, current, sources)
    if found == NOTHING and not current:
        return _offer(_options(place.parser), current)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a command line has got to."""

    parser: Parser
    option: argparse.Action | None
    """Waits for its value."""
    positional: argparse.Action | None
    only_positionals: bool

    @staticmethod
    def after(parser: Parser, words: Sequence[str]) -> "_Place | None":
        """None inside of a command that is not ours, or after a verb that is none."""
        option: argparse.Action | None = None
        left, only = _positionals(parser), False
        for word in words:
            if option is not None:
                option = None
            elif word == "--" and not only:
                only = True
            elif word.startswith("-") and not only:
                option = _option(parser, word)  # not for -eA=b or --env=A: they have their value
            elif not left:
                continue
            elif isinstance(left[0].choices, Mapping):
                below = left[0].choices.get(word)
                if not isinstance(below, Parser):
                    return None
                parser, left = below, _positionals(below)
            elif left[0].nargs not in {"*", "+"}:
                left = left[1:]
        if option is None and left and left[0].nargs == argparse.REMAINDER:
            return None
        return _Place(
            parser=parser,
            option=option,
            positional=left[0] if left else None,
            only_positionals=only,
        )


def _positionals(parser: Parser) -> list[argparse.Action]:
    return [action for action in parser.actions() if not action.option_strings]


def _option(parser: Parser, name: str) -> argparse.Action | None:
    """The option *name*, if it takes a value."""
    for action in parser.actions():
        if name in action.option_strings and action.nargs != 0:
            return action
    return None


def _options(parser: Parser) -> list[Candidate]:
    return [
        Candidate(name, _about(action))
        for action in parser.actions()
        if action.help != argparse.SUPPRESS
        for name in action.option_strings
    ]


def _about(action: argparse.Action) -> str:
    return " ".join((action.help or "").split()).replace("%%", "%")


def _values(action: argparse.Action, current: str, sources: Mapping[str, Source]) -> Offer:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - there is no public way
        verbs = action._choices_actions  # noqa: SLF001 - as above
        return _offer([Candidate(each.dest, _about(each)) for each in verbs], current)
    if action.choices is not None:
        return _offer([Candidate(str(choice)) for choice in action.choices], current)
    kind = action.metavar if isinstance(action.metavar, str) else ""
    found = sources[kind](current) if kind in sources else ()
    return _offer(found, current, paths=_PATHS.get(kind, "none"), is_open="," in kind)


def _offer(
    candidates: Iterable[Candidate],
    current: str,
    *,
    paths: Paths = "none",
    is_open: bool = False,
) -> Offer:
    fitting = (each for each in candidates if each.word.startswith(current))
    safe = {each.word: each for each in fitting if _SAFE.fullmatch(each.word)}
    return Offer(candidates=tuple(safe.values()), paths=paths, is_open=is_open)


def _prefixed(prefix: str, found: Offer) -> Offer:
    words = tuple(Candidate(prefix + each.word, each.about) for each in found.candidates)
    return Offer(candidates=words, paths=found.paths, is_open=found.is_open)
