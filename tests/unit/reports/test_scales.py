from hypothesis import assume, given
from hypothesis import strategies as st

from reports.scales import LogScale, linear_ticks, log_ticks, needs_log


@given(st.floats(1e-3, 1e12), st.floats(4.0, 1e9), st.sampled_from(["ns", "bytes"]))
def test_logarithmic_ticks_are_few_and_inside(low: float, factor: float, unit: str) -> None:
    ticks = log_ticks(low, low * factor, unit)
    assert 1 <= len(ticks) <= 10
    assert all(low * 0.999 <= tick <= low * factor * 1.001 for tick in ticks)
    assert ticks == sorted(set(ticks))


@given(st.floats(0, 1e12), st.floats(1e-3, 1e12), st.sampled_from(["ns", "bytes"]))
def test_linear_ticks_are_few_and_inside(low: float, span: float, unit: str) -> None:
    assume(low + span * 1e-6 != low)  # else no float lies between
    ticks = linear_ticks(low, low + span, unit)
    assert 2 <= len(ticks) <= 9
    assert all(low - span * 1e-6 <= tick <= low + span * 1.000001 for tick in ticks)


@given(st.floats(1e-9, 0.5), st.floats(2.0, 1e9))
def test_a_ratio_axis_shows_one_and_keeps_the_order(low: float, high: float) -> None:
    scale = LogScale(low=low, high=high)
    ticks = scale.ticks()
    assert 1 in ticks
    assert len(ticks) <= 6
    places = [scale.percent(tick) for tick in ticks]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    assert scale.percent(low / 10) == 0
    assert scale.percent(high * 10) == 100


def test_zero_forbids_a_logarithmic_axis() -> None:
    assert not needs_log(0, 1e9)
    assert not needs_log(1, 4)
    assert needs_log(1, 4.1)
