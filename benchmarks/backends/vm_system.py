"""The machine of ``vm``, asked of the system's libvirtd: what a daemon on the way costs."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machines import MachineBackend, warmed
from vmbackend.connection import Connection

_CONNECTION = Connection(driver="system")


@contextmanager
def backend(_within: str | None = None) -> Iterator["SystemVmBackend"]:
    """The backend; the connection is open before any clock starts, where it can be opened."""
    warmed(_CONNECTION)
    yield SystemVmBackend()


class SystemVmBackend(MachineBackend):
    """QEMU is the daemon's child, and in a control group of its making."""

    name = "vm:system"
    profile = "minimal"
    connection = _CONNECTION
