"""Machines that go on from a snapshot: a boot kind of its own, never one with cold starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from benchmarks.backend import Features, InstanceSpec, Preparation, Unavailable
from benchmarks.machines import (
    MachineInstance,
    machine_features,
    machine_spec,
    translated,
    warmed,
)
from benchmarks.peers.instance import refuse_more
from vmbackend import probe as probing
from vmbackend.accelerator import accelerator
from vmbackend.parts import prepare
from vmbackend.snapshot import restored, snapshot
from vmbackend.spec import MachineSpec


@contextmanager
def backend(_within: str | None = None) -> Iterator["RestoredVmBackend"]:
    """The backend; what watches over its machines is there before any clock starts."""
    warmed()
    yield RestoredVmBackend()


class RestoredVmBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "vm:restored"

    @property
    def features(self) -> Features:
        """Those of a machine, but for the network: a snapshot would remember one."""
        offered = machine_features(accelerator())
        return replace(offered, ports=False, networks=frozenset({"none"}))

    def probe(self) -> Unavailable | None:
        """See ``Backend.probe``."""
        why = probing.probe()
        return None if why is None else Unavailable(reason=why[0], remedy=why[1])

    def prepare(self, image: str) -> Preparation:
        """The image's disk, and the snapshot of a machine of the usual sizes."""
        with translated():
            disk = prepare(image)
            made, made_now = snapshot(MachineSpec(image=image))
        return Preparation(
            duration_ns=disk.duration_ns + made.duration_ns,
            disk_bytes=disk.disk_bytes + made.disk_bytes,
            cached=disk.cached and not made_now,
            method=f"{disk.method}; then a boot, stopped when ready and saved by QEMU's migration",
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[MachineInstance]:
        """Restore; a snapshot of other sizes is made, if need be, before the clock starts."""
        refuse_more(spec, self.features, self.name)
        with translated(), restored(machine_spec(spec)) as running:
            yield MachineInstance(running)
