import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.results import Arm
from benchmarks.stats import Spread
from benchmarks.summary import PhaseSpread
from reports import figures, svg

HOST = Arm(label="host", backend="host", accelerator=None, note=None)
VM = Arm(label="vm", backend="vm", accelerator="tcg", note=None)


def at(phase: str, median: float) -> PhaseSpread:
    spread = Spread(n=3, median=median, p5=median * 0.9, p95=median * 1.2, low=0, high=median * 2)
    return PhaseSpread(workload="boot", label="host", phase=phase, spread=spread)


def values(host: Sequence[float], vm: Sequence[float], title: str = "<t> & co") -> figures.Values:
    lanes = {"host": dict(enumerate(host, start=1)), "vm": dict(enumerate(vm, start=1))}
    return figures.Values(title=title, unit="ns", arms=(HOST, VM), lanes=lanes)


def texts(image: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", image)


def test_without_data_there_is_no_figure() -> None:
    assert figures.overview([at("request", 0)], [HOST], "boot", name="o") is None
    assert figures.overview([], [HOST], "boot", name="o") is None
    for draw in (figures.dots, figures.distribution, figures.run_order):
        assert draw(values([], []), name="d") is None


def test_colours_are_the_pages_own() -> None:
    image = figures.dots(values([1, 2], [3, 4]), name="d")
    assert image is not None
    assert "currentColor" in image
    assert svg.INK not in image
    assert {"--s0", "--s1"} == set(re.findall(r"var\((--s\d+)\)", image))
    assert not re.findall(r"#[0-9a-f]{6}\b", image)


def test_a_title_is_escaped_and_ids_carry_the_figures_name() -> None:
    image = figures.dots(values([1, 2], [3, 4]), name="w7")
    assert image is not None
    assert "&lt;t&gt; &amp; co" in image
    assert all(found.startswith("w7-") for found in re.findall(r'\bid="([^"]*)"', image))
    assert all(
        found.startswith("w7-") for found in re.findall(r'(?:url\(|href=")#([^")]*)', image)
    )
    ids = re.findall(r'\bid="([^"]*)"', image)
    assert len(ids) == len(set(ids))


def test_ranges_far_apart_get_axes_of_their_own() -> None:
    near, far = values([1e6, 2e6], [2e6, 3e6]), values([1e6, 2e6], [2e9, 3e9])
    assert figures.is_on_one_axis(near)
    assert not figures.is_on_one_axis(far)
    own = figures.distribution(far, name="d")
    shared = figures.distribution(near, name="d")
    assert own is not None
    assert shared is not None
    assert "1.00 ms … 2.00 ms" in texts(own)
    assert "½" in texts(shared)


def test_many_values_are_thinned_and_few_are_not() -> None:
    few = figures.dots(values([1, 2, 3], [4, 5]), name="d")
    many = figures.dots(values(range(1, 5001), range(1, 5001)), name="d")
    assert few is not None
    assert many is not None
    assert few.count("<use") >= 5
    assert len(many) < 30_000


@pytest.mark.parametrize("value", [0.0, 1.0, 1e15])
def test_a_single_value_has_an_axis(value: float) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figures._value_axis(axes, value, value, "ns")
    low, high = axes.get_xlim()
    assert low < value < high
    assert len(axes.get_xticks()) >= 1


@pytest.mark.parametrize("draw", [figures.dots, figures.distribution, figures.run_order])
def test_one_block_and_constants_can_be_drawn(draw: figures.Draw) -> None:
    for one in (values([0], [0]), values([5], [7e9]), values([3, 3, 3], [3, 3, 3])):
        image = draw(one, name="d")
        assert image is not None
        assert "nan" not in image
        assert texts(image)


@pytest.mark.parametrize("draw", [figures.dots, figures.distribution, figures.run_order])
@pytest.mark.parametrize(
    ("one", "other", "is_drawn"),
    [
        (1e300, 5e-324, False),
        (9e18, 5e-324, False),
        (-1e300, 1.0, False),
        (9e18, 1e-9, True),
        (-5.0, 9e18, True),
        (0.0, 9e18, True),
    ],
)
@pytest.mark.filterwarnings("error")
def test_absurd_magnitudes_are_left_out_and_wide_ranges_are_not(
    draw: figures.Draw, one: float, other: float, *, is_drawn: bool
) -> None:
    image = draw(values([one, other], [other]), name="d")
    assert (image is not None) == is_drawn
    assert not image or not re.search(r"nan|inf", image)


def test_shades_never_get_too_many() -> None:
    assert figures.blocks_in_a_shade(10) == 1
    assert figures.blocks_in_a_shade(1000) == 25


def test_a_label_of_any_length_stays_inside() -> None:
    long = replace(HOST, label="x" * 300)
    image = figures.dots(
        figures.Values(title="t", unit="ns", arms=(long,), lanes={long.label: {1: 1.0}}), name="d"
    )
    assert image is not None
    assert max(map(len, texts(image))) <= 30
