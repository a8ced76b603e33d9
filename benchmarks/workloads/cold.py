"""A program's start with nothing cached: the machine's caches are dropped right before the launch.

A guest that has just booted has no caches of its own, and its disk's are the host's: so both
sides are cold. Source: Documentation/admin-guide/sysctl/vm.rst, drop_caches.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.results import Workload as Record
from benchmarks.stage import Stage
from benchmarks.workloads import Facts, Value, Values
from benchmarks.workloads.program import Program

_DROP = Path("/proc/sys/vm/drop_caches")
_ALL = "3"  # page cache, dentries and inodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cold:
    """See ``benchmarks.workloads.Ensemble``: *program* as it is, but cold; its names say so."""

    program: Program

    @property
    def name(self) -> str:
        """The program's, and that it is cold."""
        return f"{self.program.name}.cold"

    @property
    def question(self) -> str:
        """The program's."""
        return f"{self.program.question} With nothing cached."

    @property
    def threats(self) -> tuple[str, ...]:
        """The program's, and those of dropping caches."""
        return (
            *self.program.threats,
            "storage below the host may have caches of its own, which nothing drops",
        )

    @property
    def record(self) -> Record:
        """See ``Workload.record``."""
        warm = self.program.record
        metrics = tuple(
            replace(
                metric,
                name=_cold(metric.name),
                title=f"{metric.title}, cold",
                method=f"{metric.method}; caches dropped before the launch",
            )
            for metric in warm.metrics
        )
        return replace(warm, name=self.name, metrics=metrics)

    def perform(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:
        """One instance, launched as soon as the caches are empty."""
        program = self.program
        if (why := _undroppable()) is not None:
            return {
                metric.name: Value(value=None, method=metric.method, error=why)
                for metric in self.record.metrics
            }
        with stage.instance(
            program.record.argv, exit_within_s=program.timeout_s, before=_drop
        ) as instance:
            try:
                values = program.measure(instance, facts)
            finally:
                phases |= instance.phases
        phases |= instance.phases
        return {_cold(name): value for name, value in values.items()}


def _cold(name: str) -> str:
    return f"{name}.cold"


def _undroppable() -> str | None:
    if os.access(_DROP, os.W_OK):
        return None
    return f"this machine's caches cannot be dropped: {_DROP} is not ours to write; run as root"


def _drop() -> None:
    os.sync()  # what is dirty cannot be dropped
    _DROP.write_text(_ALL)
