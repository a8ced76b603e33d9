"""Reads a Dockerfile: bytes of a stranger to instructions with lines, or a BuildError.

Which lines belong together is decided here: directives, comments, continuations and
here-documents, those of ONBUILD too. How one joined line falls into flags, words and JSON is
e2b-dockerfile-utils' part; only this module knows that library. The tests compare both with the
Go parser. Sources: the Dockerfile reference; BuildKit's parser where that is silent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from e2b_dockerfile_utils import ShellLex, parse_dockerfile_ast, parse_heredoc, parse_words

from runtime.errors import BuildError

MAX_FILE_BYTES = 1 << 20
MAX_LINE_BYTES = 65_535
"""As the Go parser: a longer line is refused, a joined one may be longer."""
MAX_INSTRUCTIONS = 1000
MAX_SENTENCE_CHARACTERS = 300

# fmt: off
INSTRUCTIONS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})
# fmt: on
_WITH_DOCUMENTS = frozenset({"ADD", "COPY", "RUN"})
_NEVER_TRIGGERS = frozenset({"FROM", "MAINTAINER", "ONBUILD"})
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_BLANKS = re.compile(r"[\t\v\f\r ]+")
_KEY = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """A here-document. *expand*: its name was not quoted, so variables in *data* count.

    *chomp* is ``<<-``: leading tabs are no part of what COPY and ADD write.
    """

    name: str
    data: str
    expand: bool
    chomp: bool

    @property
    def chomped(self) -> str:
        """*data* without leading tabs where ``<<-`` asks for that."""
        return _LEADING_TABS.sub("", self.data) if self.chomp else self.data


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction; *line* is its first line, *text* its joined lines as written.

    *args* are words with quotes and escapes in place, or the strings of the JSON form; of ENV
    and LABEL names and values in turn. *trigger* is what stands after ONBUILD.
    """

    file: str
    line: int
    name: str
    text: str
    flags: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    trigger: "Instruction | None" = None

    @property
    def source(self) -> str:
        """The instruction with its here-documents, as it can be read again."""
        bodies = (f"\n{heredoc.data}{heredoc.name}" for heredoc in self.heredocs)
        return self.text.strip() + "".join(bodies)

    def wrong(self, sentence: str, *, remedy: str | None = None) -> BuildError:
        """The error that says where, and what is wrong with it."""
        return _wrong(self.file, self.line, sentence, remedy=remedy)

    def told(self, sentence: str) -> str:
        """*sentence* with where it applies, for a warning."""
        return _told(self.file, self.line, sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A file that can be read. *escape* is its escape character; *warnings* are sentences."""

    name: str
    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    warnings: tuple[str, ...] = ()


def read_dockerfile(text: bytes, *, name: str = "Dockerfile") -> Dockerfile:
    """The instructions of *text*; *name* is what messages call the file.

    Raises BuildError with name and line: unknown instructions, bad JSON, unterminated
    here-documents, NUL, bytes that are no UTF-8 (but in comments), too many or too long lines.
    """
    _check_bytes(text, name)
    lines = _Lines(text.removeprefix(b"\xef\xbb\xbf"), name)
    escape = _read_directives(lines)
    instructions = tuple(_read_instructions(lines, escape))
    if not instructions:
        raise _wrong(name, 1, "there is no instruction in it", remedy="begin with FROM image")
    return Dockerfile(
        name=name, instructions=instructions, escape=escape, warnings=tuple(lines.warnings)
    )


def read_trigger(text: str, *, file: str, line: int) -> Instruction:
    """The instruction that a base image left for its children; errors are told at *line*.

    Raises BuildError if it is not exactly one, or one that no trigger can be.
    """
    lines = _Lines(text.encode(errors="replace"), file)
    try:
        found = tuple(_read_instructions(lines, "\\"))
    except BuildError as error:
        what = error.message.split(": ", 1)[-1]
        raise _wrong(file, line, f"ONBUILD of the base image: {what}") from None
    if len(found) != 1 or "\0" in text:
        raise _wrong(file, line, f"ONBUILD of the base image is not one instruction: {text!r}")
    instruction = replace(found[0], line=line)
    _check_trigger(instruction, instruction.name)
    return instruction


def heredoc_name(word: str) -> str | None:
    """The name of the here-document that *word* begins, as ``<<-"END"`` does; else None."""
    try:
        header = parse_heredoc(word) if "<<" in word else None
    except ValueError:
        return None
    return header.name or None if header else None


class _Lines:
    """The lines of a file, taken one by one, with what is to be said about them."""

    def __init__(self, text: bytes, file: str) -> None:
        self._lines = text.decode(errors="surrogateescape").split("\n")
        if self._lines[-1] == "":
            del self._lines[-1]
        self._taken = 0
        self.file = file
        self.warnings: list[str] = []

    @property
    def number(self) -> int:
        """That of the line taken last, from 1."""
        return self._taken

    def more(self) -> bool:
        return self._taken < len(self._lines)

    def take(self) -> str:
        """The next line with its end; a last one may have none."""
        self._taken += 1
        return self._lines[self._taken - 1] + "\n"

    def back(self) -> None:
        self._taken -= 1

    def warn(self, line: int, sentence: str) -> None:
        self.warnings.append(_told(self.file, line, sentence))


def _check_bytes(text: bytes, name: str) -> None:
    if len(text) > MAX_FILE_BYTES:
        raise _wrong(name, 1, f"the file is larger than {MAX_FILE_BYTES} bytes")
    for number, line in enumerate(text.split(b"\n"), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise _wrong(
                name, number, f"the line is longer than {MAX_LINE_BYTES} bytes", remedy="split it"
            )
        if b"\0" in line:
            raise _wrong(name, number, "the line has a NUL byte, so this is no text file")


def _read_directives(lines: _Lines) -> str:
    """The escape character. Directives are the comments on top of the form ``# key=value``."""
    seen: dict[str, str] = {"escape": "\\"}
    given = set()
    while lines.more():
        key, equals, value = (part.strip() for part in _directive(lines.take()).partition("="))
        key = key.lower()
        if not (equals and value and _KEY.fullmatch(key) and key in _DIRECTIVES):
            lines.back()
            break
        if key in given:
            raise _wrong(lines.file, lines.number, f"the directive {key!r} is given twice")
        given.add(key)
        seen[key] = value
        if seen["escape"] not in ("\\", "`"):
            raise _wrong(
                lines.file, lines.number, f"{value!r} is no escape character", remedy="use \\ or `"
            )
        if key == "syntax":
            lines.warn(
                lines.number, f"the syntax {value!r} is ignored; this file is read by isoscope"
            )
    return seen["escape"]


def _directive(line: str) -> str:
    stripped = line.strip()
    return stripped[1:] if stripped.startswith("#") else ""


def _read_instructions(lines: _Lines, escape: str) -> Iterator[Instruction]:
    count = 0
    while lines.more():
        first = lines.take()
        if not first.strip() or first.lstrip().startswith("#"):
            continue
        start = lines.number
        text = _join(first.lstrip(), lines, escape)
        if not text.strip():
            continue
        count += 1
        if count > MAX_INSTRUCTIONS:
            raise _wrong(lines.file, start, f"there are more than {MAX_INSTRUCTIONS} instructions")
        yield _read_instruction(text, start, lines, escape)


def _join(first: str, lines: _Lines, escape: str) -> str:
    """*first* and the lines that continue it; comments among them are none of it."""
    start = lines.number
    part, continued = _continued(first, escape)
    parts = [part]
    blank = False
    while continued and lines.more():
        line = lines.take()
        if not line.strip():
            blank = True
        elif not line.lstrip().startswith("#"):
            part, continued = _continued(line, escape)
            parts.append(part)
    if blank:
        lines.warn(start, "an empty line inside an instruction does not end it")
    return "".join(parts)


def _continued(line: str, escape: str) -> tuple[str, bool]:
    """*line* without its end, and whether the next one belongs to it."""
    line = line.rstrip("\r\n")
    body = line.rstrip(" \t")
    if body.endswith(escape) and not body.endswith(escape * 2):
        return body[:-1], True
    return line, False


def _read_instruction(text: str, line: int, lines: _Lines, escape: str) -> Instruction:
    word, rest = _split(text)
    blank = Instruction(file=lines.file, line=line, name=word.upper(), text=text)
    _check_text(blank, text)
    if blank.name not in INSTRUCTIONS:
        raise blank.wrong(
            f"{word[:40]} is no instruction",
            remedy=f"use one of {', '.join(sorted(INSTRUCTIONS))}",
        )
    if blank.name == "ONBUILD":
        if not rest:
            raise blank.wrong("ONBUILD needs an instruction")
        _check_trigger(blank, _split(rest)[0])
        trigger = _read_instruction(rest, line, lines, escape)
        return replace(blank, heredocs=trigger.heredocs, trigger=trigger)
    if blank.name in _WITH_DOCUMENTS:
        return _parse_with_documents(blank, rest, lines, escape)
    return _parse(blank, text, escape)


def _split(text: str) -> tuple[str, str]:
    """The first word and the rest."""
    word, *rest = _BLANKS.split(text.strip(), maxsplit=1)
    return word, "".join(rest)


def _check_text(instruction: Instruction, *texts: str) -> None:
    """What an image's documents and execve(2) can hold: Unicode without NUL."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise instruction.wrong(f"{instruction.name[:20]} is not valid UTF-8") from None
    if any("\0" in text for text in texts):
        raise instruction.wrong(f"{instruction.name} has a NUL character")


def _check_trigger(instruction: Instruction, name: str) -> None:
    if name.upper() in _NEVER_TRIGGERS:
        raise instruction.wrong(f"ONBUILD {name.upper()} is not allowed")


def _parse_with_documents(
    blank: Instruction, rest: str, lines: _Lines, escape: str
) -> Instruction:
    """RUN, COPY and ADD: read as CMD, which has the same flags and JSON but no here-documents."""
    parsed = _parse(blank, f"CMD {rest}", escape)
    if parsed.json:
        return parsed
    heredocs = tuple(_read_heredocs(blank, lines)) if "<<" in rest else ()
    if blank.name == "RUN" or not parsed.args:
        return replace(parsed, heredocs=heredocs)
    return replace(parsed, args=tuple(parse_words(parsed.args[0], escape)), heredocs=heredocs)


def _parse(blank: Instruction, text: str, escape: str) -> Instruction:
    """*blank* with what the library reads in one joined line."""
    try:
        (found,) = parse_dockerfile_ast(f"# escape={escape}\n{text}").instructions
    except RecursionError:
        raise blank.wrong(f"{blank.name}: the JSON is nested too deeply") from None
    except ValueError as error:
        what = str(error).partition(": ")[2] or str(error)
        raise blank.wrong(f"{blank.name}: {what}") from None
    args = tuple(found.args)
    if blank.name in ("ENV", "LABEL"):
        args = tuple(arg for number, arg in enumerate(args) if number % 3 < 2)
    _check_text(blank, *args, *found.flags)
    return replace(blank, flags=tuple(found.flags), args=args, json=found.json)


def _read_heredocs(blank: Instruction, lines: _Lines) -> Iterator[Heredoc]:
    try:
        words = ShellLex("\\", raw_quotes=True, raw_escapes=True).process_words(blank.text)
        headers = [header for word in words if (header := parse_heredoc(word)) and header.name]
    except ValueError:  # quotes that do not close: it is the shell's to complain
        return
    for header in headers:
        data = "".join(_read_body(blank, header.name, lines, chomp=header.chomp))
        _check_text(blank, data)
        yield Heredoc(name=header.name, data=data, expand=header.expand, chomp=header.chomp)


def _read_body(blank: Instruction, end: str, lines: _Lines, *, chomp: bool) -> Iterator[str]:
    while lines.more():
        line = lines.take()
        bare = line.rstrip("\r\n")
        if (bare.lstrip("\t") if chomp else bare) == end:
            return
        yield line
    raise blank.wrong(
        f"{blank.name}: the here-document {end[:40]!r} does not end",
        remedy=f"add a line {end[:40]}",
    )


def _wrong(file: str, line: int, sentence: str, *, remedy: str | None = None) -> BuildError:
    return BuildError(_told(file, line, sentence), remedy=remedy, line=line)


def _told(file: str, line: int, sentence: str) -> str:
    """One line of a bearable length: what a stranger wrote may stand in it."""
    if len(sentence) > MAX_SENTENCE_CHARACTERS:
        sentence = f"{sentence[:MAX_SENTENCE_CHARACTERS]}..."
    return f"{file}:{line}: {sentence}"
