import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results import Arm, Metric
from benchmarks.stats import Spread
from benchmarks.summary import PhaseSpread
from reports import figures

ARM = Arm(label="host", backend="host", accelerator=None, note=None)
METRIC = Metric(
    name="m", unit="ns", direction="lower", start=None, stop=None, method="m", title="<t> & co"
)


def at(phase: str, median: float) -> PhaseSpread:
    spread = Spread(n=3, median=median, p5=median * 0.9, p95=median * 1.2, low=0, high=median * 2)
    return PhaseSpread(workload="boot", label="host", phase=phase, spread=spread)


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_without_data_there_is_no_figure() -> None:
    assert figures.waterfall([], [ARM], "boot", name="w") is None
    assert figures.waterfall([at("request", 0)], [ARM], "boot", name="w") is None
    assert figures.dots([], METRIC, "boot", [ARM], name="d") is None


def test_phases_stand_in_the_order_of_time_with_what_each_took() -> None:
    # A container's process exists before its root does: prepared comes after engine.
    phases = [at("request", 0), at("prepared", 3e6), at("engine", 1e6), at("output", 4e6)]
    svg = figures.waterfall(phases, [ARM], "boot", name="w")
    assert svg is not None
    shown = texts(svg)
    names = [text for text in shown if text in {"request", "prepared", "engine", "output"}]
    assert names == ["request", "engine", "prepared", "output"]
    assert [text for text in shown if text.startswith("+")] == [
        "+1.00 ms",
        "+2.00 ms   at 3.00 ms",
        "+1.00 ms   at 4.00 ms",
    ]


def test_the_ink_is_the_pages_own() -> None:
    svg = figures.waterfall([at("exec", 1e6)], [ARM], "boot", name="w")
    assert svg is not None
    assert "currentColor" in svg
    assert figures.INK not in svg
    assert "#000000" not in svg


def test_a_title_is_escaped_and_ids_carry_the_figures_name() -> None:
    svg = figures.waterfall([at("exec", 1e6)], [ARM], "boot", name="w7")
    assert svg is not None
    assert all(found.startswith("w7-") for found in re.findall(r'\bid="([^"]*)"', svg))
    assert all(found.startswith("w7-") for found in re.findall(r'(?:url\(|href=")#([^")]*)', svg))


@given(st.floats(1e-3, 1e12), st.floats(4.0, 1e9), st.sampled_from(["ns", "bytes"]))
def test_logarithmic_ticks_are_few_and_inside(low: float, factor: float, unit: str) -> None:
    ticks = figures._log_ticks(low, low * factor, unit)
    assert 1 <= len(ticks) <= 10
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)
    assert ticks == sorted(set(ticks))


@given(st.floats(0, 1e12), st.floats(1e-3, 1e12), st.sampled_from(["ns", "bytes"]))
def test_linear_ticks_are_few_and_inside(low: float, span: float, unit: str) -> None:
    if low + span * 1e-6 == low:
        return  # no float lies between
    ticks = figures._linear_ticks(low, low + span, unit)
    assert 2 <= len(ticks) <= 9
    assert all(low - span * 1e-6 <= tick <= low + span * 1.000001 for tick in ticks)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e15])
def test_a_single_value_has_an_axis(value: float) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    figures._value_axis(axes, [value], "ns")
    low, high = axes.get_xlim()
    assert low < value < high
    assert len(axes.get_xticks()) >= 1
