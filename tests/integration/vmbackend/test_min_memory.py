"""How little memory suffices. The whole search, ten boots, is run with ``ISOSCOPE_STRESS=1``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def vm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vmbackend.vm_cli", *words], cwd=Path(__file__).parents[3],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_what_does_not_run_with_the_most_is_no_answer(busybox: str) -> None:
    done = vm("min-memory", "--most", "20m", busybox)
    assert (done.returncode, done.stdout) == (125, "")
    tried, said = done.stderr.splitlines()
    assert tried.startswith("isoscope: 20 MiB: no: ")
    assert said.startswith("isoscope: it does not even run with 20 MiB: ")
    assert "--most" in said


@pytest.mark.skipif("ISOSCOPE_STRESS" not in os.environ, reason="ten boots: ISOSCOPE_STRESS=1")
def test_the_smallest_is_found_and_the_next_smaller_one_was_tried(busybox: str) -> None:
    done = vm("min-memory", "--json", busybox)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    became = {each["memory_mib"]: each["failure"] for each in found["tries"]}
    assert became[found["memory_mib"]] == ""
    assert became[found["memory_mib"] - 1] != ""
    assert "in MiB" in found["definition"]
