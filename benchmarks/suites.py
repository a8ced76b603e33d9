"""The suites: which workloads, which arms, how many blocks (data)."""

from dataclasses import dataclass

from benchmarks.workloads import Workload
from benchmarks.workloads.boot import Boot
from benchmarks.workloads.cpu_sha256 import CpuSha256
from benchmarks.workloads.idle import Idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A set of workloads with the limits that every instance gets where they are enforced."""

    name: str
    purpose: str
    workloads: tuple[Workload, ...]
    blocks: int
    cpus: float
    memory_bytes: int


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="quick",
            purpose="start, idle footprint and one cpu loop, in about two minutes",
            workloads=(Boot(), Idle(), CpuSha256()),
            blocks=10,
            cpus=1,
            memory_bytes=256 << 20,
        ),
        Suite(
            name="boot",
            purpose="only the start, to the first output and to the end",
            workloads=(Boot(),),
            blocks=10,
            cpus=1,
            memory_bytes=256 << 20,
        ),
    )
}
"""By name; ``quick`` is the default."""

CONTROL = "'"
"""A label with this mark is the same backend measured again: the A/A control."""
