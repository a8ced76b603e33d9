"""What is run, the same on every backend: argv, and how its instance becomes metrics.

A workload's ``record`` is what a run writes down about it. ``measure`` is called while the
instance runs, ``conclude`` after it is gone; together they give a value, or a reason, for each
metric that the record owes. An ``Ensemble`` needs more than one instance, or has something to do
before its one starts: it is given the stage and starts them itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from benchmarks.backend import ExecResult
from benchmarks.errors import BenchmarkError
from benchmarks.launcher import RemoteInstance
from benchmarks.results import Scalar
from benchmarks.results import Workload as Record
from benchmarks.stage import Stage

_AFTER_ALL_S = 1.0
"""How long an instance that has said nothing may take to end."""


class WorkloadFailed(BenchmarkError):  # noqa: N818 - named by what happened
    """The program ran, but not as it must for a number to mean anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One measured value, or (None) why there is none on this backend; and how it was read."""

    value: int | float | None
    method: str
    error: str | None = None


Values = Mapping[str, Value]
Facts = dict[str, Scalar]


class Described(Protocol):
    """What every workload says of itself, for people."""

    @property
    def question(self) -> str:
        """What its numbers answer."""

    @property
    def threats(self) -> tuple[str, ...]:
        """What may make the answer wrong."""


class Workload(Described, Protocol):
    """See the module."""

    @property
    def record(self) -> Record:
        """Name, argv and the metrics owed."""

    @property
    def timeout_s(self) -> float:
        """After this an instance counts as hung."""

    @property
    def runs_to_exit(self) -> bool:
        """Whether the end of its command is what is measured."""

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:
        """What can be read while the instance runs; adds what it learns to *facts*."""

    def conclude(self, instance: RemoteInstance) -> Values:
        """What can be read once the instance is gone."""


@runtime_checkable
class Ensemble(Described, Protocol):
    """A workload of several instances; see the module."""

    @property
    def record(self) -> Record:
        """Name, argv (of the instance that is measured) and the metrics owed."""

    def perform(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:
        """Start, measure and end all its instances; adds what it learns of the measured one."""


def succeeded(result: ExecResult) -> ExecResult:
    """*result*, if it is a success. Raises WorkloadFailed with what the program said."""
    if result.exit_status != 0:
        said = (result.stderr or result.stdout).decode(errors="replace").strip()[-200:]
        raise WorkloadFailed(f"exit status {result.exit_status}: {said or 'no output'}")
    return result


def spoken(instance: RemoteInstance, *, timeout_s: float) -> None:
    """Wait for the first output. Raises WorkloadFailed with what came instead, InstanceTimeout."""
    if not instance.until_output(timeout_s=timeout_s):
        succeeded(instance.wait(timeout_s=_AFTER_ALL_S))
        raise WorkloadFailed("it ended without a word")


def between(phases: Mapping[str, int], start: str, stop: str) -> Value:
    """The time from *start* to *stop*, if both were seen."""
    method = f"{start} to {stop}, host CLOCK_MONOTONIC"
    if start not in phases or stop not in phases:
        unseen = start if start not in phases else stop
        return Value(value=None, method=method, error=f"the phase {unseen!r} was not seen")
    return Value(value=phases[stop] - phases[start], method=method)
