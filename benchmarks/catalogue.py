"""Every workload there is, by area. Data: what each one asks and what threatens its answer."""

from benchmarks.workloads import Ensemble, Workload
from benchmarks.workloads.applications import APPS, LOOPBACK
from benchmarks.workloads.crowd import DENSITY, SHARED
from benchmarks.workloads.held import HELD
from benchmarks.workloads.neighbours import NOISY
from benchmarks.workloads.processor import CPU, MEMORY, SYSCALLS
from benchmarks.workloads.published import Published
from benchmarks.workloads.start import COLD, WARM
from benchmarks.workloads.storage import FS

AREAS: dict[str, tuple[Workload | Ensemble, ...]] = {
    "start": (*WARM, *COLD),
    "cpu": CPU,
    "memory": MEMORY,
    "syscalls": SYSCALLS,
    "fs": FS,
    "network": (*LOOPBACK, Published()),
    "apps": APPS,
    "footprint": (*HELD, SHARED),
    "noisy": NOISY,
    "density": DENSITY,
}
"""By name of their suite."""
