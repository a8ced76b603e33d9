"""Machines as people get them who choose nothing, to tell beside ``vm`` what choices are worth.

virt-install's q35, the packaged kernel, the distribution's own initrd.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machines import MachineBackend, warmed


@contextmanager
def backend(_within: str | None = None) -> Iterator["OrdinaryVmBackend"]:
    """The backend; libvirt's driver is open before any clock starts, where it can be opened."""
    warmed()
    yield OrdinaryVmBackend()


class OrdinaryVmBackend(MachineBackend):
    """Our own program is the first process of the guest, once the initrd has done its work."""

    name = "vm:ordinary"
    profile = "ordinary"
