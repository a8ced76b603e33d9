"""Workloads for real: gauge, compiled here into a small image, on a process and a container.

All workloads on all backends, with the bench image: ``benchmarks/micro/test_workloads.py``.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from laboratory import until

from benchmarks.attempts import Outcome, play
from benchmarks.harness import Request, bench
from benchmarks.launcher import worker
from benchmarks.meters import descendants
from benchmarks.progress import Lines
from benchmarks.remains import sweep
from benchmarks.results import Limits, Sample, read_run
from benchmarks.stage import Stage
from benchmarks.suites import SUITES
from benchmarks.workloads import Ensemble, Value
from benchmarks.workloads.crowd import DENSITY
from benchmarks.workloads.neighbours import Neighbour
from runtime.image import Image, Store, state_dir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the baseline needs root; run as root"),
    pytest.mark.skipif(
        shutil.which("gcc") is None, reason="gauge is compiled; apt-get install gcc libc6-dev"
    ),
]
ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "benchmarks/images/bench/gauge"
DOCKERFILE = """\
FROM busybox
COPY gauge /usr/local/bin/gauge
COPY share /usr/local/share/gauge
RUN mkdir -m 1777 -p /tmp /var/tmp
"""
CHOSEN = (
    "syscalls.gauge", "network.loopback", "network.published", "fs.sync", "fs.image",
    "footprint.touched", "footprint.written",
)  # fmt: skip
ENOUGH_NS = 2_000_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture(scope="module")
def gauge(busybox: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Busybox and gauge, which measures as short as it can."""
    assert busybox.references
    context = tmp_path_factory.mktemp("gauge")
    (context / "share/lower").mkdir(parents=True)
    program = context / "gauge"
    flags = ("-std=c11", "-D_GNU_SOURCE", f"-DENOUGH_NS={ENOUGH_NS}", "-O2", "-Wall", "-Werror")
    words = ["gcc", *flags, "-static", "-o", str(program), *map(str, SOURCES.glob("*.c"))]
    subprocess.run(words, check=True, timeout=60)
    text = subprocess.run([program, "text", "1"], check=True, capture_output=True).stdout
    (context / "share/text").write_bytes(text)
    for number in range(16):
        (context / f"share/lower/{number}").write_bytes(text)
    (context / "Dockerfile").write_text(DOCKERFILE)
    build = [
        sys.executable, str(ROOT / "isoscope.py"), "image", "build", "-t", "gauge", str(context)
    ]  # fmt: skip
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    return Store().resolve("gauge")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Of this home: others measure on this machine too."""
    yield
    assert str(state_dir()) not in Path("/proc/self/mountinfo").read_text()
    assert not list((state_dir() / "instances").glob("*"))


def staged(name: str, image: Image) -> Stage:
    with worker(name) as backend:
        backend.prepare(image.digest)
        features = backend.features
    limits = Limits(cpus=1, memory_bytes=512 << 20)
    return Stage(backend=name, features=features, image=image.digest, limits=limits)


@pytest.mark.parametrize("on", ["host", "container"])
@pytest.mark.usefixtures("elsewhere")
def test_every_metric_has_a_value_or_a_reason(gauge: Image, on: str) -> None:
    stage = staged(on, gauge)
    chosen = [w for w in SUITES["full"].workloads if w.record.name in CHOSEN]
    values: dict[str, Value] = {}
    for workload in (*chosen, Neighbour(burden="fork", ticks=20)):
        outcome = Outcome(values={}, facts={}, phases={})
        play(stage, workload, outcome)
        assert set(outcome.values) == {metric.name for metric in workload.record.metrics}
        values |= outcome.values
        if "boot_id" in outcome.facts:
            assert outcome.facts["boot_id"] == BOOT_ID.read_text().strip()
    gaps = {name for name, value in values.items() if value.value is None}
    assert gaps == ({"noisy.fork.p50", "noisy.fork.p95"} if on == "host" else set())
    read = {name: value.value or 0 for name, value in values.items()}
    assert read["footprint.touched.pss"] > 64 << 20
    assert read["footprint.written"] >= 32 << 20
    assert read["syscalls.fork"] > read["syscalls.getpid"] > 0
    if on == "container":
        assert read["fs.first_write"] > read["fs.next_write"]


def test_a_crowd_is_rows_like_any_other(gauge: Image, tmp_path: Path) -> None:
    crowd = replace(DENSITY[0], most=3)
    rows = measured(gauge, tmp_path, crowd)
    values = {row.metric: row.value for row in rows if row.label == "container"}
    assert {row.status for row in rows} == {"ok"}
    assert values.keys() == {metric.name for metric in crowd.record.metrics}
    assert values["density.count"] == 3
    assert (values["density.pss"] or 0) >= 1 << 20
    assert rows[0].phases
    assert "output" in rows[0].phases


def test_an_image_without_the_tools_gives_rows_that_say_so(busybox: Image, tmp_path: Path) -> None:
    rows = measured(busybox, tmp_path, DENSITY[0])
    assert {row.status for row in rows} == {"failed"}
    assert {row.attempt for row in rows} == {1, 2}
    assert all("gauge" in (row.error or "") for row in rows)


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_crowd_ends_with_its_harness(gauge: Image, tmp_path: Path, blow: signal.Signals) -> None:
    assert gauge.references
    words = ("bench", "density", "--image", "gauge", "--on", "container", "--blocks", "1")
    argv = [sys.executable, str(ROOT / "isoscope.py"), *words, "--out", str(tmp_path)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as harness:
        crowd = until(lambda: found if len(found := _crowd_of(harness.pid)) > 1 else None)
        assert crowd is not None
        held = [os.pidfd_open(pid) for pid in crowd]
        harness.send_signal(blow)
        assert harness.wait(timeout=60) == (-blow if blow is signal.SIGKILL else 128 + blow)
        for descriptor in held:
            assert select.select([descriptor], [], [], 60)[0], "an instance outlived its harness"
            os.close(descriptor)
    if blow is signal.SIGKILL:
        until(lambda: not _workers())
        sweep()


def _crowd_of(harness: int) -> list[int]:
    """The processes of *harness* that hold still in instances."""
    found = []
    for pid in descendants(harness):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"gauge\0touch\0001\0":
                found.append(pid)
    return found


def _workers() -> list[str]:
    """Workers of this home, which unwind what they started."""
    home, found = f"ISOSCOPE_HOME={os.environ['ISOSCOPE_HOME']}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_worker = b"benchmarks.worker" in (entry / "cmdline").read_bytes()
            if is_worker and home in (entry / "environ").read_bytes():
                found.append(entry.name)
    return found


def measured(image: Image, out: Path, workload: Ensemble) -> list[Sample]:
    suite = replace(SUITES["full"], workloads=(workload,))
    request = Request(
        suite=suite, on=("container",), image=image, blocks=1, seed=7, out=out, command=("bench",)
    )
    found = read_run(bench(request, Lines()))
    return [sample for sample in found.samples if sample.block]
