"""Every rung, in the order in which they are climbed; each is tried when it is asked for.

The container's come before the virtual machine's: libvirt's driver stays open in this process
with a thread, and what makes namespaces wants to be alone in its process.
"""

from collections.abc import Callable, Iterator, Mapping

from benchmarks.backend import Unavailable
from benchmarks.backends.container import ContainerBackend
from benchmarks.backends.host import HostBackend
from benchmarks.backends.vm import VmBackend
from benchmarks.doctor import machine
from benchmarks.doctor.peers import peer_rungs
from benchmarks.doctor.rung import Rung
from runtime.container import rungs as of_containers
from runtime.container.facts import host_facts
from vmbackend import rungs as of_machines

_PROBES: Mapping[str, Callable[[], Unavailable | None]] = {
    "host": lambda: HostBackend().probe(),
    "container": lambda: ContainerBackend(host_facts(), None).probe(),
    "vm": lambda: VmBackend().probe(),
}
_WORKS: Mapping[str, Callable[[], str]] = {
    "host": lambda: "a process entered a tree by chroot",
    "container": lambda: "the smallest one was started",
    "vm": lambda: f"all its parts are here; {VmBackend().features.accelerator_sentence}",
}


def ladder() -> Iterator[Rung]:
    """The rungs; the last of a backend's part is the backend as a whole, as ``bench`` asks it."""
    yield machine.python_rung()
    yield machine.packages_rung()
    yield machine.disk_rung()
    yield machine.image_rung()
    yield backend_rung("host")
    yield from (_placed("container", rung) for rung in of_containers.rungs())
    yield backend_rung("container")
    yield from (_placed("vm", rung) for rung in of_machines.rungs())
    yield backend_rung("vm")
    yield from peer_rungs()
    yield machine.notebooks_rung()


def backend_rung(name: str) -> Rung:
    """What the backend *name* answers when it is asked whether it works here."""
    try:
        why = _PROBES[name]()
        found = _WORKS[name]() if why is None else why.reason
    except OSError as error:
        why = Unavailable(
            reason=f"{error.filename}: {error.strerror}",
            remedy="make the state directory writable, or set ISOSCOPE_HOME",
        )
        found = why.reason
    return Rung(
        part=name,
        name=name,
        ok=why is None,
        found=found,
        remedy=None if why is None else why.remedy,
        costs=(name,),
    )


def _placed(part: str, rung: of_containers.Rung | of_machines.Rung) -> Rung:
    return Rung(
        part=part,
        name=rung.name,
        ok=rung.ok,
        found=rung.found,
        remedy=rung.remedy,
        costs=rung.costs,
    )
