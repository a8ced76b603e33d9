"""Variables in the words of a Dockerfile: ``$V``, ``${V:-word}``, ``${V##pattern}`` and the rest.

Written here because what it does must stay bounded whatever a file asks for: a value that doubles
at each line, a replacement that multiplies, a pattern that backtracks. All that is handed out is
drawn from an Allowance. Source: "Environment replacement" of the Dockerfile reference; the tests
compare it with e2b-dockerfile-utils, a port of BuildKit's lexer.
"""

from collections.abc import Iterator, Mapping

from runtime.build.globs import Glob, GlobError, shell_glob

MAX_VALUE_CHARACTERS = 1 << 16
"""Of one word after expansion; execve(2) takes no string above 128 KiB."""
MAX_DEPTH = 32
MAX_WORK = 1 << 26

_SPECIAL = "@*#?-$!0"
_BLANKS = " \t\n\v\f\r\u0085\u00a0"


class ExpansionError(ValueError):
    """A word that cannot be expanded, or whose expansion is too large."""


class Allowance:
    """How many characters one build may still look at and hand out."""

    def __init__(self, characters: int = MAX_WORK) -> None:
        self._left = characters

    def spend(self, characters: int) -> None:
        """Raises ExpansionError when there is nothing left."""
        self._left -= characters
        if self._left < 0:
            raise ExpansionError("what this file asks for is too large")


def expand_word(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    allowance: Allowance | None = None,
    quotes: bool = True,
) -> str:
    """*word* as one word: variables replaced, quotes and escapes removed, blanks kept.

    A variable that is not set is empty. Without *quotes* these are characters like others, as in
    the data of a here-document. Raises ExpansionError.
    """
    reader = _Reader(word, variables, escape, allowance or Allowance(), quotes=quotes)
    return "".join(text for text, _ in reader.pieces())


def expand_words(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    allowance: Allowance | None = None,
) -> tuple[str, ...]:
    """*word* split at its blanks, those that came out of variables too, but not quoted ones.

    There are no empty words. Raises ExpansionError.
    """
    reader = _Reader(word, variables, escape, allowance or Allowance(), quotes=True)
    words: list[list[str]] = [[]]
    for text, splits in reader.pieces():
        if not splits:
            words[-1].append(text)
            continue
        for character in text:
            if character in _BLANKS:
                words.append([])
            else:
                words[-1].append(character)
    return tuple(filter(None, map("".join, words)))


class _Reader:
    """One word being read; nested ones are read where they stand."""

    def __init__(
        self,
        word: str,
        variables: Mapping[str, str],
        escape: str,
        allowance: Allowance,
        *,
        quotes: bool,
    ) -> None:
        self._word = word
        self._at = 0
        self._depth = 0
        self._variables = variables
        self._escape = escape
        self._allowance = allowance
        self._quotes = quotes

    def pieces(self, stop: str = "", *, raw: bool = False) -> Iterator[tuple[str, bool]]:
        """What the word is made of up to *stop*, and whether blanks in it separate words.

        With *raw* an escape stays before what it escapes: patterns read it themselves.
        """
        length = 0
        for text, splits in self._pieces(stop, raw=raw):
            length += len(text)
            if length > MAX_VALUE_CHARACTERS:
                raise ExpansionError(f"it expands to more than {MAX_VALUE_CHARACTERS} characters")
            yield text, splits

    def _pieces(self, stop: str, *, raw: bool) -> Iterator[tuple[str, bool]]:
        while (character := self._next()) != stop:
            if not character:
                raise ExpansionError(f"there is no {stop!r} after a '${{'")
            if character == "$":
                yield self._variable(), True
            elif character == "'" and self._quotes:
                yield self._single_quoted(), False
            elif character == '"' and self._quotes:
                yield "".join(self._double_quoted(raw=raw)), False
            elif character == self._escape:
                if escaped := self._next():
                    yield (character if raw else "") + escaped, False
            else:
                yield character, True

    def _single_quoted(self) -> str:
        end = self._word.find("'", self._at)
        if end < 0:
            raise ExpansionError("a single quote does not end")
        text = self._word[self._at : end]
        self._at = end + 1
        return text

    def _double_quoted(self, *, raw: bool) -> Iterator[str]:
        """Variables count in it, and the escape does before ``"``, ``$`` and itself."""
        while (character := self._next()) != '"':
            if not character:
                raise ExpansionError("a double quote does not end")
            if character == "$":
                yield self._variable()
            elif character == self._escape:
                escapes = self._peek() in ('"', "$", self._escape) and bool(self._peek())
                yield character if raw or (not escapes and self._peek()) else ""
                yield self._next() if escapes else ""
            else:
                yield character

    def _variable(self) -> str:
        """What a ``$`` that has just been read begins."""
        if self._peek() != "{":
            name = self._name()
            return self._value(name) or "" if name else "$"
        self._next()
        if self._peek() in ("", "{", "}", ":"):
            raise ExpansionError("'${' without a name")
        name = self._name()
        value = self._value(name)
        operator = self._next()
        if operator == "}":
            return value or ""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpansionError(f"'${{' nested more than {MAX_DEPTH} deep")
        text = self._modified(name, value, operator)
        self._depth -= 1
        return text

    def _modified(self, name: str, value: str | None, operator: str) -> str:
        if operator == "/":
            return self._replaced(value or "")
        if operator in ("#", "%"):
            return self._trimmed(value or "", operator)
        kind = self._next() if operator == ":" else operator
        if kind not in ("-", "+", "?") or not kind:
            raise ExpansionError(f"'${{{name}{operator}' has no known modifier")
        other = self._nested("}")
        if operator == ":":
            value = value or None
        if kind == "-":
            return other if value is None else value
        if kind == "+":
            return "" if value is None else other
        if value is None:
            raise ExpansionError(f"{name}: {other or 'it must be set, and not to nothing'}")
        return value

    def _nested(self, stop: str, *, raw: bool = False) -> str:
        return "".join(text for text, _ in self.pieces(stop, raw=raw))

    def _trimmed(self, value: str, operator: str) -> str:
        longest = self._peek() == operator
        if longest:
            self._next()
        glob = self._glob(self._nested("}", raw=True), value)
        if operator == "%":
            glob, value = glob.turned(), value[::-1]
        ends = list(glob.ends(value)) or [0]
        kept = value[ends[-1 if longest else 0] :]
        return kept[::-1] if operator == "%" else kept

    def _replaced(self, value: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern = self._nested("/", raw=True)
        replacement = self._nested("}", raw=True)
        spans = _find(self._glob(pattern, value), value, everywhere=everywhere)
        grown = len(value) + len(spans) * len(replacement)
        if grown > 2 * MAX_VALUE_CHARACTERS:
            raise ExpansionError(f"it expands to more than {MAX_VALUE_CHARACTERS} characters")
        self._allowance.spend(grown)
        return _replace(value, spans, replacement)

    def _glob(self, pattern: str, value: str) -> Glob:
        self._allowance.spend(len(pattern) + len(value) * (4 + len(pattern) // 64))
        try:
            return shell_glob(pattern)
        except GlobError as error:
            raise ExpansionError(str(error)) from None

    def _value(self, name: str) -> str | None:
        value = self._variables.get(name)
        self._allowance.spend(1 + len(value or ""))
        return value

    def _name(self) -> str:
        """A name, a number, or one of the shell's special characters."""
        start = self._at
        if self._peek().isdecimal():
            while self._peek().isdecimal():
                self._at += 1
        elif self._peek() and self._peek() in _SPECIAL:
            self._at += 1
        else:
            while (c := self._peek()) and (c.isalpha() or c.isdecimal() or c == "_"):
                self._at += 1
        return self._word[start : self._at]

    def _peek(self) -> str:
        return self._word[self._at : self._at + 1]

    def _next(self) -> str:
        self._at += 1
        return self._word[self._at - 1 : self._at]


def _find(glob: Glob, value: str, *, everywhere: bool) -> list[tuple[int, int]]:
    """The longest matches from the left that do not overlap, the first only or all.

    An empty match right after another one is none, as in Go.
    """
    spans: list[tuple[int, int]] = []
    begins = glob.begins(value)
    at = 0
    while at <= len(value):
        if not begins[at]:
            at += 1
            continue
        end = list(glob.ends(value, at))[-1]
        if end > at or not spans or spans[-1][1] < at:
            spans.append((at, end))
        if not everywhere:
            break
        at = max(end, at + 1)
    return spans


def _replace(value: str, spans: list[tuple[int, int]], replacement: str) -> str:
    parts: list[str] = []
    at = 0
    for start, end in spans:
        parts += (value[at:start], replacement)
        at = end
    return "".join(parts) + value[at:]
