"""A workload as data: a shell script of the bench image, and how its output becomes metrics.

The script's first words are two lines that tell which kernel it ran on (or its last, where the
first output is what is measured). Durations from inside are checked against the host's clock:
work that took longer inside than the instance existed outside is a clock that runs fast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.workloads import Facts, Value, Values, WorkloadFailed, between, succeeded
from benchmarks.workloads.facts import KERNEL_FILES, of_kernel
from benchmarks.workloads.printed import Parse, Said, Work

_IDENTITY = f"cat {' '.join(KERNEL_FILES)}"
_CLOCK_SLACK_NS = 50_000_000
_CLOCK_SLACK_RATIO = 1.05
INSIDE = "CLOCK_MONOTONIC inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One metric, and how its value comes out of what was printed and of the phases."""

    metric: Metric
    value: Callable[[Said, Mapping[str, int]], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """See ``benchmarks.workloads.Workload``, and the module.

    *checks* are values that the program must have printed: it computed what it should.
    """

    name: str
    question: str
    threats: tuple[str, ...]
    script: str
    parse: Parse
    readings: tuple[Reading, ...]
    checks: Mapping[str, int] | None = None
    identity: Literal["first", "last"] = "first"
    timeout_s: float = 180.0
    runs_to_exit: ClassVar[bool] = True

    @property
    def record(self) -> Record:
        """See ``Workload.record``."""
        ordered = (_IDENTITY, self.script)
        first, second = ordered if self.identity == "first" else reversed(ordered)
        return Record(
            name=self.name,
            argv=("sh", "-c", f"{first} && {second}"),
            metrics=tuple(reading.metric for reading in self.readings),
        )

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:
        """Wait for the end; every line of the output must be as expected."""
        result = succeeded(instance.wait(timeout_s=self.timeout_s))
        kernel, rest = _apart(result.stdout, self.identity)
        of_kernel(kernel, facts)
        said = self.parse(rest)
        for name, expected in (self.checks or {}).items():
            if said.get(name) != expected:
                raise WorkloadFailed(f"{name} is {said.get(name)}, and must be {expected}")
        require_clock(said, instance.phases)
        return {r.metric.name: r.value(said, instance.phases) for r in self.readings}

    def conclude(self, instance: RemoteInstance) -> Values:  # noqa: ARG002 - the protocol's
        """Nothing is read of what is gone."""
        return {}


def _apart(raw: bytes, identity: Literal["first", "last"]) -> tuple[bytes, bytes]:
    """The two lines of the kernel, and the program's own."""
    split = raw.splitlines(keepends=True)
    if identity == "first":
        return b"".join(split[:2]), b"".join(split[2:])
    return b"".join(split[-2:]), b"".join(split[:-2])


def require_clock(said: Said, phases: Mapping[str, int]) -> None:
    """Raise WorkloadFailed if more time went by inside than outside."""
    inside_ns = sum(work.duration_ns for work in said.values() if isinstance(work, Work))
    outside_ns = phases.get("exit")
    if outside_ns is not None and inside_ns > outside_ns * _CLOCK_SLACK_RATIO + _CLOCK_SLACK_NS:
        raise WorkloadFailed(
            f"the clock inside runs fast: {inside_ns} ns of work in an instance of {outside_ns} ns"
        )


def ns_per_unit(name: str, of: str, title: str, *, unit: str) -> Reading:
    """Time for one *unit* of the work called *of*."""
    metric = Metric(
        name=name, unit="ns", direction="lower", start=f"first {unit}", stop=f"last {unit}",
        method=f"{INSIDE}, divided by the number of times: one {unit}", title=title,
    )  # fmt: skip

    def value(said: Said, _phases: Mapping[str, int]) -> Value:
        work = _named(said, of)
        return Value(value=work.duration_ns / work.units, method=_counted(metric, work))

    return Reading(metric=metric, value=value)


def units_per_s(
    name: str, of: str, title: str, *, unit: str, what: str, scale: float = 1.0
) -> Reading:
    """How many units of the work *of*, divided by *scale*, a second has: *what* in *unit*."""
    metric = Metric(
        name=name, unit=unit, direction="higher", start=f"first {what}", stop=f"last {what}",
        method=f"{INSIDE}: {what} by time", title=title,
    )  # fmt: skip

    def value(said: Said, _phases: Mapping[str, int]) -> Value:
        work = _named(said, of)
        rate = work.units / scale * 1e9 / work.duration_ns
        return Value(value=rate, method=_counted(metric, work))

    return Reading(metric=metric, value=value)


def as_told(  # noqa: PLR0913 - a metric's fields
    name: str, of: str, title: str, *, unit: str, direction: Literal["lower", "higher"],
    method: str, start: str, stop: str, scale: float = 1.0,
) -> Reading:  # fmt: skip
    """The number *of* as the program tells it, divided by *scale*."""
    metric = Metric(
        name=name, unit=unit, direction=direction, start=start, stop=stop, method=method,
        title=title,
    )  # fmt: skip

    def value(said: Said, _phases: Mapping[str, int]) -> Value:
        number = said.get(of)
        if number is None or isinstance(number, Work):
            raise WorkloadFailed(f"the program told no {of!r}")
        return Value(value=number / scale, method=method)

    return Reading(metric=metric, value=value)


def of_phases(name: str, start: str, stop: str, title: str) -> Reading:
    """From one phase of the instance to another, seen from the host."""
    metric = Metric(
        name=name, unit="ns", direction="lower", start=start, stop=stop,
        method="host CLOCK_MONOTONIC in the worker that launches", title=title,
    )  # fmt: skip
    return Reading(metric=metric, value=lambda _said, phases: between(phases, start, stop))


def _named(said: Said, of: str) -> Work:
    work = said.get(of)
    if not isinstance(work, Work):
        raise WorkloadFailed(f"the program told no work {of!r}")
    return work


def _counted(metric: Metric, work: Work) -> str:
    return f"{metric.method}; {work.units} units in {work.duration_ns} ns"
