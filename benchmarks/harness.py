"""Runs a suite: probes, prepares, then every instance of the schedule from a worker of its own.

One instance's failure never stops a run: it becomes rows that say so, is tried once more, and the
next instance starts. What is finished is on disk before the next one begins.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import environment, remains, results
from benchmarks.attempts import ATTEMPTS, Attempts, Subject
from benchmarks.backend import Features, InstanceTimeout
from benchmarks.course import Course, Watcher
from benchmarks.errors import BenchmarkError
from benchmarks.journal import Journal
from benchmarks.launcher import worker
from benchmarks.machine_lock import Held, machine_lock
from benchmarks.record import Record, recorded
from benchmarks.results import Arm, Run, Sample, read_record, read_run
from benchmarks.schedule import Cell
from benchmarks.stats import MIN_BLOCKS
from benchmarks.suites import CONTROL, SUITES, Suite
from runtime.image import Image, Store

PREPARE = results.Workload(
    name="prepare",
    argv=(),
    metrics=(
        results.Metric(
            name="prepare", unit="ns", direction="lower", start="image in the store",
            stop="startable", method="host CLOCK_MONOTONIC, once per image and backend",
            title="One-time preparation of the image",
        ),
        results.Metric(
            name="disk.image", unit="bytes", direction="lower", start=None, stop=None,
            method="allocated blocks", title="Disk for the first instance",
        ),
    ),
)  # fmt: skip
"""What happens once per image and backend: rows of their own, in block 0, before all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a run: the suite on these backends, so often, in this seed's order.

    With *precision_ratio* the blocks are a pilot from which their number is planned; with
    *budget_s* the run ends within so many seconds, with whole blocks. Without a word on *warmup*
    a run that has enough blocks to claim anything begins with one.
    """

    suite: Suite
    on: tuple[str, ...]
    image: Image
    blocks: int
    seed: int
    out: Path
    command: tuple[str, ...]
    warmup: bool | None = None
    precision_ratio: float | None = None
    budget_s: float | None = None


def bench(request: Request, watcher: Watcher) -> Path:
    """Measure, and return the run's folder.

    Raises Busy if another run measures on this machine, BenchmarkError if no backend works here,
    JournalError if the results cannot be written, Interrupted on Ctrl-C: then, as after any
    crash, ``resume`` continues.
    """
    began_ns = time.monotonic_ns()
    with _machine() as machine:
        subjects, skipped = _subjects(request.on, request.image, watcher)
        run = _run(request, subjects, skipped)
        directory = _new_directory(request.out, run.run)
        machine.tells(directory)
        with recorded(directory, run) as record:
            _measure(record, request.suite, request.image, subjects, watcher, began_ns)
    return directory


def resume(directory: Path, watcher: Watcher) -> Path:
    """Continue the run in *directory*: what is finished is kept, the rest is measured.

    Raises as ``bench`` does, and BenchmarkError if this is no longer the same comparison: another
    suite, an image that is gone, a backend that stopped working or runs under another accelerator.
    """
    began_ns = time.monotonic_ns()
    with _machine() as machine:
        machine.tells(directory)
        run = read_record(directory)
        _require_samples(run, directory)
        suite = _same_suite(run)
        image = Store().resolve(next(iter(run.images.values())))
        names = tuple(dict.fromkeys(arm.backend for arm in run.plan.backends))
        subjects, skipped = _subjects(names, image, watcher)
        _require_same(run, subjects, skipped)
        with recorded(directory, run) as record:
            _measure(record, suite, image, subjects, watcher, began_ns)
    return directory


@contextmanager
def _machine() -> Iterator[Held]:
    """This machine, for ourselves and without what dead runs left."""
    with machine_lock() as held:
        remains.sweep()
        yield held


def _require_samples(run: Run, directory: Path) -> None:
    """What was measured and is gone is not measured again under the name of the first time."""
    if run.outcome == "complete" and not read_run(directory).samples:
        raise BenchmarkError(
            f"run {run.run} was complete, but its samples are gone:"
            f" {directory / results.SAMPLES_FILE} is missing or empty",
            remedy="restore that file, or start a new run",
        )


def _same_suite(run: Run) -> Suite:
    suite = SUITES.get(run.suite)
    planned = tuple(w for w in run.plan.workloads if w != PREPARE)
    if suite is None or tuple(w.record for w in suite.workloads) != planned:
        raise BenchmarkError(
            f"run {run.run} measured other workloads than the suite {run.suite!r} has now",
            remedy="start a new run",
        )
    return suite


def _require_same(run: Run, subjects: list[Subject], skipped: list[results.Skipped]) -> None:
    if skipped:
        raise BenchmarkError(
            f"run {run.run} cannot continue: {skipped[0].backend}: {skipped[0].reason}",
            remedy=skipped[0].remedy,
        )
    planned = {arm.backend: arm.accelerator for arm in run.plan.backends}
    for subject in subjects:
        if subject.features.accelerator != planned[subject.name]:
            raise BenchmarkError(
                f"run {run.run} had {subject.name} under {planned[subject.name]}, and here it is"
                f" {subject.features.accelerator}",
                remedy="start a new run",
            )


def arms(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Label and backend of every arm: the first one twice, as its own control (A/A)."""
    return ((names[0], names[0]), (names[0] + CONTROL, names[0]), *((n, n) for n in names[1:]))


def _subjects(
    names: Sequence[str], image: Image, watcher: Watcher
) -> tuple[list[Subject], list[results.Skipped]]:
    subjects: list[Subject] = []
    skipped: list[results.Skipped] = []
    for name in names:
        watcher.says(f"{name}: trying it and preparing the image")
        try:
            with worker(name) as backend:
                if (why := backend.probe()) is not None:
                    skipped.append(
                        results.Skipped(backend=name, reason=why.reason, remedy=why.remedy)
                    )
                    watcher.says(f"{name}: skipped: {why.reason}; {why.remedy}")
                    continue
                made = backend.prepare(image.digest)
                features = backend.features
        except (BenchmarkError, InstanceTimeout) as error:
            skipped.append(
                results.Skipped(backend=name, reason=str(error), remedy="see the message")
            )
            watcher.says(f"{name}: skipped: {error}")
            continue
        subjects.append(Subject(name=name, features=features, preparation=made))
        if features.accelerator_sentence is not None:
            watcher.says(f"{name}: {features.accelerator_sentence}")
    if not subjects:
        reasons = "; ".join(f"{s.backend}: {s.reason}" for s in skipped)
        raise BenchmarkError(f"no backend can run here ({reasons})", remedy=skipped[0].remedy)
    return subjects, skipped


def _run(request: Request, subjects: list[Subject], skipped: list[results.Skipped]) -> Run:
    started = datetime.now(UTC)
    by_name = {subject.name: subject for subject in subjects}
    suite = request.suite
    plan = results.Plan(
        backends=tuple(
            Arm(
                label=label,
                backend=name,
                accelerator=by_name[name].features.accelerator,
                note=_note(label, by_name[name].features),
            )
            for label, name in arms(list(by_name))
        ),
        workloads=(PREPARE, *(workload.record for workload in suite.workloads)),
        blocks=request.blocks,
        seed=request.seed,
        order="randomised complete blocks: workloads shuffled, then labels, per block",
    )
    return Run(
        run=f"{started:%Y%m%dT%H%M%SZ}-{suite.name}-{secrets.token_hex(2)}",
        suite=suite.name,
        plan=plan,
        images={(request.image.references or ("image",))[0]: request.image.digest},
        preparations=tuple(_cost(subject) for subject in subjects),
        cache_state="warm: the image's files are in the page cache after preparation",
        boot_profile="minimal: our init starts the workload, no distribution boots",
        limits=results.Limits(cpus=suite.cpus, memory_bytes=suite.memory_bytes),
        versions=environment.versions(),
        environment=dict(environment.environment()) | {"before": environment.load()},
        accelerators={
            s.name: results.Accelerator(
                name=s.features.accelerator, sentence=s.features.accelerator_sentence or ""
            )
            for s in subjects
            if s.features.accelerator is not None
        },
        skipped=tuple(skipped),
        protocol=results.Protocol(
            warmup=request.blocks >= MIN_BLOCKS if request.warmup is None else request.warmup,
            pilot_blocks=request.blocks,
            wanted_blocks=request.blocks,
            precision_ratio=request.precision_ratio,
            budget_s=request.budget_s,
        ),
        command=request.command,
        started_at=started.isoformat(timespec="seconds"),
        ended_at=None,
        outcome="running",
    )


def _note(label: str, features: Features) -> str | None:
    if label.endswith(CONTROL):
        return "the same backend again: the difference to its twin is noise"
    missing = {"cpus", "memory"} - features.enforces
    return f"enforces no limit of {' and '.join(sorted(missing))}" if missing else None


def _cost(subject: Subject) -> results.PreparationCost:
    made = subject.preparation
    return results.PreparationCost(
        backend=subject.name,
        duration_ns=made.duration_ns,
        disk_bytes=made.disk_bytes,
        cached=made.cached,
        method=made.method,
    )


def _new_directory(out: Path, run_id: str) -> Path:
    directory = out / run_id
    try:
        directory.mkdir(parents=True)
    except OSError as wrong:
        raise BenchmarkError(
            f"{directory} cannot be made: {wrong.strerror}",
            remedy="choose a folder you may write to with --out",
        ) from None
    return directory


def _measure(
    record: Record,
    suite: Suite,
    image: Image,
    subjects: list[Subject],
    watcher: Watcher,
    began_ns: int,
) -> None:
    run = record.run
    by_name = {subject.name: subject for subject in subjects}
    workloads = {w.record.name: w for w in suite.workloads}
    with Journal(record.directory, run.run) as journal:
        known = _Known.of(read_run(record.directory).samples)
        for order, subject in enumerate(subjects, start=1):
            if subject.name not in known.prepared:
                journal.append(_prepare_rows(run, subject, image, order))
        attempts = Attempts(
            run=run, image=image.digest, start_ns=time.monotonic_ns() - known.until_ns
        )

        def measure(cell: Cell) -> bool:
            arm = record.run.plan.arm(cell.label)
            if arm is None:
                raise BenchmarkError(f"the schedule names {cell.label!r}, the plan does not")
            subject, workload = by_name[arm.backend], workloads[cell.workload]
            tried = known.tried(cell)
            return attempts.measure(cell, arm, subject, workload, journal, tried=tried)

        began_ns -= known.until_ns  # what an earlier part of the run has spent counts, too
        Course(
            record=record,
            watcher=watcher,
            measure=measure,
            settles=known.settles,
            began_ns=began_ns,
        ).run(list(workloads))
        record.adds(instrument=attempts.cost.told())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What an earlier part of the run has measured; ``until_ns`` is when its last sample began."""

    attempts: Mapping[tuple[int, str, str], Mapping[int, bool]]
    prepared: frozenset[str]
    until_ns: int

    @staticmethod
    def of(samples: Sequence[Sample]) -> "_Known":
        attempts: dict[tuple[int, str, str], dict[int, bool]] = {}
        for sample in samples:
            tries = attempts.setdefault((sample.block, sample.label, sample.workload), {})
            failed = sample.status in {"failed", "timeout"}
            tries[sample.attempt] = tries.get(sample.attempt, True) and not failed
        return _Known(
            attempts=attempts,
            prepared=frozenset(s.label for s in samples if s.workload == PREPARE.name),
            until_ns=max((sample.at_ns for sample in samples), default=0),
        )

    def tried(self, cell: Cell) -> int:
        """How many attempts at *cell* are in the journal."""
        return len(self.attempts.get((cell.block, cell.label, cell.workload), {}))

    def settles(self, cell: Cell) -> bool:
        """Whether *cell* needs no further attempt."""
        tries = self.attempts.get((cell.block, cell.label, cell.workload), {})
        return any(tries.values()) or len(tries) >= ATTEMPTS


def _prepare_rows(run: Run, subject: Subject, image: Image, order: int) -> list[Sample]:
    made = subject.preparation
    method = made.method + (", made and timed earlier" if made.cached else ", made and timed now")
    values = {"prepare": made.duration_ns, "disk.image": made.disk_bytes}
    return [
        Sample(
            run=run.run,
            block=0,
            order=order,
            label=subject.name,
            backend=subject.name,
            accelerator=subject.features.accelerator,
            workload=PREPARE.name,
            instance=f"prepare-{subject.name}",
            attempt=1,
            warmup=False,
            image=image.digest,
            metric=metric.name,
            value=values[metric.name],
            unit=metric.unit,
            method=method,
            status="ok",
            error=None,
            at_ns=0,
            phases={} if metric is PREPARE.metrics[0] else None,
        )
        for metric in PREPARE.metrics
    ]
