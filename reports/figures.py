"""The report's figures, as SVG that goes straight into the page. The only matplotlib.

The same input gives the same bytes: no dates, ids from a fixed salt, ticks of our own. Text stays
text, and what is drawn in INK takes the page's colour, so that a figure is readable on light and
dark ground. Every figure has its data in a table or in the embedded samples.
"""

import html
import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.results import Arm, Metric, Sample
from benchmarks.stats import spread_of
from benchmarks.summary import PhaseSpread, counted
from reports.style import colours, format_ns, format_value, markers, printable, subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn with this, an element takes the colour of the text around the figure."""
WIDTH_INCHES = 7.4
LINEAR_UP_TO = 4
"""A wider range than this factor is drawn on a logarithmic axis."""

_RC: Any = {  # matplotlib types its keys one by one
    "svg.fonttype": "none",
    "svg.hashsalt": "isoscope",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "text.parse_math": False,  # labels are a stranger's text, not formulas
}


def waterfall(
    phases: Sequence[PhaseSpread], arms: Sequence[Arm], workload: str, *, name: str
) -> str | None:
    """When each phase was reached; None if no phase was seen.

    On top all labels share one logarithmic axis; below each has a linear axis of its own, on
    which a bar's length is the time it took. Bars end at medians, whiskers span p5 to p95.
    """
    by_label = {
        arm: _in_time(
            phase for phase in phases if (phase.workload, phase.label) == (workload, arm.label)
        )
        for arm in arms
    }
    shown = {
        arm: found for arm, found in by_label.items() if found and found[-1].spread.median > 0
    }
    if not shown:
        return None
    heights = [len(shown) * 0.26 + 0.45, *(len(found) * 0.24 + 0.62 for found in shown.values())]
    with _figure(sum(heights)) as figure:
        panels = figure.subplots(len(heights), 1, height_ratios=heights)
        _overview(panels[0], shown, colours(arms), markers(arms))
        for axes, (arm, found) in zip(panels[1:], shown.items(), strict=True):
            _cascade(axes, arm, found, colours(arms)[arm.label])
        title = f"Boot waterfall of workload {workload}"
        return _svg(figure, name, title)


def dots(
    samples: Sequence[Sample], metric: Metric, workload: str, arms: Sequence[Arm], *, name: str
) -> str | None:
    """Every counted value of a metric as a dot, one lane for each label; None without values.

    Inside a lane the blocks run from top to bottom, so that a drift is visible as a slope.
    """
    usable = counted(samples)
    lanes = {
        arm: {
            sample.block: float(sample.value)
            for sample in usable
            if sample.value is not None
            and (sample.workload, sample.metric, sample.label)
            == (workload, metric.name, arm.label)
        }
        for arm in arms
    }
    shown = {arm: values for arm, values in lanes.items() if values}
    if not shown:
        return None
    with _figure(len(shown) * 0.42 + 0.6) as figure:
        axes = figure.subplots()
        for lane, (arm, values) in enumerate(shown.items()):
            _lane(axes, lane, values, colours(arms)[arm.label], markers(arms)[arm.label])
        axes.set_yticks(range(len(shown)), [printable(subject(arm)) for arm in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        every = [value for values in shown.values() for value in values.values()]
        _value_axis(axes, every, metric.unit)
        return _svg(figure, name, f"{metric.title}: every sample by label")


def _in_time(phases: Iterable[PhaseSpread]) -> list[PhaseSpread]:
    return sorted(phases, key=lambda phase: phase.spread.median)


def _overview(
    axes: "Axes",
    shown: Mapping[Arm, Sequence[PhaseSpread]],
    colour: Mapping[str, str],
    marker: Mapping[str, str],
) -> None:
    reached = [
        phase.spread.median
        for found in shown.values()
        for phase in found
        if phase.spread.median > 0
    ]
    for lane, (arm, found) in enumerate(shown.items()):
        times = [phase.spread.median for phase in found if phase.spread.median > 0]
        axes.plot(
            times,
            [lane] * len(times),
            color=colour[arm.label],
            marker=marker[arm.label],
            linewidth=1.5,
            markersize=4,
        )
        axes.annotate(
            format_ns(times[-1]),
            (times[-1], lane),
            xytext=(6, 0),
            textcoords="offset points",
            verticalalignment="center",
        )
    axes.set_yticks(range(len(shown)), [printable(subject(arm)) for arm in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_title("All on one logarithmic axis: each mark is a phase", loc="left", fontsize=9)
    _value_axis(axes, reached, "ns", room_right=2.2)


def _cascade(axes: "Axes", arm: Arm, found: Sequence[PhaseSpread], colour: str) -> None:
    """One row for each phase; its bar begins where the phase before it was reached."""
    before = 0.0
    end = max(phase.spread.p95 for phase in found)
    for row, phase in enumerate(found):
        at = phase.spread.median
        axes.barh(row, at - before, left=before, height=0.6, color=colour)
        reach = [[at - phase.spread.p5], [phase.spread.p95 - at]]
        axes.errorbar(at, row, xerr=reach, color=INK, linewidth=1, capsize=2)
        note = f"+{format_ns(at - before)}" if phase.phase != "request" else "0"
        axes.annotate(
            f"{note}   at {format_ns(at)}" if before else note,
            (max(at, phase.spread.p95), row),
            xytext=(5, 0),
            textcoords="offset points",
            verticalalignment="center",
            fontsize=8,
        )
        before = at
    axes.set_yticks(range(len(found)), [phase.phase for phase in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"{printable(subject(arm))}, own linear axis", loc="left", fontsize=9)
    axes.set_xlim(0, end * 1.3)
    _ticks(axes, _linear_ticks(0, end, "ns"), "ns")


def _lane(axes: "Axes", lane: int, values: Mapping[int, float], colour: str, marker: str) -> None:
    blocks = sorted(values)
    step = 0.56 / max(1, len(blocks) - 1)
    heights = [lane - 0.28 + step * index for index in range(len(blocks))]
    axes.plot(
        [values[block] for block in blocks],
        heights if len(blocks) > 1 else [lane],
        linestyle="none",
        marker=marker,
        markersize=4,
        markerfacecolor=colour,
        markeredgecolor=colour,
        alpha=0.75,
    )
    spread = spread_of(values.values())
    if spread is not None:
        axes.vlines(spread.median, lane - 0.42, lane + 0.42, color=INK, linewidth=1.4)


def _value_axis(
    axes: "Axes", values: Sequence[float], unit: str, *, room_right: float = 1.0
) -> None:
    """A logarithmic axis where the range needs one and zero does not forbid it."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LINEAR_UP_TO:
        axes.set_xscale("log")
        pad = (high / low) ** 0.05
        axes.set_xlim(low / pad, high * pad * room_right)
        _ticks(axes, _log_ticks(low / pad, high * pad, unit), unit)
        return
    pad = (high - low) * 0.08 or abs(high) * 0.08 or 1.0
    axes.set_xlim(low - pad, high + pad)
    _ticks(axes, _linear_ticks(low - pad, high + pad, unit), unit)


def _ticks(axes: "Axes", ticks: Sequence[float], unit: str) -> None:
    axes.xaxis.minorticks_off()
    labels = [re.sub(r"(\.\d*?)0+ ", r"\1 ", format_value(tick, unit)) for tick in ticks]
    labels = [
        label.replace(". ", " ") if tick else "0"
        for tick, label in zip(ticks, labels, strict=True)
    ]
    axes.set_xticks(ticks, labels)
    axes.grid(axis="x")


def _log_ticks(low: float, high: float, unit: str) -> list[float]:
    """Powers of ten (of two for bytes), thinned to at most six; 1, 2, 5 where few would fit."""
    base = 2 if unit == "bytes" else 10
    powers = range(math.ceil(math.log(low, base)), math.floor(math.log(high, base)) + 1)
    if base == 10 and len(powers) < 3:
        steps = [
            float(factor * 10**power)
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for factor in (1, 2, 5)
        ]
        return [step for step in steps if low <= step <= high]
    return [float(base**power) for power in powers[:: math.ceil(len(powers) / 6) or 1]]


def _linear_ticks(low: float, high: float, unit: str) -> list[float]:
    """About five round steps; bytes are round in the unit they are shown in."""
    scale = 1.0
    if unit == "bytes" and high > 0:
        scale = 1024.0 ** min(3, max(0, math.floor(math.log(high, 1024))))
    span = (high - low) / scale
    raw = span / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = max(0, math.ceil(low / scale / step))
    last = math.floor(high / scale / step)
    return [index * step * scale for index in range(first, last + 1)]


@contextmanager
def _figure(height_inches: float) -> Iterator["Figure"]:
    """A figure outside of pyplot: no global state, no display, nothing to close."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that only a report should pay
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    with mpl.rc_context():
        mpl.rcdefaults()  # a user's matplotlibrc must not change a report's bytes
        mpl.rcParams.update(_RC)
        yield Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")


def _svg(figure: "Figure", name: str, title: str) -> str:
    """The figure's svg element: no prologue, no network names, ids of its own, text as ink."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's font draws the text
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\sxmlns(?::xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor")
    label = f'<svg role="img" aria-labelledby="{name}-title"'
    return svg.replace("<svg", label, 1).replace(
        ">", f'><title id="{name}-title">{html.escape(title)}</title>', 1
    )
