"""The VM engine, behind the seam."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.backend import Features, InstanceSpec, Preparation, Unavailable
from benchmarks.machines import MachineInstance, machine_features, machine_spec, translated
from vmbackend import probe as probing
from vmbackend.accelerator import accelerator
from vmbackend.errors import MachineUnavailable
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import machine
from vmbackend.parts import prepare
from vmbackend.share import virtiofsd


@contextmanager
def backend(_within: str | None = None) -> Iterator["VmBackend"]:
    """The backend; libvirt's driver is open before any clock starts, where it can be opened."""
    if probing.probe() is None:
        hypervisor()
    yield VmBackend()


def _can_share() -> bool:
    try:
        virtiofsd()
    except MachineUnavailable:
        return False
    return True


class VmBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "vm"

    @property
    def features(self) -> Features:
        """See ``machine_features``."""
        return machine_features(accelerator(), mounts=_can_share())

    def probe(self) -> Unavailable | None:
        """See ``Backend.probe``."""
        why = probing.probe()
        return None if why is None else Unavailable(reason=why[0], remedy=why[1])

    def prepare(self, image: str) -> Preparation:
        """The image's disk, and the kernel and first program that all machines share."""
        with translated():
            made = prepare(image)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method=made.method,
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator["MachineInstance"]:
        """Boot; leaving ends the machine and removes its overlay."""
        with translated(), machine(machine_spec(spec)) as booted:
            yield MachineInstance(booted)
