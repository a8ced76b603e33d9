"""What the instrument adds to what it records, on a backend whose times are scripted.

Everything of the harness is real but the process boundary: the worker's server is a thread. Only
the least of several errors is judged: what a loaded machine adds is not the instrument's.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from synthetic_runs import run_with

from benchmarks import attempts, stage, wire
from benchmarks.attempts import Attempts, Subject
from benchmarks.backend import (
    ExecResult,
    Features,
    InstanceSpec,
    Preparation,
    Unavailable,
    Usage,
)
from benchmarks.journal import Journal
from benchmarks.launcher import RemoteBackend
from benchmarks.results import read_run, write_run
from benchmarks.schedule import Cell
from benchmarks.worker import Server
from benchmarks.workloads.boot import Boot

RUN_S, TEARDOWN_S = 0.06, 0.02
TRIES = 5
BOOTED = b"6.1.0\n00000000-0000-4000-8000-000000000000\n"
MADE = Preparation(duration_ns=1, disk_bytes=1, cached=True, method="scripted")


@dataclass
class Scripted:
    """A backend of which every instance runs, and is torn down, in a time of its script."""

    name: str = "host"
    features: Features = field(default_factory=Features)
    ran_ns: list[int] = field(default_factory=list)
    torn_down_ns: list[int] = field(default_factory=list)
    phases: Mapping[str, int] = field(default_factory=dict)
    requested_ns: int = 0

    def probe(self) -> Unavailable | None:
        return None

    def prepare(self, _image: str) -> Preparation:
        return MADE

    @contextmanager
    def launch(self, _spec: InstanceSpec) -> Iterator["Scripted"]:
        self.requested_ns = time.monotonic_ns()
        self.phases = {"request": 0}
        yield self
        leaving_ns = time.monotonic_ns()
        time.sleep(TEARDOWN_S)
        gone_ns = time.monotonic_ns()
        self.torn_down_ns.append(gone_ns - leaving_ns)
        self.phases = {**self.phases, "gone": gone_ns - self.requested_ns}

    def wait(self, *, timeout_s: float) -> ExecResult:
        assert timeout_s > 0
        time.sleep(RUN_S)
        now_ns = time.monotonic_ns() - self.requested_ns
        self.ran_ns.append(now_ns)
        self.phases = {**self.phases, "output": now_ns, "exit": now_ns}
        return ExecResult(exit_status=0, stdout=BOOTED, stderr=b"", phases=self.phases)

    def run(self, argv: Sequence[str], *, stdin: bytes, timeout_s: float) -> ExecResult:
        raise NotImplementedError

    def until_output(self, *, timeout_s: float) -> bool:
        raise NotImplementedError

    def usage(self) -> Usage:
        raise NotImplementedError


@contextmanager
def served(backend: Scripted) -> Iterator[RemoteBackend]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = Server(backend, None, wire.Line(theirs))  # type: ignore[arg-type]  # one object is both backend and instance
        thread = threading.Thread(target=server.serve)
        thread.start()
        line = wire.Line(ours)
        try:
            yield RemoteBackend("host", line, 0)
        finally:
            line.close()
            thread.join()


def test_the_instrument_records_what_was_scripted_and_waits_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Scripted()
    monkeypatch.setattr(stage, "worker", lambda _name: served(backend))
    monkeypatch.setattr(attempts, "sweep", lambda: None)
    boot = Boot()
    run = run_with(["host"], blocks=TRIES, workloads=(boot.record,))
    write_run(tmp_path, run)
    subject = Subject(name="host", features=backend.features, preparation=MADE)
    shares = []
    with Journal(tmp_path, run.run) as journal:
        for block in range(1, TRIES + 1):
            measured = Attempts(run=run, image="sha256:00", start_ns=time.monotonic_ns())
            cell = Cell(block=block, order=1, label="host", workload="boot")
            measured.measure(cell, run.plan.backends[0], subject, boot, journal)
            shares.append(measured.cost.cpu_ns / measured.cost.alive_ns)
            assert measured.cost.alive_ns >= RUN_S * 1e9
    values: dict[str, list[float]] = {}
    for sample in read_run(tmp_path).samples:
        assert sample.value is not None, sample.error
        values.setdefault(sample.metric, []).append(sample.value)
    assert values["boot.exit"] == backend.ran_ns
    errors_ns = [
        recorded - true
        for recorded, true in zip(values["boot.teardown"], backend.torn_down_ns, strict=True)
    ]
    assert min(errors_ns) >= 0
    assert min(errors_ns) <= min(100_000, 0.01 * TEARDOWN_S * 1e9)
    assert min(shares) < 0.05  # near 0.01 on an idle machine, the scripted worker's included
