"""How numbers, names and backends look, the same in every format.

Three significant digits: more would claim what no benchmark on a shared machine can keep.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

from benchmarks.results import Arm, Metric
from benchmarks.stats import Interval, Verdict
from reports.words import ENGLISH, Words

_SIGNIFICANT, _MOST_SIGNIFICANT = 3, 10
_PLAIN_FROM, _PLAIN_BELOW = -9, 15
"""Powers of ten that are written out."""
_TIMES = ((1, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s"))
_SIZES = ((1, "B"), (1024, "KiB"), (1024**2, "MiB"), (1024**3, "GiB"))

_COLOURS = {"host": "#767676", "container": "#0072b2", "vm": "#d55e00"}
_FURTHER_COLOURS = (
    "#009e73", "#cc79a7", "#8a6d00", "#7b5ea7", "#b23a48", "#2a8596", "#5c8a1e",
)  # fmt: skip
_DARK_COLOURS = {"host": "#a8b0b8", "container": "#5db3f0", "vm": "#ff9350"}
_FURTHER_DARK_COLOURS = (
    "#3ccf9f", "#e79cc6", "#d8b742", "#b79be6", "#ff8d9a", "#6fd0e0", "#a8d568",
)  # fmt: skip
_MARKERS = {"host": "o", "container": "s", "vm": "D"}
_FURTHER_MARKERS = ("^", "v", "P", "X", "<", ">", "h")
_DASHES = {"host": "solid", "container": "dashed", "vm": "dashdot"}
_FURTHER_DASHES = ("dotted", "solid", "dashed", "dashdot")

VERDICT_MARKS = {
    Verdict.HIGHER: "▲",
    Verdict.LOWER: "▼",
    Verdict.EQUIVALENT: "=",
    Verdict.INCONCLUSIVE: "?",
    Verdict.TOO_FEW: "·",
    Verdict.UNDEFINED: "∅",
    Verdict.ONCE: "1",
}
NOTHING = "\N{EM DASH}"
"""A gap: nothing was measured. Never zero."""

_Look = TypeVar("_Look")


def effect(metric: Metric, verdict: Verdict | None) -> str:
    """Whom a verdict speaks for: ``better``, ``worse``, ``same``, ``unsure`` or ``none``."""
    match verdict:
        case Verdict.HIGHER | Verdict.LOWER:
            is_more = verdict is Verdict.HIGHER
            return "worse" if is_more == (metric.direction == "lower") else "better"
        case Verdict.EQUIVALENT:
            return "same"
        case Verdict.INCONCLUSIVE | Verdict.TOO_FEW:
            return "unsure"
        case _:
            return "none"


def format_ns(value_ns: float) -> str:
    """``1.23 ms``."""
    return _scaled(value_ns, _TIMES)


def format_bytes(value_bytes: float) -> str:
    """``12.3 MiB``; whole bytes below one KiB."""
    return _scaled(value_bytes, _SIZES)


def format_value(value: float, unit: str) -> str:
    """A value of any metric, with its unit."""
    if unit == "ns":
        return format_ns(value)
    if unit == "bytes":
        return format_bytes(value)
    return f"{_digits(value)} {unit}"


def format_tick(value: float, unit: str) -> str:
    """A round value for an axis: ``5 ms``, not ``5.00 ms``."""
    number, _, name = format_value(value, unit).partition(" ")
    if "." in number and "e" not in number:
        number = number.rstrip("0").rstrip(".")
    return f"{number} {name}" if value else "0"


def format_ratio(ratio: float, words: Words = ENGLISH) -> str:
    """``8.03x``."""
    return words("number.ratio", number=_digits(ratio))


def format_interval(interval: Interval, words: Words = ENGLISH) -> str:
    """``7.91-8.17``, with an en dash and as many digits as tell the ends apart.

    An interval without width comes from samples that never vary: ``exactly 16.9``.
    """
    if interval.low == interval.high:
        return words("number.exactly", number=_digits(interval.low))
    significant = _SIGNIFICANT
    low, high = _digits(interval.low), _digits(interval.high)
    while low == high and significant < _MOST_SIGNIFICANT:
        significant += 1
        low, high = _digits(interval.low, significant), _digits(interval.high, significant)
    return f"{low}\N{EN DASH}{high}"


def format_percent(share: float) -> str:
    """``8.71 %`` for 0.0871."""
    return f"{_digits(share * 100)} %" if share else "0 %"


def format_margin(margin: float) -> str:
    """``±10 %``: a factor of 1.1 either way."""
    return f"±{margin * 100:.3g} %"


def title_of(metric: Metric, words: Words = ENGLISH) -> str:
    """The run's own title; in other languages that of the catalogue, for metrics we know."""
    key = f"metric.{metric.name}.title"
    if words.language != ENGLISH.language and words.knows(key):
        return words(key)
    return metric.title


def subject(arm: Arm) -> str:
    """The label with its accelerator, ``vm[tcg]``: a number of one is never that of another."""
    return arm.label if arm.accelerator is None else f"{arm.label}[{arm.accelerator}]"


def printable(text: str, *, limit: int = 80) -> str:
    """A stranger's text for one line of a terminal or figure: no control characters, not long."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= limit else f"{clean[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def colours(arms: Sequence[Arm]) -> dict[str, str]:
    """Label -> colour, told apart with any colour vision and on light and dark ground.

    Source: Okabe & Ito 2008, the two brightest left out.
    """
    return _assigned(arms, _COLOURS, _FURTHER_COLOURS)


def dark_colours(arms: Sequence[Arm]) -> dict[str, str]:
    """Label -> a lighter colour of the same hue, for dark ground alone."""
    return _assigned(arms, _DARK_COLOURS, _FURTHER_DARK_COLOURS)


def markers(arms: Sequence[Arm]) -> dict[str, str]:
    """Label -> shape, so that colour never carries the meaning alone."""
    return _assigned(arms, _MARKERS, _FURTHER_MARKERS)


def dashes(arms: Sequence[Arm]) -> dict[str, str]:
    """Label -> kind of line, for the same reason."""
    return _assigned(arms, _DASHES, _FURTHER_DASHES)


def _assigned(
    arms: Sequence[Arm], known: dict[str, _Look], further: Sequence[_Look]
) -> dict[str, _Look]:
    """By backend, variants (``vm:restored``) included; what is not known takes turns."""
    strangers = list(dict.fromkeys(arm.backend for arm in arms if arm.backend not in known))
    turns = {name: further[index % len(further)] for index, name in enumerate(strangers)}
    return {arm.label: known.get(arm.backend) or turns[arm.backend] for arm in arms}


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """The largest unit in which the rounded value is at least 1."""
    if value % 1 == 0 and abs(value) < units[1][0]:
        return f"{value:.0f} {units[0][1]}"
    text = ""
    for index, (size, name) in enumerate(units):
        text = f"{_digits(value / size)} {name}"
        following = units[index + 1][0] / size if index + 1 < len(units) else math.inf
        if float(_digits(value / size)) < min(following, 1000):
            break
    return text


def _digits(value: float, significant: int = _SIGNIFICANT) -> str:
    """Significant digits, and all those before the point; an exponent where nobody would count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = f"{value:.{significant - 1}e}"
    magnitude = math.floor(math.log10(abs(float(rounded))))
    if not _PLAIN_FROM <= magnitude < _PLAIN_BELOW:
        return rounded
    return f"{value:.{max(0, significant - 1 - magnitude)}f}"
