"""density: one instance beside another until a budget is spent; what the n-th one costs.

All hold still while the next one starts. The budget is stated: so many instances, so many
seconds, and never the last quarter of the machine's memory. What was not reached has no value,
with the reason.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.stage import Stage
from benchmarks.workloads import Facts, Value, Values, spoken
from benchmarks.workloads.held import TEXT

_START_S = 60.0
_LEAST_FREE_RATIO = 0.25
_PAGES = ("pss", "Memory each further instance adds (PSS)")
_CHARGE = ("cgroup", "Memory each further instance adds (cgroup)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """See ``benchmarks.workloads.Ensemble``: *most* instances of the same *argv*."""

    name: str
    question: str
    threats: tuple[str, ...]
    argv: tuple[str, ...]
    most: int
    within_s: float

    @property
    def record(self) -> Record:
        """The start of the 1st, 2nd, 4th … instance, what each adds, and how many stood."""
        starts = [
            Metric(
                name=f"{self.name}.start_{count}",
                unit="ns",
                direction="lower",
                start="request",
                stop="output",
                method="host CLOCK_MONOTONIC, beside those that stand already",
                title=f"Start of instance {count} of {self.most}",
            )
            for count in _doubling(self.most)
        ]
        adds = [
            Metric(
                name=f"{self.name}.{definition}",
                unit="bytes",
                direction="lower",
                start=None,
                stop=None,
                method=f"sum of {definition} over all, less that of the first when it"
                " was alone, by their number less one",
                title=title,
            )
            for definition, title in (_PAGES, _CHARGE)
        ]
        count = Metric(
            name=f"{self.name}.count",
            unit="1",
            direction="higher",
            start=None,
            stop=None,
            method=f"instances that stood; budget: {self.most} instances, {self.within_s:g} s,"
            f" {_LEAST_FREE_RATIO:.0%} of memory left free",
            title="Instances within the budget",
        )
        return Record(name=self.name, argv=self.argv, metrics=(*starts, *adds, count))

    def perform(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:  # noqa: ARG002
        """Start one after the other; look at all when no more may be started."""
        deadline_ns = time.monotonic_ns() + int(self.within_s * 1e9)
        crowd: list[RemoteInstance] = []
        stopped = f"the budget of {self.most} instances"
        alone: Mapping[str, int] = {}
        with ExitStack() as undo:
            while len(crowd) < self.most:
                if crowd and (why := _spent(deadline_ns)) is not None:
                    stopped = why
                    break
                instance = undo.enter_context(stage.instance(self.argv))
                spoken(instance, timeout_s=_START_S)
                crowd.append(instance)
                alone = alone or _amounts([instance])
            phases |= crowd[0].phases
            together = _amounts(crowd)
        return self._values(crowd, alone, together, stopped)

    def _values(
        self,
        crowd: Sequence[RemoteInstance],
        alone: Mapping[str, int],
        together: Mapping[str, int],
        stopped: str,
    ) -> Values:
        values: dict[str, Value] = {}
        methods = {metric.name: metric.method for metric in self.record.metrics}
        for count in _doubling(self.most):
            name = f"{self.name}.start_{count}"
            reached = crowd[count - 1].phases.get("output") if count <= len(crowd) else None
            error = None if reached is not None else f"not reached: {stopped}"
            values[name] = Value(value=reached, method=methods[name], error=error)
        for definition, _ in (_PAGES, _CHARGE):
            name = f"{self.name}.{definition}"
            values[name] = _further(definition, len(crowd), alone, together, methods[name])
        name = f"{self.name}.count"
        values[name] = Value(value=len(crowd), method=f"{methods[name]}; ended by {stopped}")
        return values


def _further(
    definition: str, count: int, alone: Mapping[str, int], together: Mapping[str, int], method: str
) -> Value:
    """What each further instance adds; it may be less than nothing where all is shared."""
    if definition not in alone or definition not in together or count < 2:
        why = "one instance alone has no further one" if count < 2 else "no such reading here"
        return Value(value=None, method=method, error=why)
    added = (together[definition] - alone[definition]) / (count - 1)
    return Value(value=max(0.0, added), method=f"{method}; {count} instances")


def _amounts(crowd: Sequence[RemoteInstance]) -> dict[str, int]:
    """Each definition that all of *crowd* have, summed."""
    usages = [instance.usage().readings for instance in crowd]
    return {
        name: sum(usage[name].value_bytes for usage in usages)
        for name, _ in (_PAGES, _CHARGE)
        if all(name in usage for usage in usages)
    }


def _doubling(most: int) -> tuple[int, ...]:
    """1, 2, 4 … up to *most*."""
    return tuple(1 << power for power in range(most.bit_length()) if 1 << power <= most)


def _spent(deadline_ns: int) -> str | None:
    """Which budget is used up, if one is."""
    if time.monotonic_ns() > deadline_ns:
        return "the budget of time"
    found = {
        line.partition(":")[0]: int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
    }
    if found["MemAvailable"] < found["MemTotal"] * _LEAST_FREE_RATIO:
        return "the budget of memory"
    return None


SHARED = Crowd(
    name="footprint.shared",
    question="What does a further instance add that reads the same 8 MiB of the image?",
    threats=(
        "PSS splits a shared page among all who map it; a cgroup charges it to the first",
        "a guest has a cache of its own: its host may hold the same page once more",
    ),
    argv=("gauge", "map", TEXT),
    most=3,
    within_s=60.0,
)

DENSITY = (
    Crowd(
        name="density",
        question="How long does the n-th instance take to start, and what does each add?",
        threats=(
            "idle instances: busy ones would compete for processors as well",
            "each has a worker of ours beside it, which is in no number",
            "same-page merging (KSM), where it is on, changes what a further machine adds",
        ),
        argv=("gauge", "touch", "1"),
        most=8,
        within_s=90.0,
    ),
)
