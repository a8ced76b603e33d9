"""Results, schema 1: what a run says about itself, and one sample a line.

    results/<run-id>/run.json        Run: plan, environment, preparations, outcome
    results/<run-id>/samples.jsonl   Sample: one measured value with everything needed to judge it

The records are values that cannot be wrong alone: a constructor refuses what no run could have
measured (a value beside a failure, a negative duration, NaN). ``read_run`` also refuses what
contradicts the run it stands in. Results files may come from a stranger: whatever is in them, the
answer is a Results or a ResultsError that says file, line and field.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.backend import COMMON_PHASES
from benchmarks.errors import ResultsError
from benchmarks.strict_json import INT_LIMIT, NotJson, as_json, decode, loads

Scalar = str | int | float | bool | None
Status = Literal["ok", "failed", "timeout", "skipped"]
Direction = Literal["lower", "higher"]
Outcome = Literal["running", "complete", "interrupted", "failed"]

RUN_FILE = "run.json"
SAMPLES_FILE = "samples.jsonl"
MAX_LINE_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 28
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class InstanceKey(NamedTuple):
    """What names an instance inside a run."""

    block: int
    label: str
    workload: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of the journal: one metric of one instance.

    ``value`` is in ``unit`` and stands only beside status ``ok``; every other status has an
    ``error``. Blocks count from 1; block 0 is for what is measured once for a run, such as
    preparations, and for warm-ups, which are marked and never counted. ``at_ns`` is when it was
    measured, on the monotonic clock since the run began. ``phases`` (ns since the request) and
    ``facts`` (identity facts read inside the instance, such as kernel_release, boot_id, processes,
    rootfs_fingerprint, cpus, memory_total_bytes) stand on the first row of an instance and are
    None on its others.
    """

    schema: Literal[1] = 1
    run: str
    block: int
    order: int
    label: str
    backend: str
    accelerator: str | None
    workload: str
    instance: str
    attempt: int
    warmup: bool
    image: str
    metric: str
    value: int | float | None
    unit: str
    method: str
    status: Status
    error: str | None
    at_ns: int
    phases: Mapping[str, int] | None
    facts: Mapping[str, Scalar] | None = None

    def __post_init__(self) -> None:
        _not_negative(block=self.block, order=self.order, at_ns=self.at_ns)
        _require(self.attempt >= 1, "attempts count from 1")
        _require((self.value is None) == (self.status != "ok"), "a value stands beside 'ok' only")
        _require((self.error is None) == (self.status == "ok"), "an error stands beside a failure")
        if self.value is not None:
            finite = math.isfinite(self.value) and abs(self.value) < INT_LIMIT
            _require(finite, f"the value of {self.metric!r} is not finite, or beyond 64 bits")
            if self.unit in ("ns", "bytes"):
                _not_negative(value=self.value)
        for phase, at_ns in (self.phases or {}).items():
            _require(phase.partition(".")[0] in COMMON_PHASES, f"unknown phase {phase[:40]!r}")
            _not_negative(**{f"phases.{phase}": at_ns})

    @property
    def key(self) -> InstanceKey:
        """The instance this row belongs to."""
        return InstanceKey(self.block, self.label, self.workload, self.attempt)

    def line(self) -> bytes:
        """The journal's line, newline included. Raises ResultsError if it cannot be written."""
        return as_json(self) + b"\n"

    @staticmethod
    def parse(line: bytes) -> "Sample":
        """The sample on *line*. Raises ResultsError (NotJson if it is cut or no JSON)."""
        if len(line) > MAX_LINE_BYTES:
            raise ResultsError(f"the line is longer than {MAX_LINE_BYTES} bytes")
        return decode(Sample, loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a workload measures: a duration names its two events in ``start`` and ``stop``."""

    name: str
    unit: str
    direction: Direction
    start: str | None
    stop: str | None
    method: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is run; every instance of it owes one row for each metric."""

    name: str
    argv: tuple[str, ...]
    metrics: tuple[Metric, ...]

    def __post_init__(self) -> None:
        _distinct("metric", [metric.name for metric in self.metrics])


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A subject of the comparison. ``label`` differs from ``backend`` in A/A controls only."""

    label: str
    backend: str
    accelerator: str | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was meant to be measured, written before the first sample; ``order`` says how."""

    backends: tuple[Arm, ...]
    workloads: tuple[Workload, ...]
    blocks: int
    seed: int
    order: str

    def __post_init__(self) -> None:
        _not_negative(blocks=self.blocks)
        _distinct("label", [arm.label for arm in self.backends])
        _distinct("workload", [workload.name for workload in self.workloads])

    def arm(self, label: str) -> Arm | None:
        """The arm called *label*, if there is one."""
        return next((arm for arm in self.backends if arm.label == label), None)

    def owed(self, workload: str) -> dict[str, str]:
        """Metric -> unit: each instance of *workload* gives a row for each; empty if unknown."""
        return {
            metric.name: metric.unit
            for found in self.workloads
            if found.name == workload
            for metric in found.metrics
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationCost:
    """What making the image startable cost a backend, once; see benchmarks.backend."""

    backend: str
    duration_ns: int
    disk_bytes: int
    cached: bool
    method: str

    def __post_init__(self) -> None:
        _not_negative(duration_ns=self.duration_ns, disk_bytes=self.disk_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits every instance was given where its backend enforces them; None is no limit."""

    cpus: int | float | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """How a backend's guest code is executed, and the sentence of the probe that found out."""

    name: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A backend that was asked for and could not run here; shown as it is."""

    backend: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Why a run has as many blocks as it has; see ``benchmarks.stopping``.

    Block 0 is the warm-up if there was one. ``pilot_blocks`` were measured before
    ``wanted_blocks`` were planned from them; ``reached_ratio`` is the half width of the widest
    interval that ``precision_ratio`` was asked of. ``end`` says what ended the run.
    """

    warmup: bool
    pilot_blocks: int
    wanted_blocks: int
    precision_ratio: int | float | None = None
    reached_ratio: int | float | None = None
    budget_s: int | float | None = None
    end: Literal["plan", "precision", "budget", "most"] = "plan"

    def __post_init__(self) -> None:
        _not_negative(pilot_blocks=self.pilot_blocks, wanted_blocks=self.wanted_blocks)
        for name in ("precision_ratio", "reached_ratio", "budget_s"):
            _not_negative(**{name: getattr(self, name) or 0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a suite. ``started_at`` and ``ended_at`` are wall clock, ISO 8601, UTC.

    ``images`` maps a reference to its digest, ``accelerators`` a backend to what it ran on;
    ``environment`` is plain JSON: CPU, kernel, governor, mitigations, clock source, and what the
    machine did besides (``before``, ``during`` block by block, ``after``). ``protocol`` is absent
    in records older than it.
    """

    schema: Literal[1] = 1
    run: str
    suite: str
    plan: Plan
    images: Mapping[str, str]
    preparations: tuple[PreparationCost, ...]
    cache_state: str
    boot_profile: str
    limits: Limits
    versions: Mapping[str, str]
    environment: Mapping[str, Any]
    protocol: Protocol | None = None
    accelerators: Mapping[str, Accelerator]
    skipped: tuple[Skipped, ...]
    command: tuple[str, ...]
    started_at: str
    ended_at: str | None
    outcome: Outcome

    def __post_init__(self) -> None:
        _require(_RUN_ID.fullmatch(self.run) is not None, f"{self.run[:40]!r} is no run id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A run and its samples in the order they were measured.

    ``torn`` says what was dropped if the journal's last line is cut, which is what a crash leaves.
    """

    run: Run
    samples: tuple[Sample, ...]
    torn: str | None = None

    def _repr_html_(self) -> str:
        """What was run and what came of it; ``reports.notebook.results`` shows the numbers."""
        from runtime.image.markup import facts  # noqa: PLC0415 - only a notebook needs it

        counts = Counter(sample.status for sample in self.samples)
        told = {
            "run": self.run.run,
            "suite": self.run.suite,
            "arms": ", ".join(arm.label for arm in self.run.plan.backends),
            "blocks": self.run.plan.blocks,
            "outcome": self.run.outcome,
            "samples": ", ".join(f"{count} {status}" for status, count in counts.items())
            or "none",
            "skipped": "; ".join(f"{s.backend}: {s.reason}" for s in self.run.skipped) or "none",
        }
        return facts(told | ({"torn": self.torn} if self.torn else {}))


def read_run(directory: Path) -> Results:
    """Everything in a run's folder. Raises ResultsError with file, line and field."""
    run = read_record(directory)
    path = directory / SAMPLES_FILE
    if not path.exists():
        return Results(run=run, samples=())
    samples: list[Sample] = []
    seen: dict[InstanceKey, set[str]] = {}
    lines = _lines(_read(path))
    for number, line in enumerate(lines, start=1):
        try:
            sample = _complete(line)
        except NotJson as wrong:
            if number < len(lines):
                raise _located(wrong, path, number) from None
            torn = f"line {number} of {path.name} is cut short ({len(line)} bytes) and was dropped"
            return Results(run=run, samples=tuple(samples), torn=torn)
        except ResultsError as wrong:
            raise _located(wrong, path, number) from None
        if (why := contradiction(run, sample, seen)) is not None:
            raise _located(ResultsError(why), path, number)
        samples.append(sample)
    return Results(run=run, samples=tuple(samples))


def read_record(directory: Path) -> Run:
    """The run's record alone (run.json). Raises ResultsError."""
    path = directory / RUN_FILE
    raw = _read(path)
    try:
        return decode(Run, loads(raw))
    except ResultsError as wrong:
        raise _located(wrong, path, None) from None
    except RecursionError:
        raise _located(ResultsError("the JSON is nested too deeply"), path, None) from None


def write_run(directory: Path, run: Run) -> None:
    """Write or replace the run's record: whole and on disk, or not at all."""
    write_atomically(directory / RUN_FILE, as_json(run, indent=2) + b"\n")


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file *path* by *content* through a temporary name beside it.

    A symbolic link is followed. Raises ResultsError, also for what is no regular file.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise ResultsError(f"{path} is no regular file", remedy="choose another name with --out")
    draft = target.with_name(f".{target.name}.new")  # one name: a killed writer's is overwritten
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        sync_directory(target.parent)
    except OSError as wrong:
        raise ResultsError(
            f"{path} cannot be written: {wrong.strerror}",
            remedy="free some space or choose another folder with --out",
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable. Source: fsync(2), notes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def contradiction(run: Run, sample: Sample, seen: dict[InstanceKey, set[str]]) -> str | None:
    """Why *sample* cannot stand in *run* after what was *seen*; None if it can, then noted."""
    if (why := _foreign(run, sample)) is not None:
        return why
    rows = seen.setdefault(sample.key, set())
    if sample.metric in rows:
        return f"metric {sample.metric!r} stands twice for {_named(sample.key)}"
    if rows and (sample.phases is not None or sample.facts is not None):
        return f"phases and facts stand on the first row of {_named(sample.key)} only"
    rows.add(sample.metric)
    return None


def _foreign(run: Run, sample: Sample) -> str | None:
    arm = run.plan.arm(sample.label)
    if sample.run != run.run:
        return f"the sample belongs to run {sample.run[:60]!r}, not to {run.run!r}"
    if arm is None:
        return f"label {sample.label[:60]!r} is not in the plan"
    if (sample.backend, sample.accelerator) != (arm.backend, arm.accelerator):
        return f"backend or accelerator of label {arm.label!r} are not those of the plan"
    unit = run.plan.owed(sample.workload).get(sample.metric)
    if unit is None:
        return f"metric {sample.metric[:60]!r} is not in the plan of {sample.workload[:60]!r}"
    if unit != sample.unit:
        return f"{sample.metric!r} is in {sample.unit[:20]!r}, and in {unit!r} in the plan"
    return None


def _complete(line: bytes) -> Sample:
    if not line.endswith(b"\n"):
        raise NotJson("the line has no end")
    try:
        return Sample.parse(line)
    except RecursionError:
        raise ResultsError("the JSON is nested too deeply") from None


def _lines(raw: bytes) -> list[bytes]:
    """Split at newlines only (not at carriage returns), which stay on the lines that have one."""
    *whole, rest = raw.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ResultsError(f"{path} is no regular file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ResultsError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as wrong:
        raise ResultsError(
            f"{path} cannot be read: {wrong.strerror}",
            remedy="give the folder of a run, such as results/RUN-ID",
        ) from None


def _located(wrong: ResultsError, path: Path, number: int | None) -> ResultsError:
    where = str(path) if number is None else f"{path}, line {number}"
    return ResultsError(f"{where}: {wrong.message}", remedy=wrong.remedy)


def _named(key: InstanceKey) -> str:
    return f"{key.label} in block {key.block}, workload {key.workload}, attempt {key.attempt}"


def _require(condition: bool, sentence: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        raise ResultsError(sentence)


def _not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        _require(number >= 0, f"field {name[:60]!r} is negative")


def _distinct(noun: str, names: list[str]) -> None:
    _require(len(set(names)) == len(names), f"a {noun} stands twice in the plan")
