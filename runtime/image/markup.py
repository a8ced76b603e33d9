"""Values as a notebook shows them: HTML without colours, so that light and dark ground both do.

It stands below everything that has something to show. Every text is a stranger's: it is escaped,
what would turn or hide other text is replaced, and what is long is cut, with how much.
"""

from collections.abc import Iterable, Mapping, Sequence

MOST_CHARACTERS = 20_000
_LEFT = "text-align:left;vertical-align:top"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""As html.escape does; that module brings a dictionary of all entities with it."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table whose first column names its rows."""
    title = f'<caption style="{_LEFT}"><b>{_text(caption)}</b></caption>' if caption else ""
    names = "".join(f'<th scope="col" style="{_LEFT}">{_text(name)}</th>' for name in head)
    body = "".join(_row(row) for row in rows)
    return f"<table>{title}<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def facts(values: Mapping[str, object], *, caption: str = "") -> str:
    """Names and their values, one below the other."""
    title = f'<caption style="{_LEFT}"><b>{_text(caption)}</b></caption>' if caption else ""
    body = "".join(_row((name, str(value))) for name, value in values.items())
    return f"<table>{title}<tbody>{body}</tbody></table>"


def preformatted(text: str) -> str:
    """Text in which every space counts."""
    return f'<pre tabindex="0" style="overflow-x:auto">{_text(text)}</pre>'


def ended(*, exit_status: int, stdout: bytes, stderr: bytes, phases: Mapping[str, int]) -> str:
    """How a command ended: its status, what it printed, and when what happened."""
    reached = "; ".join(f"{name} {at}" for name, at in in_time(phases))
    parts = [facts({"exit status": exit_status, "phases": reached})]
    for name, printed in (("stdout", stdout), ("stderr", stderr)):
        if printed:
            text = printed[: MOST_CHARACTERS + 4].decode(errors="replace")
            missing = len(printed) - MOST_CHARACTERS
            more = f"\n… and {missing} bytes more" if missing > 0 else ""
            parts.append(f"<b>{name}</b>{preformatted(text[:MOST_CHARACTERS] + more)}")
    return "".join(parts)


def in_time(phases: Mapping[str, int]) -> list[tuple[str, str]]:
    """Phases in the order in which they were reached, each with when: ``("exec", "2.500 ms")``."""
    ordered = sorted(phases.items(), key=lambda item: item[1])
    return [(name, f"{at_ns / 1e6:.3f} ms") for name, at_ns in ordered]


def _row(cells: Sequence[str]) -> str:
    name, *values = (_text(cell) for cell in cells)
    rest = "".join(f'<td style="{_LEFT};overflow-wrap:anywhere">{value}</td>' for value in values)
    return f'<tr><th scope="row" style="{_LEFT}">{name}</th>{rest}</tr>'


def _text(text: str) -> str:
    """*text* for a page: no markup, no control or direction characters, of bounded length."""
    kept = text[: 2 * MOST_CHARACTERS]
    missing = len(text) - len(kept)
    more = f"… and {missing} characters more" if missing > 0 else ""
    clean = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in kept
    )
    return (clean + more).translate(_ESCAPES)
