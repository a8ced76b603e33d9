"""Patterns with wildcards, matched in one pass: no pattern of a stranger makes it take longer.

A pattern is a row of tokens, each of which takes one character; a state is how many of them have
been taken. All states that are possible after a character are the bits of one number (Baeza-Yates
and Gonnet's shift-and), so a match costs the length of the text, where a regular expression tries
the ways in which many ``*`` can share it one after another.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MAX_PATTERN_CHARACTERS = 4096

_Test = Callable[[str], bool]


def _any(_: str) -> bool:
    return True


def _in_name(character: str) -> bool:
    return character != "/"


def _never(_: str) -> bool:
    return False


class GlobError(ValueError):
    """A pattern that means nothing, as ``[a``."""


@dataclass(frozen=True, slots=True)
class _Token:
    """Takes the one character *takes*, or one that it accepts, after any that *loops* accepts.

    *optional*: takes nothing; this and the next token may be left out together.
    """

    takes: str | _Test
    loops: _Test | None = None
    optional: bool = False


class Glob:
    """A compiled pattern; positions are counted in characters."""

    def __init__(self, tokens: tuple[_Token, ...], tail: _Test | None = None) -> None:
        self._tokens = tokens
        self._tail = tail
        self._end = 1 << len(tokens)
        self._letters: dict[str, int] = defaultdict(int)
        self._tests: dict[_Test, int] = defaultdict(int)
        self._loops: dict[_Test, int] = defaultdict(int)
        self._optional = 0
        for number, token in enumerate(tokens):
            if isinstance(token.takes, str):
                self._letters[token.takes] |= 1 << number
            else:
                self._tests[token.takes] |= 1 << number
            if token.loops is not None:
                self._loops[token.loops] |= 1 << number
            self._optional |= token.optional << number
        if tail is not None:
            self._loops[tail] |= self._end
        self._steps: dict[str, tuple[int, int]] = {}
        self._start = self._close(1)

    def matches(self, text: str) -> bool:
        """Whether the pattern is *text*, from its beginning to its end."""
        states = self._start
        for character in text:
            states = self._step(states, character)
            if not states:
                return False
        return bool(states & self._end)

    def ends(self, text: str, start: int = 0) -> Iterator[int]:
        """Where matches that begin at *start* end, the shortest first."""
        states = self._start
        if states & self._end:
            yield start
        for position in range(start, len(text)):
            states = self._step(states, text[position])
            if not states:
                return
            if states & self._end:
                yield position + 1

    def begins(self, text: str) -> list[bool]:
        """For each position, the last included, whether a match begins there."""
        return self.turned()._all_ends(text[::-1])[::-1]  # noqa: SLF001 - it is one of us

    def turned(self) -> "Glob":
        """The pattern that matches turned texts, for one without optional tokens."""
        loops = [*(token.loops for token in self._tokens), self._tail][::-1]
        takes = [token.takes for token in self._tokens][::-1]
        return Glob(tuple(map(_Token, takes, loops)), loops[-1])

    def _all_ends(self, text: str) -> list[bool]:
        """For each position, whether a match that begins anywhere ends there: one pass."""
        states = self._start
        found = [bool(states & self._end)]
        for character in text:
            states = self._step(states, character) | self._start
            found.append(bool(states & self._end))
        return found

    def _step(self, states: int, character: str) -> int:
        if (masks := self._steps.get(character)) is None:
            masks = self._steps[character] = self._masks(character)
        takes, loops = masks
        return self._close((states & takes) << 1) | (states & loops)

    def _masks(self, character: str) -> tuple[int, int]:
        takes = self._letters.get(character, 0)
        for test, mask in self._tests.items():
            takes |= mask if test(character) else 0
        loops = 0
        for test, mask in self._loops.items():
            loops |= mask if test(character) else 0
        return takes, loops

    def _close(self, states: int) -> int:
        """*states*, with what follows an optional token reached through it and past it."""
        while entered := states & self._optional:
            states = states & ~entered | entered << 1 | entered << 2
        return states


def shell_glob(pattern: str) -> Glob:
    r"""That of ``${V#pattern}``: ``?``, ``*``, and ``\?``, ``\*``, ``\\`` for themselves.

    Raises GlobError for another escape.
    """
    _check_length(pattern)
    tokens = []
    loops: _Test | None = None
    characters = iter(pattern)
    for character in characters:
        takes: str | _Test = character
        if character == "*":
            loops = _any
            continue
        if character == "?":
            takes = _any
        elif character == "\\":
            takes = next(characters, "")
            if takes not in ("*", "?", "\\", "}", "/"):
                raise GlobError(f"the escape \\{takes} in the pattern {_shown(pattern)}")
        tokens.append(_Token(takes, loops))
        loops = None
    return Glob(tuple(tokens), loops)


def path_glob(pattern: str) -> Glob:
    r"""That of ``.dockerignore``: as Go's ``filepath.Match``, and ``**`` for any directories.

    ``*`` and ``?`` stay in one name; ``[a-z]``, ``[^a]`` and ``\*`` are known. Raises GlobError.
    Source: moby's patternmatcher, also in that a leading ``**`` before plain letters is a suffix
    (``**.py`` matches ``a.py``), where further back it stands for whole directories.
    """
    _check_length(pattern)
    letters = pattern.removeprefix("**")
    if letters != pattern and not letters.startswith("/") and not set(letters) & set("*?[]\\"):
        return _suffix(letters)
    return _PathPattern(pattern).compile()


def _suffix(letters: str) -> Glob:
    if not letters:
        return Glob((), _any)
    return Glob((_Token(letters[0], _any), *map(_Token, letters[1:])))


class _PathPattern:
    """The reader of one ``path_glob``."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def compile(self) -> Glob:
        tokens: list[_Token] = []
        loops: _Test | None = None
        while not self._over():
            if self._taken("**"):
                self._taken("/")
                if self._over():
                    loops = _any
                elif not (len(tokens) > 1 and tokens[-2].optional):
                    tokens += (_Token(_never, None, optional=True), _Token("/", _any))
            elif self._taken("*"):
                loops = _in_name
            else:
                tokens.append(_Token(self._one(), loops))
                loops = None
        return Glob(tuple(tokens), loops)

    def _over(self) -> bool:
        return self._at >= len(self._pattern)

    def _taken(self, text: str) -> bool:
        if not self._pattern.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _next(self) -> str:
        if self._over():
            raise GlobError(f"the end of the pattern {_shown(self._pattern)}")
        self._at += 1
        return self._pattern[self._at - 1]

    def _one(self) -> str | _Test:
        character = self._next()
        if character == "?":
            return _in_name
        if character == "[":
            return self._class()
        return self._next() if character == "\\" else character

    def _class(self) -> _Test:
        negated = self._taken("^")
        ranges: list[tuple[str, str]] = []
        while not (ranges and self._taken("]")):
            low = self._member()
            high = self._member() if self._taken("-") else low
            if high < low:
                raise self._wrong(f"{low}-{high}")
            ranges.append((low, high))
        return lambda character: negated != any(low <= character <= high for low, high in ranges)

    def _member(self) -> str:
        character = self._next()
        if character in "-]":
            raise self._wrong(character)
        return self._next() if character == "\\" else character

    def _wrong(self, what: str) -> GlobError:
        return GlobError(f"{what!r} in the brackets of the pattern {_shown(self._pattern)}")


def _check_length(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise GlobError(f"a pattern of more than {MAX_PATTERN_CHARACTERS} characters")


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 40 else f"{pattern[:40]}...")
