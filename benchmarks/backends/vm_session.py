"""The machine of ``vm``, asked of this user's own libvirtd: what a daemon on the way costs."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.machines import MachineBackend, warmed
from vmbackend.connection import Connection

_CONNECTION = Connection(driver="session")


@contextmanager
def backend(_within: str | None = None) -> Iterator["SessionVmBackend"]:
    """The backend; the connection is open before any clock starts, where it can be opened."""
    warmed(_CONNECTION)
    yield SessionVmBackend()


class SessionVmBackend(MachineBackend):
    """QEMU is the daemon's child, and in a control group of its making."""

    name = "vm:session"
    profile = "minimal"
    connection = _CONNECTION
