"""What the samples of a run support, and no more. Pure: results in, values out, words elsewhere.

The unit of analysis is the instance, one per block and label. Two labels are compared by the
ratio of their medians; its interval comes from resampling *blocks*, both arms together, because
what disturbs a block disturbs both (percentile bootstrap; Efron & Tibshirani 1993, ch. 13). The
bias-corrected and accelerated interval (BCa, ibid. ch. 14) was tried and is worse here: a median's
jackknife is too coarse for its acceleration, and with drift it covers 83 % at 6 blocks and 90 % at
10 where the plain one covers 94 % and 98 % (``tests/unit/benchmarks/test_calibration.py``). A
comparison of the baseline with itself (A/A) gives the noise floor, and no difference below twice
that floor is claimed. With fewer than six blocks no interval is claimed at all. Every draw comes
from a seed that depends on the run's seed and the comparison only, so numbers do not change when
another row joins the table.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

MIN_BLOCKS = 6
"""Below this a nominal 95 % interval is not one: five values cover a median to 93.75 % at most."""

MARGINS = {"boot": 0.10, "start": 0.10, "prepare": 0.10, "memory": 0.02, "cpu": 0.02, "disk": 0.05}
"""Smallest ratio - 1 that matters, by metric family; fixed before any measurement."""
OTHER_MARGIN = 0.05

QUANTILE_SUPPORT = 10
"""A quantile is told if about this many values are expected beyond it: p5 and p95 from 200 on."""

_WORTH_PROPOSING_BLOCKS = 1000
_CHUNK = 1 << 16
"""Values drawn at a time: so few stay in the processor's cache."""

Values = NDArray[np.float64]
ByBlock = Mapping[int, float]


class Verdict(StrEnum):
    """What an interval says about a ratio to the baseline, given the margin."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "n too small"
    UNDEFINED = "no ratio"
    ONCE = "measured once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From ``low`` to ``high``, both included."""

    low: float
    high: float

    def within(self, margin_log: float) -> bool:
        """Whether every ratio in it is at most a factor exp(*margin_log*) away from 1."""
        return -margin_log <= math.log(self.low) and math.log(self.high) <= margin_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Order statistics of *n* values, in the metric's unit; percentiles interpolate linearly.

    ``p5`` and ``p95`` are None where *n* cannot carry them.
    """

    n: int
    median: float
    p5: float | None
    p95: float | None
    low: float
    high: float

    @property
    def constant(self) -> bool:
        """Whether all values are the same: a property of the thing, or a clock that is stuck."""
        return self.low == self.high

    @property
    def tails(self) -> tuple[float, float]:
        """``p5`` and ``p95`` where they are carried, else the least and the greatest value."""
        return (
            (self.low, self.high) if self.p5 is None or self.p95 is None else (self.p5, self.p95)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Median over median of the ``blocks`` that both labels have; no interval below MIN_BLOCKS."""

    estimate: float
    blocks: int
    ci95: Interval | None
    ci90: Interval | None


def ratio_of_medians(arm: ByBlock, base: ByBlock, *, resamples: int, key: str) -> Ratio | None:
    """The ratio over the blocks both have; None if there are none, or if a value has no ratio.

    *key* seeds the draws: the same key and values give the same interval.
    """
    blocks = sorted(arm.keys() & base.keys())
    top = np.array([arm[block] for block in blocks])
    bottom = np.array([base[block] for block in blocks])
    if not blocks or top.min() <= 0 or bottom.min() <= 0:
        return None
    with np.errstate(over="ignore"):  # a stranger's file may hold 1e-300
        estimate = float(np.median(top) / np.median(bottom))
        draws = _bootstrap(top, bottom, resamples, key)
    if not (draws.min() > 0 and draws.max() < math.inf):
        return None
    if len(blocks) < MIN_BLOCKS:
        return Ratio(estimate=estimate, blocks=len(blocks), ci95=None, ci90=None)
    return Ratio(
        estimate=estimate,
        blocks=len(blocks),
        ci95=_percentile_interval(draws, 0.95),
        ci90=_percentile_interval(draws, 0.90),
    )


def judge(
    ratio: Ratio | None, margin: float, *, fixed: float | None = None
) -> tuple[Verdict, int | None]:
    """The verdict on a ratio, and for an inconclusive one how many blocks more would settle it.

    A difference must lie outside *margin*, by the 95 % interval. Equivalence must lie inside
    *fixed* (the margin, if not given) by the 90 % interval, which is two one-sided tests at 5 %
    (Schuirmann 1987): noise widens what a difference must exceed, never what counts as equal.
    """
    if ratio is None:
        return Verdict.UNDEFINED, None
    if ratio.ci95 is None or ratio.ci90 is None:
        return Verdict.TOO_FEW, None
    edge = math.log1p(margin)
    if math.log(ratio.ci95.low) > edge:
        return Verdict.HIGHER, None
    if math.log(ratio.ci95.high) < -edge:
        return Verdict.LOWER, None
    same = math.log1p(margin if fixed is None else min(margin, fixed))
    if ratio.ci90.within(same):
        return Verdict.EQUIVALENT, None
    return Verdict.INCONCLUSIVE, _more_blocks(ratio, different=edge, same=same)


def margin_of(metric: str, floor: float | None) -> float:
    """The margin fixed for the metric's family, but never below twice the noise floor."""
    margin = MARGINS.get(metric.partition(".")[0], OTHER_MARGIN)
    if floor is None:
        return margin
    return max(margin, math.expm1(2 * math.log1p(floor)))


def spread_of(values: Iterable[float]) -> Spread | None:
    """The order statistics of *values*; None if there are none."""
    array = np.array(list(values), dtype=np.float64)
    if not array.size:
        return None
    low, p5, median, p95, high = np.quantile(array, [0, 0.05, 0.5, 0.95, 1]).tolist()
    if not supports(0.05, array.size):
        return Spread(n=array.size, median=median, p5=None, p95=None, low=low, high=high)
    return Spread(n=array.size, median=median, p5=p5, p95=p95, low=low, high=high)


def supports(quantile: float, n: int) -> bool:
    """Whether *n* independent values can carry *quantile*: enough are expected beyond it."""
    return n * min(quantile, 1 - quantile) >= QUANTILE_SUPPORT - 1e-9


def _bootstrap(top: Values, bottom: Values, resamples: int, key: str) -> Values:
    """*resamples* ratios of medians, each over blocks drawn with replacement, arms paired."""
    source = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
    arms = (_Ranked.of(top), _Ranked.of(bottom))
    at_a_time = max(1, _CHUNK // len(top))
    draws = []
    for start in range(0, resamples, at_a_time):  # bounds the memory, not the result
        size = (min(at_a_time, resamples - start), len(top))
        chosen = source.integers(0, len(top), size=size)
        above, below = (arm.medians(chosen) for arm in arms)
        draws.append(above / below)
    return np.concatenate(draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """Values as places among their ``levels``: small integers are selected faster than floats."""

    levels: Values
    ranks: NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, values: Values) -> "_Ranked":
        levels, ranks = np.unique(values, return_inverse=True)
        return cls(
            levels=levels, ranks=ranks.astype(np.uint16 if len(levels) <= 1 << 16 else np.uint32)
        )

    def medians(self, chosen: NDArray[np.int64]) -> Values:
        """The median of the values at each row of *chosen*: what ``np.median`` says of them."""
        drawn = np.take(self.ranks, chosen)
        middle = drawn.shape[1] // 2
        drawn.partition(middle, axis=1)
        upper = self.levels[drawn[:, middle]]
        if drawn.shape[1] % 2:
            return upper
        lower = self.levels[drawn[:, :middle].max(axis=1)]
        return np.asarray(np.mean([lower, upper], axis=0))


def _percentile_interval(draws: Values, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]).tolist()
    return Interval(low=low, high=high)


def _more_blocks(ratio: Ratio, *, different: float, same: float) -> int | None:
    """Blocks until the interval no longer crosses a margin, if the estimate stays as it is.

    Its width shrinks with the square root of the blocks. None where that is not worth proposing,
    and between the margins, where noise forbids to claim a difference and no block helps.
    """
    estimate = abs(math.log(ratio.estimate))
    if estimate > different:
        interval, distance = ratio.ci95, estimate - different
    elif estimate < same:
        interval, distance = ratio.ci90, same - estimate
    else:
        return None
    if interval is None:
        return None
    half_width = (math.log(interval.high) - math.log(interval.low)) / 2
    needed = math.ceil(ratio.blocks * (half_width / distance) ** 2)
    more = max(1, needed - ratio.blocks)
    return more if more <= _WORTH_PROPOSING_BLOCKS else None
