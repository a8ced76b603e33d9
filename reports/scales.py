"""Where an axis has its ticks, and where on it a value stands. Pure."""

import math
from dataclasses import dataclass

LINEAR_UP_TO = 4
"""A wider range than this factor is drawn on a logarithmic axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogScale:
    """A logarithmic axis from ``low`` to ``high``."""

    low: float
    high: float

    def percent(self, value: float) -> float:
        """Where *value* stands, from 0 to 100, rounded to what a screen can show."""
        span = math.log(self.high / self.low)
        return round(100 * min(1, max(0, math.log(value / self.low) / span)), 2)

    def ticks(self, most: int = 6) -> list[float]:
        """At most *most* round values inside, 1 among them where it can be."""
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) < 3 else (1,)
        every = [
            factor * 10.0**power
            for power in range(powers.start - 1, powers.stop)
            for factor in factors
        ]
        ticks = [tick for tick in every if self.low <= tick <= self.high]
        step = math.ceil(len(ticks) / most)
        first = ticks.index(1) % step if 1 in ticks else 0  # ratios are read from 1
        return ticks[first::step]


def needs_log(low: float, high: float) -> bool:
    """Whether a range needs a logarithmic axis, and zero does not forbid it."""
    return low > 0 and high / low > LINEAR_UP_TO


def log_ticks(low: float, high: float, unit: str) -> list[float]:
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


def linear_ticks(low: float, high: float, unit: str, *, most: int = 6) -> list[float]:
    """About *most* round steps; bytes are round in the unit they are shown in."""
    scale = 1.0
    if unit == "bytes" and high > 0:
        scale = 1024.0 ** min(3, max(0, math.floor(math.log(high, 1024))))
    span = (high - low) / scale
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = max(0, math.ceil(low / scale / step))
    last = math.floor(high / scale / step)
    return [index * step * scale for index in range(first, last + 1)]
