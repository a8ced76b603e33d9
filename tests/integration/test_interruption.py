"""SIGKILL of the harness, of a worker, of QEMU, at random moments: nothing lost, nothing left."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import leftovers
import pytest

from benchmarks.backend import InstanceSpec
from benchmarks.launcher import worker
from benchmarks.meters import descendants
from benchmarks.results import Results, read_run
from runtime.image import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="the baseline needs root; run as root"),
]
ROOT = Path(__file__).parent.parent.parent
KILLS = 20
_OURS = 125
BLOCKS = 6


class Bench:
    """A run that can be started, hurt and continued until it is complete."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        begun = sorted(self._out.glob("*/run.json"))
        words = ["--resume", str(begun[0].parent)] if begun else ["--blocks", str(BLOCKS)]
        argv = [
            sys.executable,
            str(ROOT / "isoscope.py"),
            "bench",
            "boot",
            "--out",
            str(self._out),
        ]
        with (self._out.parent / "said.txt").open("ab") as said:
            return subprocess.Popen([*argv, *words], stdout=subprocess.DEVNULL, stderr=said)

    def complete(self) -> bool:
        """Whether the run has ended in order.

        A backend whose worker is killed while it is only tried stops the run with a sentence.
        """
        assert self._process.poll() in {None, 0, _OURS, -signal.SIGKILL}
        return self._process.returncode == 0

    def hurt(self, stream: random.Random) -> str | None:
        """Kill something of it that is there; what it was."""
        pid = self._process.pid
        victims: list[Callable[[], str | None]] = [
            self._kill_harness,
            lambda: _kill_named(pid, "benchmarks.worker"),
            lambda: _kill_named(pid, "qemu-system"),
        ]
        return stream.choice(victims)()

    def _kill_harness(self) -> str:
        self._process.kill()
        self._process.wait()
        return "harness"

    def revive(self) -> bool:
        """Continue it if it was killed; whether it had to be."""
        if self._process.poll() in {None, 0}:
            return False
        self._process = self._start()
        return True

    def finish(self) -> Results:
        """Wait for the end."""
        status = self._process.wait(timeout=240)
        assert status == 0, (self._out.parent / "said.txt").read_text()[-2000:]
        (record,) = self._out.glob("*/run.json")
        return read_run(record.parent)

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._process.kill()
        self._process.wait()


def _kill_named(pid: int, name: str) -> str | None:
    for each in descendants(pid):
        try:
            if name in Path(f"/proc/{each}/cmdline").read_bytes().decode(errors="replace"):
                os.kill(each, signal.SIGKILL)
                return name
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


@pytest.fixture
def bench(tmp_path: Path, busybox: Image) -> Iterator[Bench]:
    assert busybox.digest
    out = tmp_path / "results"
    out.mkdir()
    running = Bench(out)
    yield running
    running.close()


def gc() -> None:
    argv = [sys.executable, str(ROOT / "isoscope.py"), "gc"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def test_twenty_kills_lose_and_leave_nothing(bench: Bench) -> None:
    before = leftovers.seen()
    stream = random.Random(20)  # noqa: S311 - moments to repeat, not a secret
    kills: list[str] = []
    while len(kills) < KILLS and not bench.complete():
        time.sleep(stream.uniform(0.05, 2.5))
        victim = bench.hurt(stream)
        if victim is not None:
            kills.append(victim)
        if victim == "harness":
            gc()
            left = sorted(leftovers.settled(before))
            assert not left, (kills, "\n".join(left))
        bench.revive()
    bench.revive()
    found = bench.finish()
    gc()
    assert not leftovers.settled(before)
    assert {"harness", "benchmarks.worker"} <= set(kills)
    assert found.run.outcome == "complete"
    _every_instance_is_there_once(found)


def _every_instance_is_there_once(found: Results) -> None:
    plan = found.run.plan
    for block in range(1, BLOCKS + 1):
        for arm in plan.backends:
            rows = [s for s in found.samples if (s.block, s.label) == (block, arm.label)]
            tries = {s.attempt for s in rows}
            assert len(rows) == 3 * len(tries), (block, arm.label)
            assert tries in ({1}, {1, 2})
            last = [s for s in rows if s.attempt == max(tries)]
            assert all(s.status == "ok" for s in last) or tries == {1, 2}


def test_a_full_disk_is_an_error_and_what_was_measured_is_safe(
    tmp_path: Path, busybox: Image
) -> None:
    from benchmarks.errors import JournalError
    from benchmarks.harness import Request, bench, resume
    from benchmarks.progress import Lines
    from benchmarks.suites import SUITES
    from runtime import syscalls

    small = tmp_path / "small"
    small.mkdir()
    syscalls.mount("tmpfs", str(small), "tmpfs", 0, "size=36k")
    try:
        request = Request(
            suite=SUITES["boot"], on=("host",), image=busybox, blocks=20, seed=1, out=small,
            command=("isoscope", "bench"),
        )  # fmt: skip
        with pytest.raises(JournalError, match="No space left"):
            bench(request, Lines())
        (directory,) = small.iterdir()
        kept = read_run(directory).samples
        assert kept
        syscalls.mount("tmpfs", str(small), "tmpfs", syscalls.MS_REMOUNT, "size=8m")
        resume(directory, Lines())
        found = read_run(directory)
        assert found.samples[: len(kept)] == kept
        assert len({s.key for s in found.samples if s.workload == "boot" and s.block}) == 40
    finally:
        syscalls.umount2(str(small), 0)


def test_a_read_only_folder_is_said_before_anything_is_measured(
    tmp_path: Path, busybox: Image
) -> None:
    argv = [sys.executable, str(ROOT / "isoscope.py"), "bench", "boot", "--on", "host"]
    done = subprocess.run(
        [*argv, "--out", "/proc/results"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert busybox.digest
    assert done.returncode == 125
    assert "--out" in done.stderr.splitlines()[-1]


def test_a_harness_tidies_up_after_its_killed_worker(busybox: Image) -> None:
    before = leftovers.seen()
    with worker("container") as backend:
        backend.prepare(busybox.digest)
        backend.ask("launch", spec=_packed(InstanceSpec(image=busybox.digest)), exit_within_s=0.0)
        os.kill(backend.pid, signal.SIGKILL)
        backend.lost = True
    assert not leftovers.settled(before)


OWNER = """
import time
from benchmarks.backend import InstanceSpec
from benchmarks.launcher import worker
from runtime.image import Store
image = Store().resolve("busybox")
with worker("container") as backend:
    backend.prepare(image.digest)
    with backend.launch(InstanceSpec(image=image.digest)):
        print(backend.pid, flush=True)
        time.sleep(1000)
"""


@pytest.mark.usefixtures("busybox")
def test_gc_finds_what_a_killed_owner_left() -> None:
    before = leftovers.seen()
    argv = [sys.executable, "-c", OWNER]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        theirs = int(harness.stdout.readline())
        harness.send_signal(signal.SIGSTOP)  # so that it cannot tidy up after its worker
        os.kill(theirs, signal.SIGKILL)
        harness.kill()
    assert leftovers.seen() - before
    gc()
    assert not leftovers.settled(before)


@pytest.mark.parametrize("peer", ["runc", "crun", "podman", "docker"])
@pytest.mark.usefixtures("busybox")
def test_a_peer_does_not_outlive_a_killed_command(peer: str) -> None:
    if shutil.which({"docker": "dockerd"}.get(peer, peer)) is None:
        pytest.skip(f"no {peer}; ./isoscope setup --peers")
    before = leftovers.seen()
    argv = [sys.executable, str(ROOT / "isoscope.py"), "run", "--on", peer, "busybox"]
    with subprocess.Popen([*argv, "sh", "-c", "echo; exec sleep 1000 # left-over"]) as command:
        _until(lambda: _there_is(b"sleep\x001000\x00"), within_s=60)
        command.kill()
    _until(lambda: not leftovers.seen() - before, within_s=30)


def _until(condition: Callable[[], bool], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _there_is(command: bytes) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if entry.read_bytes().startswith(command):
                return True
    return False


def _packed(spec: InstanceSpec) -> dict[str, object]:
    from benchmarks.wire import pack_spec

    return pack_spec(spec)
