"""Our own container runtime, behind the seam."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from benchmarks import meters
from benchmarks.backend import (
    Features,
    InstanceSpec,
    Limit,
    Preparation,
    Reading,
    Unavailable,
    Usage,
)
from benchmarks.processes import ProcessInstance, UnstartedInstance
from runtime.container.attachments import DEFAULT_NETWORK, NO_NETWORK, Wishes
from runtime.container.cgroups import members
from runtime.container.container import Container, Options, container
from runtime.container.facts import HostFacts, host_facts
from runtime.container.launch.process import CommandNotRunnable
from runtime.container.launch.streams import Gathering, Pipes
from runtime.container.spec import HOST_NETWORK, Limits
from runtime.container.trial import obstacle
from runtime.image import Image, Store, using_snapshots
from runtime.network.ports import Port
from runtime.volume.mount import MountRequest


def backend(within: str | None = None) -> nullcontext["ContainerBackend"]:
    """The backend; the facts about this machine are read once, now."""
    return nullcontext(ContainerBackend(host_facts(), within))


class ContainerBackend:
    """See ``benchmarks.backend.Backend``; *within* is where its groups are made."""

    name = "container"

    def __init__(self, facts: HostFacts, within: str | None) -> None:
        self._facts = facts
        self._within = within

    @property
    def features(self) -> Features:
        """Limits are enforced where a cgroup hierarchy controls them."""
        names: dict[str, Limit] = {"cpu": "cpus", "memory": "memory", "pids": "pids"}
        offered = {c for h in self._facts.hierarchies for c in h.controllers}
        enforced = frozenset(limit for name, limit in names.items() if name in offered)
        networks = frozenset({NO_NETWORK, HOST_NETWORK, DEFAULT_NETWORK})
        return Features(
            enforces=enforced, exec=True, stdin=True, mounts=True, ports=True, networks=networks
        )

    def probe(self) -> Unavailable | None:
        """Start the smallest container."""
        why = obstacle()
        if why is None:
            return None
        remedy = why.remedy or "run isoscope as root, with every capability"
        return Unavailable(reason=why.message, remedy=remedy)

    def prepare(self, image: str) -> Preparation:
        """Unpack the image's layers, which lie below every container's own."""
        store = Store()
        with using_snapshots(store, store.resolve(image)) as made:
            return Preparation(
                duration_ns=made.duration_ns,
                disk_bytes=made.disk_bytes,
                cached=made.cached,
                method="layers verified and unpacked, each into a directory",
            )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[ProcessInstance | UnstartedInstance]:
        """A container; leaving the block removes it with its groups and files."""
        requested_ns = time.monotonic_ns()
        image = Store().resolve(spec.image)
        pipes = Pipes.open()
        instance: ProcessInstance | UnstartedInstance | None = None
        try:
            with ExitStack() as undo:
                try:
                    running = undo.enter_context(self._container(image, spec, pipes))
                except CommandNotRunnable as error:
                    instance = UnstartedInstance(requested_ns=requested_ns, error=error)
                else:
                    instance = _instance(running, requested_ns, Gathering(pipes, spec.stdin))
                yield instance
        finally:
            pipes.close()
            if instance is not None:
                instance.gone()

    @contextmanager
    def _container(self, image: Image, spec: InstanceSpec, pipes: Pipes) -> Iterator[Container]:
        with container(
            image, spec.argv, self._options(spec), stdio=pipes.child, facts=self._facts
        ) as running:
            pipes.close_child()
            yield running

    def _options(self, spec: InstanceSpec) -> Options:
        return Options(
            env=spec.env,
            cwd=spec.cwd,
            user=spec.user,
            limits=Limits(memory_bytes=spec.memory_bytes, cpus=spec.cpus, pids=spec.pids),
            within=self._within,
            attached=_wishes(spec),
        )


def _wishes(spec: InstanceSpec) -> Wishes:
    mounts = (
        MountRequest(kind="bind", source=host, target=inside) for host, inside in spec.mounts
    )
    ports = (Port(host=host, inside=inside) for host, inside in spec.ports)
    return Wishes(mounts=tuple(mounts), network=spec.network, ports=tuple(ports))


def _instance(running: Container, requested_ns: int, gathering: Gathering) -> ProcessInstance:
    return ProcessInstance(
        requested_ns=requested_ns,
        process=running.process,
        gathering=gathering,
        plan_run=running.plan_run,
        joined=running.process,
        read_usage=lambda: _usage(running),
    )


def _usage(running: Container) -> Usage:
    pids = sorted(set(members(running.groups[0]))) if running.groups else [running.pid]
    own = Path(running.spec.directory) / "upper"
    readings = dict(meters.memory(pids))
    readings["disk_instance"] = Reading(
        value_bytes=meters.allocated_bytes(own),
        method="allocated blocks of the overlay's upper directory",
    )
    return Usage(readings=readings)
