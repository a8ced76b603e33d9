"""noisy: how late an instance's small periodic work is while another one of its kind burns.

The victim's latencies count from when each piece of work was due (no coordinated omission). It has
its limits always; the neighbour has them, or has none. Where a backend enforces no limit of
processors there is nothing to compare with, and the row says so.
"""

from dataclasses import dataclass
from typing import Literal

from benchmarks.results import Workload as Record
from benchmarks.stage import Stage
from benchmarks.workloads import Facts, Value, Values, spoken
from benchmarks.workloads.printed import lines
from benchmarks.workloads.program import Program, as_told

_START_S = 60.0
_PERIOD_US = 10_000
Burden = Literal["cpu", "memory", "disk", "fork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """See ``benchmarks.workloads.Ensemble``; without a *burden* the victim is alone."""

    burden: Burden | None
    limited: bool = True
    ticks: int = 200

    @property
    def name(self) -> str:
        """``noisy.alone``, ``noisy.cpu``, ``noisy.cpu.unlimited``."""
        if self.burden is None:
            return "noisy.alone"
        return f"noisy.{self.burden}" if self.limited else f"noisy.{self.burden}.unlimited"

    @property
    def question(self) -> str:
        """For people."""
        if self.burden is None:
            return "How late is small periodic work with no neighbour?"
        limits = "with" if self.limited else "without"
        return f"How late is it while a neighbour {limits} limits burns {self.burden}?"

    @property
    def threats(self) -> tuple[str, ...]:
        """For people."""
        return (
            "instances are not pinned: with more processors than burners nobody has to wait",
            "two burners for each processor that the neighbour sees: a machine sees what it has",
            "under TCG the victim's own work takes longer",
        )

    @property
    def record(self) -> Record:
        """The victim's."""
        return self._victim.record

    @property
    def _victim(self) -> Program:
        told = (("p50", "median"), ("p95", "percentile 95"))
        return Program(
            name=self.name,
            question=self.question,
            threats=self.threats,
            script=f"gauge ticks {_PERIOD_US} {self.ticks}",
            parse=lines,
            readings=tuple(
                as_told(
                    f"{self.name}.{quantile}", f"{quantile}_ns", f"{self._title}, {words}",
                    unit="ns", direction="lower", start="work due", stop="work done",
                    method=self._method,
                )
                for quantile, words in told
            ),
        )  # fmt: skip

    @property
    def _method(self) -> str:
        return (
            f"64 KiB of memory rewritten every {_PERIOD_US // 1000} ms, {self.ticks} times;"
            " CLOCK_MONOTONIC inside, since each was due"
        )

    @property
    def _title(self) -> str:
        if self.burden is None:
            return "Lateness, alone"
        return f"Lateness, neighbour burns {self.burden} {'' if self.limited else 'un'}limited"

    def perform(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:
        """The neighbour first, then the victim beside it."""
        if self.burden is None:
            return self._measure(stage, facts, phases)
        if self.limited and "cpus" not in stage.features.enforces:
            why = "this backend enforces no limit of processors: see the unlimited neighbour"
            return {
                metric.name: Value(value=None, method=self._method, error=why)
                for metric in self.record.metrics
            }
        burner = ("gauge", "burn", self.burden)
        with stage.instance(burner, limited=self.limited) as neighbour:
            spoken(neighbour, timeout_s=_START_S)
            return self._measure(stage, facts, phases)

    def _measure(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:
        victim = self._victim
        with stage.instance(victim.record.argv, exit_within_s=victim.timeout_s) as instance:
            try:
                values = victim.measure(instance, facts)
            finally:
                phases |= instance.phases
        phases |= instance.phases
        return values


_BURDENS: tuple[Burden, ...] = ("cpu", "memory", "disk", "fork")
NOISY = (
    Neighbour(burden=None),
    *(
        Neighbour(burden=burden, limited=limited)
        for burden in _BURDENS
        for limited in (True, False)
    ),
)
