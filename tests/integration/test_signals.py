"""Ctrl-C and SIGTERM at any moment: the status says so, no traceback, nothing left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import leftovers
import pytest
from unit.reports.synthetic import write_synthetic_run

from benchmarks.results import read_record
from runtime.image import Image, Store, state_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
ROOT = Path(__file__).parent.parent.parent
MOMENTS = 8


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert Store().resolve("busybox").digest == busybox.digest
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)
    assert not list((state_dir() / "instances").glob("*"))


def hurt(words: list[str], number: int, after_s: float) -> tuple[int, str]:
    """Start the front door as a shell would, send it a signal; its status and what it said."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "isoscope.py"), *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one thread
    )  # fmt: skip
    time.sleep(after_s)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said.decode()


def running(command: bytes) -> bool:
    """Whether some process has this command line, as proc(5) spells it."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if entry.read_bytes() == command:
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("backend", ["container", "host"])
def test_run(backend: str, number: signal.Signals) -> None:
    stream = random.Random(number)  # noqa: S311 - moments to repeat, not a secret
    script = "setsid sleep 1000 & sleep 1001 # left-over"
    for _ in range(MOMENTS):
        after_s = stream.uniform(0.12, 0.5)  # earlier the interpreter itself is still starting
        status, said = hurt(
            ["run", "--on", backend, "busybox", "sh", "-c", script], number, after_s
        )
        assert status in {128 + number, -number}, said
        assert "Traceback" not in said or status == -number


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap is not installed")
def test_a_peer_is_ended_too() -> None:
    """Its worker is told to end, or its control groups would stay."""
    words = ["run", "--on", "bwrap", "busybox", "sleep", "1002"]
    process = subprocess.Popen([sys.executable, str(ROOT / "isoscope.py"), *words])
    try:
        deadline = time.monotonic() + 30
        while not running(b"sleep\x001002\x00") and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        process.kill()


def test_what_is_ignored_stays_ignored() -> None:
    """As nohup(1) asks for it."""
    argv = [sys.executable, str(ROOT / "isoscope.py"), "run", "busybox", "sh", "-c"]
    script = "kill -HUP $PPID; echo survived"
    done = subprocess.run(
        ["sh", "-c", 'trap "" HUP; "$@" & kill -HUP $!; wait $!', "sh", *argv, script],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == b"survived\n"


def test_a_normal_end_leaves_no_orphan() -> None:
    script = "setsid sleep 1000 & exit 3 # left-over"
    for backend in ("container", "host"):
        argv = [sys.executable, str(ROOT / "isoscope.py"), "run", "--on", backend, "busybox"]
        done = subprocess.run([*argv, "sh", "-c", script], timeout=60, check=False)
        assert done.returncode == 3


@pytest.mark.slow
def test_bench(tmp_path: Path) -> None:
    stream = random.Random(3)  # noqa: S311 - moments to repeat, not a secret
    for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] * (MOMENTS // 3):
        words = ["bench", "boot", "--on", "host,container", "--out", str(tmp_path)]
        status, said = hurt(words, number, stream.uniform(1.0, 3.0))
        assert status == 128 + number, said
        assert "Traceback" not in said
        assert "interrupted" in said
    records = [read_record(path.parent) for path in tmp_path.glob("*/run.json")]
    assert records
    assert {record.outcome for record in records} == {"interrupted"}


@pytest.mark.parametrize("words", [["doctor"], ["report"], ["compare"]])
def test_every_verb_ends_with_the_signals_number(words: list[str], tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path)
    runs = {"doctor": 0, "report": 1, "compare": 2}[words[0]]
    for number in (signal.SIGTERM, signal.SIGINT):
        status, said = hurt([*words, *[str(folder)] * runs], number, 0.15)
        assert status in {128 + number, -number}, said
        assert "Traceback" not in said or status == -number
    assert {path.name for path in folder.iterdir()} <= {
        "run.json", "samples.jsonl", "report.html"
    }  # fmt: skip
