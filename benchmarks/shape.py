"""What a median hides: two groups of values, and a drift over the run.

Pure. Each finding is a warning beside a number, never a reason to drop a value. The limits are
those at which a run without the fault is accused of it in at most one case of a hundred; a test
repeats that count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_VALUES = 10
"""Below this neither two groups nor a drift can be told from chance."""

_SMALLEST_GROUP = 0.15
_GROUPS_AT = (10, 15, 20, 30, 50, 100, 200)
_GROUPS_LIMIT = (0.943, 0.911, 0.891, 0.865, 0.841, 0.815, 0.795)
"""By number of values: the 99 % point, under uniform values, of the variance that the best split
explains. Of all shapes with one hump the flat one comes closest to two groups."""
_DRIFT_Z = 2.576
"""Two-sided 1 % of the normal distribution."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Two groups: their medians, and the share of values in the upper one."""

    lower: float
    upper: float
    upper_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is odd about the values of a label in the order of measuring; None where nothing is.

    ``drift_ratio`` is by what share they rose (or fell, below 0) from first to last.
    """

    groups: Groups | None
    drift_ratio: float | None


def shape_of(values: Sequence[float]) -> Shape | None:
    """The shape of *values*, in the order they were measured; None if there are too few to say."""
    array = np.array(values, dtype=np.float64)
    if array.size < MIN_VALUES or array.min() <= 0:
        return None
    logs = np.log(array)
    return Shape(groups=_groups(array, logs), drift_ratio=_drift(logs))


def _groups(values: Values, logs: Values) -> Groups | None:
    """The best split in two, if it explains more of the variance than one hump's would.

    Source: the criterion is Otsu's (1979); each group has 15 % of the values at least, so that an
    outlier is none.
    """
    ordered, sizes = np.sort(logs), np.arange(1, len(logs))
    centred = ordered - ordered.mean()
    total = float(centred @ centred)
    if math.isclose(ordered[0], ordered[-1], rel_tol=1e-12, abs_tol=1e-12):
        return None
    sums = np.cumsum(centred)[:-1]
    explained = sums**2 * (1 / sizes + 1 / (len(logs) - sizes)) / total
    smallest = max(3, math.ceil(_SMALLEST_GROUP * len(logs)))
    allowed = slice(smallest - 1, len(logs) - smallest)
    at = int(np.argmax(explained[allowed])) + smallest
    limit = float(np.interp(math.log(len(logs)), np.log(_GROUPS_AT), _GROUPS_LIMIT))
    if explained[at - 1] <= limit:
        return None
    ranked = np.sort(values)
    return Groups(
        lower=float(np.median(ranked[:at])),
        upper=float(np.median(ranked[at:])),
        upper_share=(len(ranked) - at) / len(ranked),
    )


def _drift(logs: Values) -> float | None:
    """The trend from first to last as a ratio - 1, if its sign is no chance.

    Source: Mann 1945 for the sign (ties by Kendall's correction), Theil 1950 and Sen 1968 for the
    slope: both take ranks and medians, so that outliers and skew do not matter.
    """
    n = len(logs)
    earlier, later = np.triu_indices(n, 1)
    steps = logs[later] - logs[earlier]
    _, ties = np.unique(logs, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    trend = float(np.sign(steps).sum())
    if variance <= 0 or abs(trend) - 1 <= _DRIFT_Z * math.sqrt(variance):
        return None
    return math.expm1(float(np.median(steps / (later - earlier))) * (n - 1))
