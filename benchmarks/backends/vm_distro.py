"""Machines that boot their image as a distribution; it must have an init (``image bootstrap``)."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machines import MachineBackend, warmed


@contextmanager
def backend(_within: str | None = None) -> Iterator["DistroVmBackend"]:
    """The backend; libvirt's driver is open before any clock starts, where it can be opened."""
    warmed()
    yield DistroVmBackend()


class DistroVmBackend(MachineBackend):
    """The image's own init is the first process; the workload starts at its multi-user target."""

    name = "vm:distro"
    profile = "distro"
