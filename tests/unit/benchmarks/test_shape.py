from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.shape import MIN_VALUES, shape_of

SEEDS = range(400)


def accused(kind: str, n: int, fault: str) -> float:
    """How often blameless values of a *kind* are accused of a *fault*."""
    source = np.random.default_rng(5)
    draws: dict[str, Callable[[], NDArray[np.float64]]] = {
        "lognormal": lambda: np.exp(source.normal(0, 0.3, n)),
        "flat": lambda: source.uniform(1, 1.5, n),
        "skewed": lambda: 1 + source.exponential(0.2, n),
    }
    shapes = [shape_of(draws[kind]().tolist()) for _ in SEEDS]
    return float(np.mean([shape and getattr(shape, fault) is not None for shape in shapes]))


@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize("kind", ["lognormal", "flat", "skewed"])
@pytest.mark.parametrize("fault", ["groups", "drift_ratio"])
def test_hardly_any_blameless_values_are_accused(kind: str, n: int, fault: str) -> None:
    assert accused(kind, n, fault) <= 0.03  # 1 % is meant; 400 tries


def test_two_groups_are_found_with_their_medians() -> None:
    source = np.random.default_rng(1)
    values = np.concatenate([source.normal(99, 2, 20), source.normal(117, 2, 10)])
    shape = shape_of(source.permutation(values).tolist())
    assert shape is not None
    assert shape.groups is not None
    assert shape.groups.lower == pytest.approx(99, abs=2)
    assert shape.groups.upper == pytest.approx(117, abs=2)
    assert shape.groups.upper_share == pytest.approx(1 / 3)
    assert shape.drift_ratio is None


def test_an_outlier_is_no_group() -> None:
    shape = shape_of([*np.random.default_rng(2).normal(100, 1, 19), 1000.0])
    assert shape is not None
    assert shape.groups is None


@pytest.mark.parametrize("change", [0.3, -0.2])
def test_a_drift_is_found_with_its_size(change: float) -> None:
    noise = np.random.default_rng(3).normal(0, 0.02, 20)
    values = 100 * np.exp(np.linspace(0, np.log1p(change), 20) + noise)
    shape = shape_of(values.tolist())
    assert shape is not None
    assert shape.drift_ratio == pytest.approx(change, abs=0.05)


def test_a_constant_is_neither_and_few_values_or_zeros_say_nothing() -> None:
    shape = shape_of([5.0] * 20)
    assert shape is not None
    assert (shape.groups, shape.drift_ratio) == (None, None)
    assert shape_of([1.0, 2.0] * (MIN_VALUES // 2 - 1)) is None
    assert shape_of([0.0] * 20) is None
