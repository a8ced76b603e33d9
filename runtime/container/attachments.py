"""What a container is given besides its image: mounts, a network, files that tell of it.

Requests become facts here, between the pure specification and the pure plan: sources are looked
up, volumes made, networks joined. All of it is held while the block lasts.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.container.cgroups import members
from runtime.container.spec import HOST_NETWORK, ContainerSpec
from runtime.container.state import groups_of, inits_of, instances_dir
from runtime.errors import RuntimeFault, SpecError, Unsupported
from runtime.network.ports import Port
from runtime.user_namespace import owned_ids
from runtime.volume.mount import Mount, MountRequest, check_targets

if TYPE_CHECKING:
    from runtime.network.attachment import Attachment

NO_NETWORK, DEFAULT_NETWORK = "none", "bridge"
_OF_CONTAINER = "container:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is asked for. *network* is ``none``, ``host``, ``container:ID`` or a network's name.

    *names* are those that other members of the network find it by, besides its id.
    """

    mounts: tuple[MountRequest, ...] = ()
    network: str = NO_NETWORK
    ports: tuple[Port, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise SpecError for wishes that contradict each other."""
        check_targets(self.mounts)
        if self.ports and not self.is_on_a_network:
            raise SpecError(
                f"ports cannot be published with the network {self.network!r}",
                remedy=f"use --network {DEFAULT_NETWORK}, or one made by: isoscope network create",
            )

    @property
    def is_on_a_network(self) -> bool:
        """Whether it becomes a member of a network of ours."""
        apart = self.network in {NO_NETWORK, HOST_NETWORK}
        return not apart and not self.network.startswith(_OF_CONTAINER)


@contextmanager
def given(
    spec: ContainerSpec, wishes: Wishes, layers: Sequence[Path]
) -> Iterator[tuple[ContainerSpec, "Attachment | None"]]:
    """*spec* with its mounts and its network, which are there inside the block.

    *layers* are the image's, for what a new volume begins with; the directory of *spec* exists.
    Raises SpecError, Unsupported, RuntimeFault; then nothing of it is left.
    """
    with ExitStack() as undo:
        mounts = _mounts(spec, wishes.mounts, layers) if wishes.mounts else ()
        if wishes.network == NO_NETWORK:
            yield replace(spec, mounts=(*spec.mounts, *mounts)), None
            return
        from runtime.network import attachment  # noqa: PLC0415 - a start without is spared that

        network = None if wishes.network == HOST_NETWORK else _network(spec, wishes, undo)
        namespace = HOST_NETWORK if network is None else network.namespace
        files = attachment.host_files() if network is None else network.files
        mounts = (*spec.mounts, *mounts)
        asked = {mount.target for mount in mounts}
        shown = (_file(place, path) for place, path in files.items() if place not in asked)
        yield replace(spec, network=namespace, mounts=(*shown, *mounts)), network


def foreseen(spec: ContainerSpec, wishes: Wishes) -> ContainerSpec:
    """*spec* as ``given`` would make it, for a plan that is only shown: nothing is made."""
    mounts = tuple(_described(request) for request in wishes.mounts)
    made = f"<namespace on {wishes.network}>"
    network = {NO_NETWORK: spec.network, HOST_NETWORK: HOST_NETWORK}.get(wishes.network, made)
    return replace(spec, mounts=(*spec.mounts, *mounts), network=network)


def _mounts(
    spec: ContainerSpec, requests: Sequence[MountRequest], layers: Sequence[Path]
) -> tuple[Mount, ...]:
    from runtime.volume import volumes  # noqa: PLC0415 - as above

    directory = Path(spec.directory)
    named = {request.source for request in requests if request.kind == "volume"} - {""}
    with volumes.using(sorted(named), directory) as found:
        places = {volume.name: volume.directory for volume in found}
        return tuple(
            _mount(request, _source(request, number, places, directory), layers)
            for number, request in enumerate(requests)
        )


def _source(
    request: MountRequest, number: int, named: Mapping[str, Path], directory: Path
) -> Path | None:
    """Where what *request* shows lies on this machine; None for memory."""
    if request.kind == "tmpfs":
        return None
    if request.kind == "bind":
        return Path(request.source)
    if request.source:
        return named[request.source]
    own = directory / "volumes" / str(number) / "files"
    own.mkdir(parents=True, exist_ok=True)  # there already in a container that is started again
    own.chmod(0o755)
    return own


def _mount(request: MountRequest, source: Path | None, layers: Sequence[Path]) -> Mount:
    if source is None:
        return _described(request)
    if not source.exists():
        raise SpecError(
            f"{str(source)!r}, to be mounted on {request.target}, does not exist",
            remedy="make it first, or name a volume",
        )
    if request.kind == "volume" and request.copies and not any(source.iterdir()):
        from runtime.volume.filling import fill  # noqa: PLC0415 - as above

        fill(source, layers, request.target)
    return replace(_described(request), source=str(source), is_directory=source.is_dir())


def _described(request: MountRequest) -> Mount:
    return Mount(
        target=request.target,
        source="" if request.kind == "tmpfs" else request.source or "<a volume of its own>",
        read_only=request.read_only,
        options=request.options,
        exec=request.exec,
    )


def _file(place: str, path: str) -> Mount:
    """A file of ours in /etc; if the image has a link there, it is the link that is covered."""
    return Mount(target=place, source=path, is_directory=False, follows_links=False)


def _network(spec: ContainerSpec, wishes: Wishes, undo: ExitStack) -> "Attachment":
    from runtime.network import attachment  # noqa: PLC0415 - as above

    directory = Path(spec.directory)
    if wishes.network.startswith(_OF_CONTAINER):
        other = _instance(wishes.network.removeprefix(_OF_CONTAINER))
        return undo.enter_context(attachment.shared(_process_of(other), other))
    if owned_ids() is not None:
        return undo.enter_context(_relayed(wishes, directory, spec.hostname))
    return undo.enter_context(
        attachment.attached(
            wishes.network,
            instance=spec.id,
            directory=directory,
            hostname=spec.hostname,
            names=wishes.names,
            ports=wishes.ports,
        )
    )


def _relayed(
    wishes: Wishes, directory: Path, hostname: str
) -> AbstractContextManager["Attachment"]:
    """An ordinary user's network: each container has its own way out, none meets another."""
    from runtime.network.slirp import relayed  # noqa: PLC0415 - as above

    if wishes.network != DEFAULT_NETWORK:
        raise Unsupported(
            f"the network {wishes.network!r} is made on the machine, for which root is needed",
            remedy=f"run isoscope as root, or use --network {DEFAULT_NETWORK}",
        )
    return relayed(directory, hostname, wishes.ports)


def _instance(name: str) -> Path:
    """The directory of the container called *name*, or of the one whose id begins so."""
    parent = instances_dir()
    known = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    found = [each for each in known if name and each.startswith(name)] or _named(name)
    if len(found) != 1:
        what = "no container" if not found else "more than one container"
        raise SpecError(f"{what} {name!r} is running", remedy="give its whole id")
    return parent / found[0]


def _named(name: str) -> list[str]:
    from runtime.container.kept.finding import records  # noqa: PLC0415 - as above, and knows us

    return [record.id for _, record in records() if record.name == name]


def _process_of(instance: Path) -> int:
    """A process of the container: all of them are in the same network."""
    for group in groups_of(instance):
        for pid in members(group):
            if os.path.exists(f"/proc/{pid}/ns/net"):  # noqa: PTH110 - one call, no object
                return pid
    for pid in inits_of(instance):  # without groups, as most ordinary users are
        return pid
    raise RuntimeFault(f"container {instance.name} has ended")
