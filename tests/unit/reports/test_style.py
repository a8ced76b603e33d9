import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results import Arm
from benchmarks.stats import Interval
from reports.style import (
    colours,
    format_bytes,
    format_interval,
    format_margin,
    format_ns,
    format_percent,
    format_ratio,
    format_tick,
    format_value,
    markers,
    printable,
    subject,
)


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0 ns"),
        (7, "7 ns"),
        (999, "999 ns"),
        (999.7, "1.00 µs"),
        (1234, "1.23 µs"),
        (999_600, "1.00 ms"),
        (1_234_567, "1.23 ms"),
        (12_345_678, "12.3 ms"),
        (2_100_000_000, "2.10 s"),
        (754e9, "754 s"),
    ],
)
def test_times(value_ns: float, text: str) -> None:
    assert format_ns(value_ns) == text


@pytest.mark.parametrize(
    ("value_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (4_400_000, "4.20 MiB"),
        (71 << 20, "71.0 MiB"),
        (3 << 30, "3.00 GiB"),
    ],
)
def test_sizes(value_bytes: float, text: str) -> None:
    assert format_bytes(value_bytes) == text


@given(st.floats(1e-3, 1e17))
def test_a_time_can_be_read_back_to_three_digits(value_ns: float) -> None:
    number, unit = format_ns(value_ns).split()
    scale = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert float(number) * scale == pytest.approx(value_ns, rel=0.0051, abs=1e-12)
    assert unit == "s" or float(number) < 1000


def test_other_units_keep_their_name() -> None:
    assert format_value(1234.5, "ops/s") == "1234 ops/s"


@pytest.mark.parametrize("value", [5e-324, 1e300, -1e300, 9.2e18])
@pytest.mark.parametrize("unit", ["ns", "bytes", "ops/s"])
def test_no_magnitude_makes_a_long_number(value: float, unit: str) -> None:
    assert len(format_value(value, unit)) < 24
    assert float(format_tick(value, "").strip()) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.042, "0.0420x"), (1, "1.00x"), (8.1, "8.10x"), (99.97, "100x"), (812.4, "812x")],
)
def test_ratios(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (7.91, 8.17, "7.91~8.17"),
        (1.0001, 1.0004, "1.0001~1.0004"),
        (113.82, 114.09, "113.8~114.1"),
        (2, 2, "exactly 2.00"),
    ],
)
def test_intervals(low: float, high: float, text: str) -> None:
    assert format_interval(Interval(low=low, high=high)).replace("\N{EN DASH}", "~") == text


def test_shares() -> None:
    assert format_percent(0.0871) == "8.71 %"
    assert format_percent(0) == "0 %"
    assert format_margin(0.1) == "±10 %"


def arm(backend: str, accelerator: str | None = None) -> Arm:
    return Arm(label=backend, backend=backend, accelerator=accelerator, note=None)


def test_a_subject_carries_its_accelerator() -> None:
    assert subject(arm("vm", "tcg")) == "vm[tcg]"
    assert subject(arm("host")) == "host"


def test_a_variant_looks_like_its_backend_and_strangers_differ() -> None:
    arms = [arm("host"), arm("vm"), arm("runc"), arm("crun")]
    assert len(set(colours(arms).values())) == 4
    assert len(set(markers(arms).values())) == 4


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_marks_stand_out_on_light_and_dark_ground() -> None:
    names = ["host", "container", "vm", "a", "b", "c", "d"]
    for colour in colours([arm(name) for name in names]).values():
        for ground in ("#ffffff", "#14171a"):
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3


@given(st.text())
def test_printable_text_steers_no_terminal(text: str) -> None:
    shown = printable(text, limit=20)
    assert shown.isprintable()
    assert len(shown) <= 20
