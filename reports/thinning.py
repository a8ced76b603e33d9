"""Fewer marks for a figure of many values; what is said about them is computed from all. Pure.

What is drawn keeps the shape of what is not: marks stand at evenly spaced ranks, and values in
time become groups with their lowest, middle and highest.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MOST_MARKS = 90
"""Of one label in one figure: more than a lane is wide in pixels tells the eye nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Neighbouring values: the place of the middle one, and how low and high they reach."""

    place: float
    low: float
    median: float
    high: float


def by_rank(values: Sequence[float], most: int = MOST_MARKS) -> list[tuple[int, float]]:
    """(place, value) of at most *most* values at evenly spaced ranks, both extremes kept."""
    ranked = sorted(range(len(values)), key=lambda place: (values[place], place))
    return sorted((place, values[place]) for place in _evenly(ranked, most))


def in_groups(values: Sequence[float], most: int = MOST_MARKS) -> list[Group]:
    """At most *most* groups of neighbours, in order; few values are groups of one."""
    size = -(-len(values) // most) or 1
    groups = []
    for start in range(0, len(values), size):
        mine = values[start : start + size]
        groups.append(
            Group(
                place=start + (len(mine) - 1) / 2,
                low=min(mine),
                median=statistics.median(mine),
                high=max(mine),
            )
        )
    return groups


def cumulative(values: Sequence[float], most: int = MOST_MARKS) -> list[tuple[float, float]]:
    """(value, share of values not above it), at most *most* steps; first and last are kept."""
    ranked = sorted(values)
    places = _evenly(range(len(ranked)), most)
    return [(ranked[place], (place + 1) / len(ranked)) for place in places]


def _evenly(items: Sequence[int], most: int) -> list[int]:
    if len(items) <= most:
        return list(items)
    return [items[round(step * (len(items) - 1) / (most - 1))] for step in range(most)]
