"""What a notebook shows, as HTML that needs no script and no style sheet of its own.

Each thing shown wears a badge that says where its numbers come from: this machine, now, or a
recording. It has its conclusion in words, and its numbers in a table: a picture is never the only
way to read them. The text form is what a reader without HTML (a terminal, a test) gets.
"""

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.results import Arm
from reports import summary_of
from reports.doubts import warnings
from reports.style import colours, format_ns, format_tick, format_value, printable, subject
from reports.table import Table
from reports.view import metric_tables
from reports.words import ENGLISH, Words

_WIDTH, _LEFT, _RIGHT, _ROW, _BARS = 700, 170, 60, 30, 340
"""Of a figure, in units of its own view box; _BARS is what the longest cascade is wide."""
_SHAPES = (
    ((0, -7), (7, 0), (0, 7), (-7, 0)),
    ((0, -6), (6, 5), (-6, 5)),
    ((-5, -5), (5, -5), (5, 5), (-5, 5)),
)
"""Of the marks of a series, around their place: shape carries the meaning, colour repeats it."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73")
_DODGE = 7
"""Between the series of one row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """Where numbers come from. *live*: measured now, by this notebook, on this machine.

    Its *words* are the language of everything that wears it.
    """

    live: bool
    sentence: str
    words: Words = ENGLISH

    def __str__(self) -> str:
        return f"{self._mark}: {self.sentence}"

    @property
    def _mark(self) -> str:
        return self.words("notebook.live" if self.live else "notebook.recorded")

    def _repr_html_(self) -> str:
        look = "solid" if self.live else "dashed"
        return (
            f'<span style="display:inline-block;border:1.5px {look} currentColor;'
            f'border-radius:4px;padding:0 6px;font-size:85%"><b>{html.escape(self._mark)}</b> '
            f"{html.escape(self.sentence)}</span>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a cell displays: *markup* where HTML is rendered, *text* everywhere else."""

    markup: str
    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One row of a chart of marks: a name, and values by series; None is a gap, never zero."""

    name: str
    values: Mapping[str, float | None]


def table(shown: Table, badge: Badge, *, conclusion: str = "") -> Shown:
    """A table with its caption, what it says in one sentence, and where it comes from."""
    return _framed(shown.caption, badge, conclusion, _table(shown), _plain(shown))


def waterfall(phases: Mapping[Arm, Sequence[Mapping[str, int]]], badge: Badge) -> Shown:
    """When each phase was reached, in ns since the request: medians over a subject's instances.

    First all subjects on one logarithmic axis, then each on a linear axis of its own, on which a
    bar is the time between one phase and the next.
    """
    words = badge.words
    medians = {arm: _medians(each) for arm, each in phases.items()}
    reached = {arm: spans for arm, spans in medians.items() if any(spans.values())}
    numbers = Table(
        caption=words("notebook.phases"),
        head=(
            words("head.subject"), words("notebook.phase"), words("head.median"),
            words("notebook.lowest"), words("notebook.highest"), words("notebook.instances"),
        ),
        rows=tuple(row for arm in reached for row in _phase_rows(arm, phases[arm])),
    )  # fmt: skip
    paint = colours(tuple(reached))
    panels = [_cascade(arm, spans, paint[arm.label], words) for arm, spans in reached.items()]
    drawn = "".join([_race(reached, paint, words), *panels] if reached else [])
    summary = html.escape(words("notebook.numbers"))
    folded = f"<details><summary>{summary}</summary>{_table(numbers)}</details>"
    title, said = words("notebook.waterfall"), _ordered(reached, words)
    return _framed(title, badge, said, drawn + folded, _plain(numbers))


def marks(title: str, lanes: Sequence[Lane], unit: str, badge: Badge, *, conclusion: str) -> Shown:
    """Several values for each name on one logarithmic axis, a shape for each series.

    Every value must be positive; the axis says that it is logarithmic.
    """
    series = list(dict.fromkeys(key for lane in lanes for key in lane.values))
    numbers = Table(
        caption=title,
        head=(badge.words("head.subject"), *series),
        rows=tuple(
            (lane.name, *(_cell(lane.values.get(key), unit) for key in series)) for lane in lanes
        ),
    )
    drawn = _marks_svg(title, lanes, unit, badge.words) if _positive(lanes) else ""
    body = f"{drawn}{_table(numbers)}"
    return _framed(title, badge, conclusion, body, _plain(numbers))


def results(directory: Path, words: Words = ENGLISH) -> Shown:
    """A whole run of the suite: what limits it, then a table for each metric."""
    found, summary = summary_of(directory)
    cpu = found.run.environment.get("cpu") or words("notebook.unnamed")
    sentence = words("notebook.run", run=found.run.run, cpu=cpu)
    badge = Badge(live=False, sentence=sentence, words=words)
    cautions = "".join(f"<p>{html.escape(each)}</p>" for each in warnings(found, summary, words))
    tables = [each.table for each in metric_tables(summary, words)]
    text = "\n\n".join(f"{each.caption}\n{_plain(each)}" for each in tables)
    body = cautions + "".join(
        f"<p><b>{html.escape(each.caption)}</b></p>{_table(each)}" for each in tables
    )
    return _framed(words("notebook.results", run=found.run.run), badge, "", body, text)


def listing(title: str, text: str, *, is_open: bool = False) -> Shown:
    """Text in which every space counts, to be unfolded: source code, a plan."""
    body = f'<pre tabindex="0" style="overflow-x:auto">{html.escape(text)}</pre>'
    return Shown(
        markup=f"<details{' open' if is_open else ''}><summary>{html.escape(title)}</summary>"
        f"{body}</details>",
        text=f"{title}\n{text}" if is_open else text,
    )


def together(*parts: Shown) -> Shown:
    """Several things, one below the other."""
    return Shown(
        markup="".join(part.markup for part in parts),
        text="\n\n".join(part.text for part in parts),
    )


def _medians(instances: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Phase -> median, in time's order."""
    names = dict.fromkeys(name for phases in instances for name in phases)
    found = {name: median(each[name] for each in instances if name in each) for name in names}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _phase_rows(arm: Arm, instances: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, ...]]:
    for name, middle in _medians(instances).items():
        seen = [each[name] for each in instances if name in each]
        told = (format_ns(value) for value in (middle, min(seen), max(seen)))
        yield (subject(arm), name, *told, str(len(seen)))


def _ordered(reached: Mapping[Arm, Mapping[str, float]], words: Words) -> str:
    """The figure in words: who is when at its last phase, first one first."""
    last = sorted((*list(spans.items())[-1][::-1], subject(arm)) for arm, spans in reached.items())
    if not last:
        return words("notebook.no_phase")
    told = (
        words("notebook.reached", who=who, phase=phase, at=format_ns(at))
        for at, phase, who in last
    )
    return words("notebook.order", reached="; ".join(told))


def _framed(title: str, badge: Badge, conclusion: str, body: str, text: str) -> Shown:
    said = f"<p>{html.escape(conclusion)}</p>" if conclusion else ""
    label = html.escape(f"{title}. {conclusion}".strip(), quote=True)
    markup = (
        f'<figure aria-label="{label}" style="max-width:52em;margin:0.5em 0">'
        f"<figcaption><b>{html.escape(title)}</b> {badge._repr_html_()}{said}</figcaption>"
        f'<div style="overflow-x:auto">{body}</div></figure>'
    )
    lines = (f"{title} [{badge}]", conclusion, text)
    return Shown(markup=markup, text="\n".join(line for line in lines if line))


def _table(shown: Table) -> str:
    left = "text-align:left;word-break:keep-all"  # Korean breaks between words too
    head = "".join(
        f'<th scope="col" style="{left}">{html.escape(cell)}</th>' for cell in shown.head
    )
    rows = "".join(
        f'<tr><th scope="row" style="{left};white-space:nowrap">{html.escape(row[0])}</th>'
        + "".join(f'<td style="{left}">{html.escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in shown.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _plain(shown: Table) -> str:
    """The table in columns, as a terminal shows it."""
    rows = (shown.head, *shown.rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(shown.head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(value: float | None, unit: str) -> str:
    return "\N{EM DASH}" if value is None else format_value(value, unit)


def _positive(lanes: Sequence[Lane]) -> bool:
    values = [value for lane in lanes for value in lane.values.values() if value is not None]
    return bool(values) and min(values) > 0


def _marks_svg(title: str, lanes: Sequence[Lane], unit: str, words: Words) -> str:
    series = list(dict.fromkeys(key for lane in lanes for key in lane.values))
    values = [value for lane in lanes for value in lane.values.values() if value is not None]
    bottom = _ROW * (len(lanes) + 1)
    across, axis = _log_axis(values, unit, bottom, words)
    parts = list(axis)
    for index, name in enumerate(series):
        at = _LEFT + index * 150
        parts += [_mark(index, at, 12), _text(at + 10, 16, name)]
    for row, lane in enumerate(lanes):
        y = _ROW * (row + 1.5)
        parts.append(_text(_LEFT - 12, y + 4, printable(lane.name, limit=24), "end"))
        parts += [
            _mark(index, across(value), y + _apart(index, len(series)))
            for index, name in enumerate(series)
            if (value := lane.values.get(name)) is not None
        ]
    return _svg(title, bottom + 36, parts)


def _apart(index: int, count: int) -> float:
    """How far below its row's middle a series is drawn, so that equal values stay visible."""
    return (index - (count - 1) / 2) * _DODGE


def _race(
    reached: Mapping[Arm, Mapping[str, float]], paint: Mapping[str, str], words: Words
) -> str:
    """All subjects on one logarithmic axis, a dot for each phase."""
    values = [at for spans in reached.values() for at in spans.values() if at > 0]
    bottom = _ROW * (len(reached) + 1)
    across, axis = _log_axis(values, "ns", bottom, words)
    parts = [*axis, _text(_LEFT, 16, words("notebook.race"))]
    for row, (arm, spans) in enumerate(reached.items()):
        y = _ROW * (row + 1.5)
        dots = [(across(at), name) for name, at in spans.items() if at > 0]
        parts.append(_text(_LEFT - 12, y + 4, printable(subject(arm), limit=24), "end"))
        parts.append(_line(dots[0][0], y, dots[-1][0], y, width=2, colour=paint[arm.label]))
        parts += [
            f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{paint[arm.label]}"/>' for x, _ in dots
        ]
        parts.append(_text(dots[-1][0] + 8, y + 4, dots[-1][1]))
    return _svg(words("notebook.race_label"), bottom + 36, parts)


def _cascade(arm: Arm, spans: Mapping[str, float], colour: str, words: Words) -> str:
    """One subject on a linear axis of its own: a bar is the time since the phase before."""
    end = max(spans.values())
    title = words("notebook.own_axis", who=printable(subject(arm), limit=40))
    parts = [_text(_LEFT, 16, title)]
    before = 0.0
    for row, (name, at) in enumerate(spans.items()):
        y = 26 + row * 20
        x, width = _LEFT + before / end * _BARS, max((at - before) / end * _BARS, 0.5)
        parts.append(_text(_LEFT - 12, y + 11, printable(name, limit=24), "end"))
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
        )
        told = {"step": format_ns(at - before), "at": format_ns(at)}
        note = words("notebook.step", **told) if at else "0"
        parts.append(_text(x + width + 6, y + 11, note))
        before = at
    return _svg(title, 36 + len(spans) * 20, parts)


def _log_axis(
    values: Sequence[float], unit: str, bottom: float, words: Words
) -> tuple[Callable[[float], float], Iterable[str]]:
    """Where a value lies on a logarithmic axis, and the axis itself, which says that it is one."""
    ticks = _ticks(min(values), max(values), unit)
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def across(value: float) -> float:
        return _LEFT + (math.log(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    drawn = [
        _line(across(tick), _ROW, across(tick), bottom, width=0.3)
        + _text(across(tick), bottom + 14, format_tick(tick, unit), "middle")
        for tick in ticks
    ]
    said = words("notebook.logarithmic", step=f"{_step(unit):g}")
    return across, (*drawn, _text(_LEFT, bottom + 32, said))


def _mark(index: int, x: float, y: float) -> str:
    """The shape of the series *index*; its colour says the same once more."""
    colour = _COLOURS[index % len(_COLOURS)]
    paint = f'fill="{colour}" stroke="currentColor" stroke-width="0.8"'
    around = _SHAPES[index % len(_SHAPES)]
    points = " ".join(f"{x + across:.1f},{y + down:.1f}" for across, down in around)
    return f'<polygon points="{points}" {paint}/>'


def _line(
    x: float, y: float, to_x: float, to_y: float, *, width: float, colour: str = "currentColor"
) -> str:
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, said: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(said)}</text>'


def _svg(title: str, height: float, parts: Iterable[str]) -> str:
    label = html.escape(title, quote=True)
    shape = f'viewBox="0 0 {_WIDTH} {height:.0f}" style="width:100%" fill="currentColor"'
    return f'<svg role="img" aria-label="{label}" {shape} font-size="12">{"".join(parts)}</svg>'


def _ticks(low: float, high: float, unit: str) -> list[float]:
    """Powers of the unit's step around the values, two at least."""
    step = _step(unit)
    first, last = math.floor(math.log(low, step)), math.ceil(math.log(high, step))
    return [step**power for power in range(first, max(last, first + 1) + 1)]


def _step(unit: str) -> float:
    """Bytes are counted in powers of two, everything else in powers of ten."""
    return 16.0 if unit == "bytes" else 10.0
