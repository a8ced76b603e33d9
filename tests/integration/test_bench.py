"""Whole runs of the harness, small ones, with everything real."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

from benchmarks.errors import BenchmarkError, Busy
from benchmarks.harness import Request, arms, bench, resume
from benchmarks.launcher import RemoteInstance
from benchmarks.machine_lock import machine_lock
from benchmarks.progress import Lines
from benchmarks.results import Results, read_run
from benchmarks.suites import SUITES, Suite
from benchmarks.workloads import Facts, Values, succeeded
from benchmarks.workloads.boot import Boot
from runtime.image import Image, Store
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the baseline needs root; run as root"),
]
ROOT = Path(__file__).parent.parent.parent
BASE_METRICS = {
    "boot.first_output", "boot.exit", "boot.teardown", "prepare", "memory.pss", "memory.uss",
    "memory.cgroup", "memory.instrument", "disk.image", "disk.instance", "cpu.sha256",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)


def request(
    image: Image, out: Path, *, suite: Suite = SUITES["boot"], on: tuple[str, ...] = ("host",)
) -> Request:
    return Request(
        suite=suite, on=on, image=image, blocks=2, seed=7, out=out, command=("isoscope", "bench")
    )


def test_every_base_metric_has_a_value_on_every_backend(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        str(ROOT / "isoscope.py"),
        "bench",
        "--blocks",
        "1",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.iterdir()
    assert {p.name for p in directory.iterdir()} == {"run.json", "samples.jsonl", "report.html"}
    found = read_run(directory)
    assert found.run.outcome == "complete"
    works = {arm.backend for arm in found.run.plan.backends}
    assert works | {skip.backend for skip in found.run.skipped} == {"host", "container", "vm"}
    for backend in works:
        ok = {s.metric for s in found.samples if s.backend == backend and s.status == "ok"}
        assert ok == BASE_METRICS, backend
    _identities_are_as_they_must_be(found)


def _identities_are_as_they_must_be(found: Results) -> None:
    facts = {s.label: s.facts for s in found.samples if s.workload == "idle" and s.facts}
    assert facts["host"]["boot_id"] == facts["container"]["boot_id"]
    fingerprints = {str(known["rootfs_fingerprint"]) for known in facts.values()}
    assert len(fingerprints) == 1
    if "vm" in facts:
        assert facts["vm"]["boot_id"] != facts["host"]["boot_id"]
        assert facts["vm"]["kernel_release"] != facts["host"]["kernel_release"]
        assert facts["vm"]["cpus"] == facts["container"]["cpus"] == 1


def test_the_journal_follows_the_seeded_schedule(busybox: Image, tmp_path: Path) -> None:
    first = read_run(bench(request(busybox, tmp_path), Lines()))
    second = read_run(bench(request(busybox, tmp_path), Lines()))
    order = [[(s.block, s.order, s.label) for s in run.samples] for run in (first, second)]
    assert order[0] == order[1]
    assert {s.block for s in first.samples} == {0, 1, 2}
    assert first.run.run != second.run.run


class Failing(Boot):
    record = dataclasses.replace(Boot.record, argv=("sh", "-c", "echo why >&2; exit 3"))


class Hanging(Boot):
    timeout_s = 0.5
    record = dataclasses.replace(Boot.record, argv=("sh", "-c", "echo on; sleep 1000"))

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:
        succeeded(instance.wait(timeout_s=self.timeout_s))
        return super().measure(instance, facts)


@pytest.mark.parametrize(
    ("workload", "status", "says"),
    [(Failing(), "failed", "exit status 3: why"), (Hanging(), "timeout", "last phase: output")],
)
def test_a_failure_is_rows_and_a_second_attempt(
    busybox: Image, tmp_path: Path, workload: Boot, status: str, says: str
) -> None:
    suite = dataclasses.replace(SUITES["boot"], workloads=(workload,))
    found = read_run(bench(request(busybox, tmp_path, suite=suite), Lines()))
    rows = [s for s in found.samples if s.workload == "boot"]
    assert found.run.outcome == "complete"
    assert len(rows) == 2 * 2 * 2 * 3  # blocks, labels, attempts, metrics
    assert {s.attempt for s in rows} == {1, 2}
    assert {s.status for s in rows} == {status}
    assert all(says in (s.error or "") for s in rows)
    assert all("exec" in s.phases for s in rows if s.phases)


def test_two_runs_at_once_are_refused(busybox: Image, tmp_path: Path) -> None:
    with machine_lock(), pytest.raises(Busy, match=str(os.getpid())):
        bench(request(busybox, tmp_path), Lines())


def test_no_backend_is_an_error_with_the_reason(
    busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="vm: "):
        bench(request(busybox, tmp_path, on=("vm",)), Lines())


def test_what_cannot_run_is_skipped_with_the_reason(
    busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = read_run(bench(request(busybox, tmp_path, on=("host", "vm")), Lines()))
    (skip,) = found.run.skipped
    assert skip.backend == "vm"
    assert "apt-get install" in skip.remedy
    assert {s.status for s in found.samples} == {"ok"}


@pytest.fixture
def bare() -> Image:
    """An image with an empty layer: no command of any workload is in it."""
    layer = b"\0" * 10240
    store = Store()
    packed = store.write_blob(io.BytesIO(gzip.compress(layer, mtime=0)), LAYER_GZIP_TYPE)
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    about = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    config = store.write_blob(io.BytesIO(json.dumps(about).encode()), CONFIG_TYPE)
    names = ("mediaType", "digest", "size")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": dict(zip(names, (CONFIG_TYPE, config.digest, config.size_bytes), strict=True)),
        "layers": [
            dict(zip(names, (LAYER_GZIP_TYPE, packed.digest, packed.size_bytes), strict=True))
        ],
    }
    made = store.write_blob(io.BytesIO(json.dumps(manifest).encode()), MANIFEST_TYPE)
    return store.tag(made.digest, "bare")


def test_a_run_that_measured_nothing_says_why_and_ends_with_1(bare: Image, tmp_path: Path) -> None:
    front = [sys.executable, str(ROOT / "isoscope.py"), "bench"]
    words = ["boot", "--on", "host", "--image", bare.references[0], "--blocks", "1", "--json"]
    first = subprocess.run([*front, *words], cwd=tmp_path, capture_output=True, check=False)
    said = json.loads(first.stdout)
    assert (first.returncode, said["measured"]) == (1, False)
    assert [arm["label"] for arm in said["failures"]] == ["host", "host'"]
    assert Path(tmp_path, said["report"]).is_file()
    assert "./isoscope run --on host bare:latest cat" in first.stderr.decode()
    again = subprocess.run(
        [*front, "--resume", said["results"]], cwd=tmp_path, capture_output=True, check=False
    )
    assert again.returncode == 1
    assert again.stdout
    assert again.stderr.decode().splitlines()[-1] == "isoscope: nothing was measured"


def test_a_complete_run_without_its_samples_is_not_measured_again(
    busybox: Image, tmp_path: Path
) -> None:
    directory = bench(request(busybox, tmp_path), Lines())
    samples = directory / "samples.jsonl"
    samples.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(BenchmarkError, match="its samples are gone"):
            resume(directory, Lines())
        samples.unlink(missing_ok=True)
    assert not samples.exists()
    assert {path.name for path in directory.iterdir()} == {"run.json"}


def test_without_libvirt_the_probe_says_so() -> None:
    code = (
        "import sys; sys.modules['libvirt'] = None\n"
        "from vmbackend.probe import probe; print(*probe(), sep='; ')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "libvirt is missing" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_first_arm_has_a_control() -> None:
    assert arms(("host", "vm")) == (("host", "host"), ("host'", "host"), ("vm", "vm"))


def test_a_run_names_nobody(busybox: Image, tmp_path: Path) -> None:
    directory = bench(request(busybox, tmp_path), Lines())
    text = (directory / "run.json").read_text()
    assert str(Path.home()) not in text
    assert json.loads(text)["images"] == {"busybox:latest": busybox.digest}
