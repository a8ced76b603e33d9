"""The ladder as text (pure). Marks differ by shape; colour only repeats them."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.doctor.rung import Rung
from benchmarks.doctor.verdict import Verdict

_NAME_COLUMNS = 21
_LEAST_TEXT_COLUMNS = 24
_WORDS: Mapping[bool | None, str] = {True: "ok", False: "no", None: "--"}
_SIGNS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "·"}
_COLOURS: Mapping[bool | None, str] = {True: "32", False: "31;1", None: "2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to write: *columns* to wrap at (None: do not), signs or words, colours or none."""

    columns: int | None = None
    has_signs: bool = False
    has_colours: bool = False


def render_part(part: str, style: Style) -> str:
    """The heading of a part."""
    return _coloured(part, "1", style)


def render_rung(rung: Rung, style: Style) -> Iterator[str]:
    """The lines of a rung: what was found, and under what failed how to have it, what it costs."""
    mark = (_SIGNS if style.has_signs else _WORDS)[rung.ok]
    head = f"  {_coloured(mark, _COLOURS[rung.ok], style)} {_clean(rung.name):<{_NAME_COLUMNS}} "
    indent = " " * (2 + len(mark) + 1 + _NAME_COLUMNS + 1)
    first, *rest = _wrapped(_found(rung), style, len(indent))
    yield head + first
    yield from (indent + line for line in rest)
    if rung.ok is False:
        is_backend = rung.name == rung.part  # that it is lost needs no saying
        lost = "" if is_backend else f"without it: no {', '.join(rung.costs)}"
        remedy = f"to have it: {rung.remedy}" if rung.remedy else ""
        for text in filter(None, (remedy, lost)):
            yield from (indent + line for line in _wrapped(text, style, len(indent)))


def render_verdict(verdict: Verdict) -> str:
    """The last line: which backends run here, which do not, what to type."""
    if not verdict.runs:
        return f"Nothing runs here yet. Next: {verdict.next}"
    not_here = f"; not {', '.join(verdict.lacking)}" if verdict.lacking else ""
    return f"Runs here: {', '.join(verdict.labels)}{not_here}. Next: {verdict.next}"


def _found(rung: Rung) -> str:
    """What nobody needs has its remedy on the same line."""
    if rung.ok is None and rung.remedy:
        return f"{rung.found}; for {', '.join(rung.costs)}: {rung.remedy}"
    return rung.found


def _wrapped(text: str, style: Style, indent: int) -> list[str]:
    clean = _clean(text)
    if style.columns is None:
        return [clean]
    width = max(_LEAST_TEXT_COLUMNS, style.columns - indent)
    return textwrap.wrap(clean, width, break_on_hyphens=False) or [""]


def _clean(text: str) -> str:
    """One line without control characters: texts of other programs must not steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _coloured(text: str, code: str, style: Style) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if style.has_colours else text
