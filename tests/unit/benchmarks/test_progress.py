"""What people are told while a run measures; the clock is the test's own."""

import pytest

from benchmarks import progress
from benchmarks.progress import Lines, told_duration
from benchmarks.schedule import schedule

Capture = pytest.CaptureFixture[str]


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_ns(self) -> int:
        return int(self.now_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def told(clock: Clock, capsys: Capture, *, blocks: int, done: int, seconds: float) -> list[str]:
    """Three blocks of two instances, each so many *seconds* long, after *done* earlier ones."""
    cells = schedule(["host", "vm"], ["boot"], blocks, 1)
    lines = Lines()
    lines.plans(len(cells), blocks, done=done)
    for cell in cells[done : done + 6]:
        clock.now_s += seconds
        lines.finished(cell, ok=cell.label == "host")
    return capsys.readouterr().err.splitlines()


def test_a_block_is_a_line_with_the_time_left(clock: Clock, capsys: Capture) -> None:
    assert told(clock, capsys, blocks=3, done=0, seconds=90) == [
        "isoscope: 6 instances in 3 blocks",
        "isoscope: block 1 of 3 done, 1 failed, 6 min left",
        "isoscope: block 2 of 3 done, 2 failed, 3 min left",
        "isoscope: block 3 of 3 done, 3 failed, 0 s left",
    ]


def test_a_long_run_says_so_once_and_what_can_be_done(clock: Clock, capsys: Capture) -> None:
    lines = told(clock, capsys, blocks=1000, done=4, seconds=30)
    (warning,) = (line for line in lines if "--resume" in line)
    assert "1000 blocks will take about 16 h 37 min more; Ctrl-C" in warning
    assert lines.index(warning) == 2  # before the second block begins


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (99.4, "99 s"), (101, "2 min"), (5900, "98 min"), (6000, "1 h 40 min"),
        (172000, "47 h 47 min"), (1e6, "12 days"),
    ],
)  # fmt: skip
def test_a_duration_is_as_exact_as_an_estimate(seconds: float, text: str) -> None:
    assert told_duration(seconds) == text


def test_what_a_backend_says_steers_no_terminal(capsys: Capture) -> None:
    Lines().says("vm: \x1b[2J")
    assert capsys.readouterr().err == "isoscope: vm: \\x1b[2J\n"
