"""One instance, from its worker to its rows; a second attempt if the first one fails."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.backend import Features, InstanceTimeout, Preparation
from benchmarks.errors import BenchmarkError
from benchmarks.journal import Journal
from benchmarks.remains import sweep
from benchmarks.results import Arm, Run, Sample, Status
from benchmarks.schedule import Cell
from benchmarks.stage import Stage
from benchmarks.workloads import Ensemble, Facts, Value, Workload

ATTEMPTS = 2
"""How often an instance is tried before the next one starts."""
_CONSOLE_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A backend that works here, with what it can enforce and what preparing it cost."""

    name: str
    features: Features
    preparation: Preparation


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What an attempt came to; a failed one has the reason and what was seen until then."""

    values: dict[str, Value]
    facts: Facts
    phases: dict[str, int]
    status: Status = "ok"
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Cost:
    """What the harness itself used of the processor while instances were alive."""

    cpu_ns: int = 0
    alive_ns: int = 0
    _cpu_ns: int = 0
    _wall_ns: int = 0

    def starts(self) -> None:
        """An instance is about to be launched."""
        self._cpu_ns, self._wall_ns = time.process_time_ns(), time.monotonic_ns()

    def ends(self) -> None:
        """It has been measured."""
        self.cpu_ns += time.process_time_ns() - self._cpu_ns
        self.alive_ns += time.monotonic_ns() - self._wall_ns

    def told(self) -> Mapping[str, int]:
        """For the run's record."""
        return {"harness_cpu_ns": self.cpu_ns, "instances_alive_ns": self.alive_ns}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Measures the cells of one run; *start_ns* is when it began, on the monotonic clock."""

    run: Run
    image: str
    start_ns: int
    cost: Cost = field(default_factory=Cost)

    def measure(
        self,
        cell: Cell,
        arm: Arm,
        subject: Subject,
        workload: Workload | Ensemble,
        journal: Journal,
        *,
        tried: int = 0,
    ) -> bool:
        """Try *cell* until it was *tried* twice; every attempt is in the journal.

        Returns whether one succeeded.
        """
        for attempt in range(tried + 1, ATTEMPTS + 1):
            at_ns = time.monotonic_ns() - self.start_ns
            outcome = self._try(subject, workload)
            journal.append(self._rows(cell, arm, workload, attempt, at_ns, outcome))
            if outcome.status == "ok":
                return True
        return False

    def _try(self, subject: Subject, workload: Workload | Ensemble) -> Outcome:
        outcome = Outcome(values={}, facts={}, phases={})
        stage = Stage(
            backend=subject.name,
            features=subject.features,
            image=self.image,
            limits=self.run.limits,
        )
        try:
            play(stage, workload, outcome, self.cost)
        except InstanceTimeout as passed:
            outcome.status, outcome.error = "timeout", _told(passed)
        except BenchmarkError as failure:
            outcome.status, outcome.error = "failed", str(failure)
        finally:
            sweep()
        return outcome

    def _rows(
        self,
        cell: Cell,
        arm: Arm,
        workload: Workload | Ensemble,
        attempt: int,
        at_ns: int,
        outcome: Outcome,
    ) -> list[Sample]:
        """A row for each metric owed: its value, or why there is none."""
        instance = secrets.token_hex(6)
        rows = []
        for metric in workload.record.metrics:
            status, value = _result(outcome, metric.name, metric.method)
            rows.append(
                Sample(
                    run=self.run.run,
                    block=cell.block,
                    order=cell.order,
                    label=arm.label,
                    backend=arm.backend,
                    accelerator=arm.accelerator,
                    workload=workload.record.name,
                    instance=instance,
                    attempt=attempt,
                    warmup=cell.block == 0,
                    image=self.image,
                    metric=metric.name,
                    value=value.value,
                    unit=metric.unit,
                    method=value.method,
                    status=status,
                    error=value.error,
                    at_ns=at_ns,
                    phases=None,
                )
            )
        rows[0] = replace(rows[0], phases=outcome.phases, facts=outcome.facts)
        return rows


def play(
    stage: Stage, workload: Workload | Ensemble, outcome: Outcome, cost: Cost | None = None
) -> None:
    """Measure *workload* on *stage*: one instance, while it runs and when it is gone, or several.

    Of an ensemble *cost* counts nothing: its harness has a part to play.

    Raises InstanceTimeout, BenchmarkError; *outcome* has what was seen until then.
    """
    if isinstance(workload, Ensemble):
        outcome.values |= workload.perform(stage, outcome.facts, outcome.phases)
        return
    cost = Cost() if cost is None else cost
    limit_s = workload.timeout_s if workload.runs_to_exit else 0.0
    argv = workload.record.argv
    with stage.instance(argv, exit_within_s=limit_s, before=cost.starts) as instance:
        try:
            outcome.values |= workload.measure(instance, outcome.facts)
        finally:
            cost.ends()
            outcome.phases |= instance.phases
    outcome.phases |= instance.phases
    outcome.values |= workload.conclude(instance)


def _result(outcome: Outcome, metric: str, method: str) -> tuple[Status, Value]:
    value = outcome.values.get(metric)
    if outcome.status != "ok":
        return outcome.status, Value(value=None, method=method, error=outcome.error)
    if value is None:
        return "failed", Value(value=None, method=method, error="the workload did not measure it")
    return ("ok" if value.value is not None else "skipped"), value


def _told(passed: InstanceTimeout) -> str:
    tail = passed.console_tail[-_CONSOLE_CHARACTERS:]
    console = f"; console: {tail}" if tail else ""
    return f"{passed.message} (last phase: {passed.last_phase}){console}"
