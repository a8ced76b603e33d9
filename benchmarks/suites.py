"""The suites: which workloads, which arms, how many blocks (data)."""

from dataclasses import dataclass

from benchmarks.catalogue import AREAS
from benchmarks.workloads import Ensemble, Workload
from benchmarks.workloads.boot import Boot
from benchmarks.workloads.cpu_sha256 import CpuSha256
from benchmarks.workloads.idle import Idle

TOOLS_IMAGE = "bench"
"""The image with servers, load makers and gauge, that most workloads run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A set of workloads with the limits that every instance gets where they are enforced.

    *image* is what they run unless another one is asked for.
    """

    name: str
    purpose: str
    workloads: tuple[Workload | Ensemble, ...]
    blocks: int
    cpus: float
    memory_bytes: int
    image: str = "busybox"


_QUICK = (Boot(), Idle(), CpuSha256())
_PURPOSES = {
    "start": "until a shell, an interpreter, a server is of use; warm and cold",
    "cpu": "compression, prime search, a Python loop",
    "memory": "bandwidth, latency, page faults",
    "syscalls": "what calls, forks and switches cost",
    "fs": "blocks, small files, durability, the first write to a file of the image",
    "network": "TCP inside the instance, and through a published port",
    "apps": "redis, nginx at a fixed load, sqlite, a small neural network",
    "footprint": "memory touched and shared, disk written",
    "noisy": "how late work is while a neighbour burns, with and without limits",
    "density": "the start and the memory of the n-th instance, until a budget is spent",
}


def _of_tools(name: str, purpose: str, workloads: tuple[Workload | Ensemble, ...]) -> Suite:
    return Suite(
        name=name,
        purpose=purpose,
        workloads=workloads,
        blocks=6,  # fewer give no interval: stats.MIN_BLOCKS; a test compares the two
        cpus=1,
        memory_bytes=512 << 20,
        image=TOOLS_IMAGE,
    )


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="quick",
            purpose="start, idle footprint and one cpu loop, in about two minutes",
            workloads=_QUICK,
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
        *(_of_tools(area, _PURPOSES[area], workloads) for area, workloads in AREAS.items()),
        _of_tools(
            "full",
            "all of these, in about an hour",
            (*_QUICK, *(workload for area in AREAS.values() for workload in area)),
        ),
    )
}
"""By name; ``quick`` is the default."""

CONTROL = "'"
"""A label with this mark is the same backend measured again: the A/A control."""
