"""The VM engine, behind the seam."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machines import MachineBackend, warmed


@contextmanager
def backend(_within: str | None = None) -> Iterator["VmBackend"]:
    """The backend; libvirt's driver is open before any clock starts, where it can be opened."""
    warmed()
    yield VmBackend()


class VmBackend(MachineBackend):
    """Our own program is the first process of the guest."""

    name = "vm"
    profile = "minimal"
