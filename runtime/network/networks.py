"""The networks of this machine: made, listed, removed, and swept of what a crash left."""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path

from runtime.errors import RuntimeFault, SpecError
from runtime.image import cache_dir, state_dir
from runtime.network import bridge
from runtime.network.addresses import check_name
from runtime.network.ledger import (
    Network,
    Standing,
    locked,
    read_network,
    read_standing,
    write_network,
)
from runtime.network.netlink import Line

DEFAULT = "bridge"
"""The network that is there without being created."""
RESERVED = frozenset({"none", "host", "container"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A network, and how it stands now; None if nobody is on it."""

    network: Network
    standing: Standing | None


def directory_of(name: str) -> Path:
    """Where the network *name* keeps what is known of it."""
    return state_dir() / "networks" / name


def create(name: str, *, subnet: IPv4Network | None = None, is_internal: bool = False) -> Network:
    """Remember a new network; nothing of it stands until it has a member. Raises SpecError."""
    check_name(name, of="a network")
    if name in RESERVED:
        raise SpecError(f"{name!r} has a meaning of its own", remedy="choose another name")
    for other in networks():
        if subnet is not None and other.network.subnet is not None:
            _check_apart(subnet, other.network)
    network = Network(
        name=name,
        id=secrets.token_hex(4),
        subnet=subnet,
        is_internal=is_internal,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    directory = cache_dir("networks") / name
    directory.mkdir(mode=0o700, exist_ok=True)
    with locked(directory):
        if read_network(directory) is not None:
            raise SpecError(
                f"network {name} exists", remedy=f"see: isoscope network inspect {name}"
            )
        write_network(directory, network)
    return network


def resolve(name: str) -> Network:
    """The network *name*; the default one is made when it is first asked for. Raises SpecError."""
    check_name(name, of="a network")
    found = read_network(directory_of(name))
    if found is None and name == DEFAULT:
        with suppress(SpecError):  # two at once: either one's will do
            create(name)
        found = read_network(directory_of(name))
    if found is None:
        raise SpecError(
            f"no network {name!r}", remedy=f"make it with: isoscope network create {name}"
        )
    return found


def remove(name: str) -> None:
    """Forget the network *name*. Raises SpecError, and RuntimeFault while it has members."""
    network = resolve(name)
    directory = directory_of(name)
    with locked(directory), Line() as line:
        left = bridge.prune(directory, network, line)
        if left is not None:
            members = ", ".join(lease.instance for lease in left.leases)
            raise RuntimeFault(f"network {name} has members: {members}", remedy="end them first")
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()


def networks() -> tuple[Found, ...]:
    """Every network that was created, by name."""
    parent = state_dir() / "networks"
    names = sorted(entry.name for entry in parent.iterdir()) if parent.is_dir() else []
    found = ((read_network(parent / name), read_standing(parent / name)) for name in names)
    return tuple(Found(network=n, standing=s) for n, s in found if n is not None)


def sweep() -> tuple[str, ...]:
    """Take down the networks whose last member is gone and whose keeper did not see it."""
    swept = []
    for found in networks():
        if found.standing is None:
            continue
        directory = directory_of(found.network.name)
        with suppress(OSError), locked(directory), Line() as line:
            if bridge.prune(directory, found.network, line) is None:
                swept.append(found.network.name)
    return tuple(swept)


def _check_apart(subnet: IPv4Network, other: Network) -> None:
    if other.subnet is not None and subnet.overlaps(other.subnet):
        raise SpecError(
            f"{subnet} overlaps {other.subnet} of network {other.name}",
            remedy="choose another --subnet",
        )
