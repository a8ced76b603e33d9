"""What stands beside an interval: a test, the size of an effect, and the price of many questions.

The test swaps the two arms inside their blocks, which a randomised order allows if they do not
differ, and asks how often the mean log ratio comes out as far from 0 as it did (a permutation
test; Good 2005, ch. 3). It is exact whatever the values' distribution, drift or dependence between
blocks, as long as it is the same for both arms of a block. A p-value is never read as "no
difference": that is said by an interval inside a margin alone. Pure.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FALSE_DISCOVERIES = 0.05
"""Of the differences that a report claims, at most this share is expected to be chance."""

_EXACT_BLOCKS = 12
"""Up to 4096 swaps are all tried; beyond, as many are drawn."""
_DRAWS = 1 << _EXACT_BLOCKS
_SAME = 1e-9
"""Sums that differ by less than this share differ by rounding alone."""

Key = TypeVar("Key")
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Beside a ratio: how sure, how sure among many, and how large.

    ``p`` is the block permutation test's, ``q`` what is left of it among all of a report's
    comparisons (Benjamini & Hochberg 1995), and Cliff's ``delta`` (1: every value of the label is
    above every one of the baseline; 0: as often above as below; Cliff 1993).
    """

    p: float
    q: float
    delta: float


def block_permutation_p(top: Values, bottom: Values, *, key: str) -> float:
    """The two-sided p of paired, positive values; *key* seeds the draws where they are needed."""
    differences = np.log(top) - np.log(bottom)
    blocks = len(differences)
    if blocks <= _EXACT_BLOCKS:
        swapped = ((np.arange(1 << blocks)[:, None] >> np.arange(blocks)) & 1).astype(np.int8)
    else:
        source = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()))
        swapped = source.integers(0, 2, size=(_DRAWS, blocks), dtype=np.int8)
        swapped[0] = 0  # what was seen is one of the possible outcomes
    sums = np.abs((1 - 2 * swapped) @ differences)
    seen = abs(float(differences.sum()))
    return float(np.mean(sums >= seen - _SAME * float(np.abs(differences).sum())))


def cliffs_delta(top: Values, bottom: Values) -> float:
    """How much more often a value of *top* is above one of *bottom* than below: -1 to 1."""
    ordered = np.sort(bottom)
    below = np.searchsorted(ordered, top, side="left").sum()
    above = (len(ordered) - np.searchsorted(ordered, top, side="right")).sum()
    return float(below - above) / (len(top) * len(bottom))


def false_discovery_rates(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Each p as the least rate of false discoveries at which it is one, never below the p.

    Source: Benjamini & Hochberg 1995, as the step-up adjusted p-value.
    """
    ranked = sorted(p_values, key=lambda each: p_values[each], reverse=True)
    least, adjusted = 1.0, dict[Key, float]()
    for rank, each in zip(range(len(ranked), 0, -1), ranked, strict=True):
        least = min(least, p_values[each] * len(ranked) / rank)
        adjusted[each] = max(least, p_values[each])  # rounding
    return {each: adjusted[each] for each in p_values}


def blocks_for(q: float) -> int:
    """How many more blocks the test needs at least before *q* could be small enough.

    Each further block halves the smallest p that swapping inside blocks can give.
    """
    return max(1, math.ceil(math.log2(q / FALSE_DISCOVERIES)))


def paired(arm: Mapping[int, float], base: Mapping[int, float]) -> tuple[Values, Values]:
    """The values of both in the blocks that both have, in the order of the blocks."""
    blocks = sorted(arm.keys() & base.keys())
    return np.array([arm[block] for block in blocks]), np.array([base[block] for block in blocks])
