"""The report's figures: what is drawn of a run. Rendering is in ``reports.svg``.

Every figure is as wide as a phone and drawn in lanes, one for each label, so that long names fit.
Colours come from the page; shapes and kinds of line tell the same. Every figure has its data in a
table. None is returned where there is nothing to draw.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from benchmarks.results import Arm, Sample
from benchmarks.stats import spread_of
from benchmarks.summary import PhaseSpread
from reports.scales import linear_ticks, log_ticks, needs_log
from reports.style import (
    dashes,
    format_ns,
    format_tick,
    format_value,
    markers,
    printable,
    subject,
)
from reports.svg import INK, WIDTH_PT, as_svg, drawing, slot_colour
from reports.thinning import by_rank, cumulative, in_groups
from reports.waterfall import reached
from reports.words import ENGLISH, Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 30
"""Up to so many values have a mark of their subject's shape; more are strokes on a line."""
_LANE_PT = 43
_SHORT_LANE_PT = 32
_AXIS_PT = 20
_MARGIN_PT = 8
_SMALL = 8
_MOST_SHADES = 40
_SMALLEST = 1e-30
"""Nothing that is measured is smaller, or larger than its reciprocal, in any unit of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """The counted values of one metric, by label and block, as figures want them."""

    title: str
    unit: str
    arms: tuple[Arm, ...]
    lanes: Mapping[str, Mapping[int, float]]

    @property
    def shown(self) -> list[Arm]:
        """The labels that have values."""
        return [arm for arm in self.arms if self.lanes.get(arm.label)]

    @property
    def can_be_drawn(self) -> bool:
        """Whether there are values, and all of a magnitude that an axis can show."""
        every = (abs(value) for lane in self.lanes.values() for value in lane.values())
        return bool(self.shown) and all(
            value == 0 or _SMALLEST <= value <= 1 / _SMALLEST for value in every
        )

    @property
    def most(self) -> int:
        """Values in the fullest lane."""
        return max((len(values) for values in self.lanes.values()), default=0)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest of all."""
        every = [value for values in self.lanes.values() for value in values.values()]
        return min(every), max(every)

    def in_block_order(self, arm: Arm) -> list[float]:
        """A lane's values, first block first."""
        return [value for _, value in sorted(self.lanes[arm.label].items())]


class Draw(Protocol):
    """A figure of one metric's values."""

    def __call__(self, values: Values, *, name: str, words: Words = ENGLISH) -> str | None:
        """The svg element; *name* makes its ids the page's only ones."""


def values_of(samples: Iterable[Sample], arms: Sequence[Arm], *, title: str, unit: str) -> Values:
    """The values of *samples*, which are of one metric and workload and count."""
    lanes: dict[str, dict[int, float]] = {}
    for sample in samples:
        if sample.value is not None:
            lanes.setdefault(sample.label, {})[sample.block] = float(sample.value)
    return Values(title=title, unit=unit, arms=tuple(arms), lanes=lanes)


def dots(values: Values, *, name: str, words: Words = ENGLISH) -> str | None:
    """Every value on one axis, a lane for each label; inside it the first block is on top."""
    if not values.can_be_drawn:
        return None
    with drawing(_height(len(values.shown))) as figure:
        axes = _lanes(figure, values)
        for lane, arm in enumerate(values.shown):
            ordered = values.in_block_order(arm)
            _scatter(axes, lane, ordered, values, arm)
            spread = spread_of(ordered)
            if spread is not None:
                axes.vlines(spread.median, lane - 0.16, lane + 0.46, color=INK, linewidth=1.3)
        _value_axis(axes, *values.ends, values.unit)
        return as_svg(figure, name, words("figure.dots", title=values.title))


def distribution(values: Values, *, name: str, words: Words = ENGLISH) -> str | None:
    """The empirical distributions: on one axis where that shows them, else in lanes."""
    if not values.can_be_drawn:
        return None
    title = words("figure.ecdf", title=values.title)
    if not is_on_one_axis(values):
        with drawing(_height(len(values.shown))) as figure:
            axes = _lanes(figure, values, has_axis=False)
            for lane, arm in enumerate(values.shown):
                _own_steps(axes, lane, values, arm)
            return as_svg(figure, name, title)
    with drawing(_height(len(values.shown))) as figure:
        axes = _axes(figure, left=24)
        for arm in values.shown:
            steps = cumulative(values.in_block_order(arm))
            axes.step(
                [values.ends[0], *(value for value, _ in steps), values.ends[1]],
                [0, *(share for _, share in steps), 1],
                where="post",
                color=_colour(values, arm),
                linestyle=dashes(values.arms)[arm.label],
                linewidth=1.5,
            )
        axes.set_ylim(-0.02, 1.03)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes.grid(axis="y")
        _value_axis(axes, *values.ends, values.unit)
        return as_svg(figure, name, title)


def is_on_one_axis(values: Values) -> bool:
    """Whether all distributions can be told apart on one linear axis."""
    return not needs_log(*values.ends)


def run_order(values: Values, *, name: str, words: Words = ENGLISH) -> str | None:
    """Each label's values in the order of the blocks, from its own lowest to its own highest."""
    if not values.can_be_drawn:
        return None
    blocks = sorted({block for lane in values.lanes.values() for block in lane})
    with drawing(_height(len(values.shown))) as figure:
        axes = _lanes(figure, values)
        _shade(axes, blocks)
        for lane, arm in enumerate(values.shown):
            _in_time(axes, lane, values, arm)
        axes.set_xlim(blocks[0] - 0.5, blocks[-1] + 0.5)
        ticks = linear_ticks(blocks[0], max(blocks[-1], blocks[0] + 1), "", most=8)
        whole = [tick for tick in ticks if tick % 1 == 0 and blocks[0] <= tick <= blocks[-1]]
        axes.set_xticks(whole or [blocks[0]], [f"{tick:.0f}" for tick in whole or [blocks[0]]])
        return as_svg(figure, name, words("figure.order", title=values.title))


def blocks_in_a_shade(blocks: int) -> int:
    """How many blocks share a shade, so that shades stay wide enough to see."""
    return -(-blocks // _MOST_SHADES) or 1


def overview(
    phases: Sequence[PhaseSpread],
    arms: Sequence[Arm],
    workload: str,
    *,
    name: str,
    words: Words = ENGLISH,
) -> str | None:
    """When each phase was reached, all labels on one logarithmic axis."""
    found = reached(phases, arms, workload)
    if not found:
        return None
    every = [at for _, marks in found for at in _medians(marks)]
    with drawing(_height(len(found), _SHORT_LANE_PT)) as figure:
        axes = _axes(figure)
        _name_lanes(axes, [arm for arm, _ in found])
        for lane, (arm, marks) in enumerate(found):
            times = _medians(marks)
            axes.plot(
                times,
                [lane + 0.1] * len(times),
                color=slot_colour(list(arms).index(arm)),
                marker=markers(arms)[arm.label],
                linewidth=1.5,
                markersize=4,
            )
            axes.annotate(
                format_ns(times[-1]),
                (times[-1], lane + 0.1),
                xytext=(6, 0),
                textcoords="offset points",
                verticalalignment="center",
                fontsize=_SMALL,
            )
        _value_axis(axes, min(every), max(every), "ns", room_right=0.2)
        return as_svg(figure, name, words("figure.overview", workload=workload))


def _medians(marks: Sequence[PhaseSpread]) -> list[float]:
    return [mark.spread.median for mark in marks if mark.spread.median > 0]


def _scatter(axes: "Axes", lane: int, ordered: Sequence[float], values: Values, arm: Arm) -> None:
    places = by_rank(ordered)
    step = 0.5 / max(1, len(ordered) - 1)
    heights = [lane - 0.1 + step * place for place, _ in places]
    at = [value for _, value in places]
    colour = _colour(values, arm)
    if len(ordered) == 1:
        heights = [lane + 0.15]
    if len(places) <= _FEW:
        axes.plot(
            at, heights, linestyle="none", marker=markers(values.arms)[arm.label],
            markersize=4, markerfacecolor=colour, markeredgecolor=colour, alpha=0.75,
        )  # fmt: skip
        return
    gap = [float("nan")]
    axes.plot(
        [x for value in at for x in (value, value, *gap)],
        [y for height in heights for y in (height - 0.03, height + 0.03, *gap)],
        color=colour, linewidth=1.6, alpha=0.8,
    )  # fmt: skip


def _own_steps(axes: "Axes", lane: int, values: Values, arm: Arm) -> None:
    """A lane's own distribution, stretched from its lowest to its highest value."""
    ordered = values.in_block_order(arm)
    low, high = min(ordered), max(ordered)
    span = high - low or 1.0
    steps = cumulative(ordered)
    base, top = lane + 0.44, 0.6
    axes.step(
        [0, *((value - low) / span for value, _ in steps), 1],
        [base, *(base - top * share for _, share in steps), base - top],
        where="post",
        color=_colour(values, arm),
        linestyle=dashes(values.arms)[arm.label],
        linewidth=1.5,
    )
    axes.hlines([base], 0, 1, color=INK, linewidth=0.6, alpha=0.4)
    _ends(axes, lane, format_value(low, values.unit), format_value(high, values.unit))
    axes.set_xlim(-0.02, 1.02)


def _in_time(axes: "Axes", lane: int, values: Values, arm: Arm) -> None:
    """A line through the values; of many, one through groups' medians, on a band over the rest."""
    pairs = sorted(values.lanes[arm.label].items())
    blocks = [block for block, _ in pairs]
    ordered = [value for _, value in pairs]
    low, high = min(ordered), max(ordered)
    groups = in_groups(ordered)
    at = [_between(blocks, group.place) for group in groups]

    def heights(found: Iterable[float]) -> list[float]:
        return [lane + 0.42 - 0.54 * ((value - low) / (high - low or 1.0)) for value in found]

    colour = _colour(values, arm)
    if len(groups) < len(ordered):
        lowest = heights(group.low for group in groups)
        highest = heights(group.high for group in groups)
        axes.fill_between(at, lowest, highest, color=colour, alpha=0.3, linewidth=0)
    axes.plot(
        at,
        heights(group.median for group in groups),
        color=colour,
        linewidth=0.9,
        marker=markers(values.arms)[arm.label] if len(groups) <= _FEW else None,
        markersize=3.5,
    )
    _ends(axes, lane, format_value(low, values.unit), format_value(high, values.unit))


def _between(blocks: Sequence[int], place: float) -> float:
    """The block at *place*, halfway between two where the place is."""
    return (blocks[int(place)] + blocks[math.ceil(place)]) / 2


def _ends(axes: "Axes", lane: int, low: str, high: str) -> None:
    """A lane's own range, in its upper right corner."""
    text = low if low == high else f"{low} … {high}"
    axes.annotate(
        text, (1, lane - 0.36), xycoords=("axes fraction", "data"), fontsize=_SMALL,
        horizontalalignment="right", verticalalignment="center", alpha=0.8,
    )  # fmt: skip


def _shade(axes: "Axes", blocks: Sequence[int]) -> None:
    """Every other block, or group of blocks, on darker ground."""
    group = blocks_in_a_shade(blocks[-1] - blocks[0] + 1)
    for start in range(blocks[0], blocks[-1] + 1, 2 * group):
        end = min(start + group, blocks[-1] + 1)
        axes.axvspan(start - 0.5, end - 0.5, color=INK, alpha=0.06, linewidth=0)


def _colour(values: Values, arm: Arm) -> str:
    return slot_colour(values.arms.index(arm))


def _height(lanes: int, lane_pt: float = _LANE_PT) -> float:
    return lanes * lane_pt + _AXIS_PT + _MARGIN_PT


def _axes(figure: "Figure", *, left: float = _MARGIN_PT, bottom: float = _AXIS_PT) -> "Axes":
    """The only axes of a figure, placed in points: the same for every font and language."""
    height_pt = figure.get_size_inches()[1] * 72
    inside = (WIDTH_PT - left - _MARGIN_PT, height_pt - bottom - _MARGIN_PT)
    return figure.add_axes(
        (left / WIDTH_PT, bottom / height_pt, inside[0] / WIDTH_PT, inside[1] / height_pt)
    )


def _lanes(figure: "Figure", values: Values, *, has_axis: bool = True) -> "Axes":
    axes = _axes(figure)
    _name_lanes(axes, values.shown)
    if not has_axis:
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    return axes


def _name_lanes(axes: "Axes", arms: Sequence[Arm]) -> None:
    """Names stand above their lanes, at the left edge, where any length fits."""
    axes.set_ylim(len(arms) - 0.48, -0.52)
    axes.set_yticks([])
    for lane, arm in enumerate(arms):
        axes.annotate(
            printable(subject(arm), limit=30), (0, lane - 0.36),
            xycoords=("axes fraction", "data"), verticalalignment="center", fontsize=9,
        )  # fmt: skip


def _value_axis(
    axes: "Axes", low: float, high: float, unit: str, *, room_right: float = 0.0
) -> None:
    """A logarithmic axis where the range needs one; *room_right* is a share of its length."""
    if needs_log(low, high):
        axes.set_xscale("log")
        pad = (high / low) ** 0.05
        axes.set_xlim(low / pad, high * pad * (high / low) ** room_right)
        _ticks(axes, log_ticks(low / pad, high * pad, unit), unit)
        return
    pad = (high - low) * 0.08 or abs(high) * 0.08 or 1.0
    axes.set_xlim(low - pad, high + pad + (high - low) * room_right)
    _ticks(axes, linear_ticks(low - pad, high + pad, unit, most=4), unit)


def _ticks(axes: "Axes", ticks: Sequence[float], unit: str) -> None:
    axes.xaxis.minorticks_off()
    axes.set_xticks(ticks, [format_tick(tick, unit) for tick in ticks])
    axes.grid(axis="x")
