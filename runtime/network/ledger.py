"""What is known of a network: what was asked for, and who is on it now.

Two files in the network's directory: ``network.json``, which stays, and ``standing.json``, which
is there while the network has members. Whoever changes the second holds the lock. A member is
there as long as its interface is: the kernel removes that with the last process of its namespace.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from runtime.errors import RuntimeFault
from runtime.network.ports import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network as it was asked for. Without *subnet* a free one is chosen with each first member.

    *id* makes the names of its bridge and its table unlike those of any other network.
    """

    name: str
    id: str
    subnet: IPv4Network | None = None
    is_internal: bool = False
    created: str

    @property
    def bridge(self) -> str:
        """The name of its bridge: at most 15 characters."""
        return f"iso-{self.id}"

    @property
    def table(self) -> str:
        """The name of its nftables table."""
        return f"isoscope-{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A member: which instance, by which interface of ours, where and under which names."""

    instance: str
    link: str
    address: IPv4Address
    names: tuple[str, ...]
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A network that has members: its addresses, its keeper and where that answers names."""

    subnet: IPv4Network
    udp_port: int
    tcp_port: int
    keeper_pid: int
    keeper_ticks: int
    last: IPv4Address | None = None
    leases: tuple[Lease, ...] = field(default=())


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else changes this network inside the block."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_network(directory: Path) -> Network | None:
    """The network of *directory*; None if there is none."""
    path = directory / "network.json"
    try:
        record = json.loads(path.read_text())
        subnet = record.pop("subnet")
        return Network(**record, subnet=None if subnet is None else IPv4Network(subnet))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RuntimeFault(f"{path} cannot be read", remedy=f"remove {directory}") from error


def write_network(directory: Path, network: Network) -> None:
    """Remember *network*."""
    _write(directory / "network.json", asdict(network), durable=True)


def read_standing(directory: Path) -> Standing | None:
    """How the network stands; None if it has no members, or if the machine crashed meanwhile."""
    try:
        record = json.loads((directory / "standing.json").read_text())
        last = record.pop("last")
        leases = tuple(_lease(each) for each in record.pop("leases"))
        subnet = IPv4Network(record.pop("subnet"))
        last = None if last is None else IPv4Address(last)
        return Standing(**record, subnet=subnet, leases=leases, last=last)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_standing(directory: Path, standing: Standing | None) -> None:
    """Remember how the network stands."""
    path = directory / "standing.json"
    if standing is None:
        path.unlink(missing_ok=True)
    else:
        _write(path, asdict(standing), durable=False)  # a crash of the machine ends it too


def without_the_gone(standing: Standing, links: set[str]) -> Standing:
    """*standing* with the leases whose interface is among *links* (pure)."""
    return replace(standing, leases=tuple(each for each in standing.leases if each.link in links))


def _lease(record: dict[str, Any]) -> Lease:
    ports = tuple(Port(**port) for port in record.pop("ports"))
    names = tuple(record.pop("names"))
    return Lease(**record | {"address": IPv4Address(record["address"])}, names=names, ports=ports)


def _write(path: Path, record: dict[str, Any], *, durable: bool) -> None:
    """Whole or not at all: a new file that takes the name of the old one."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w") as file:
        json.dump(record, file, default=str)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    fresh.rename(path)
