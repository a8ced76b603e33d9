"""Puts an instance on a network: a namespace of its own, made and configured before its process.

The process then only has to enter it. So nothing waits for anything: the interface, its address
and its route are there before the first step of a plan runs. The namespace is held by a descriptor
of ours and by the processes inside; with the last of them the kernel removes it, and with it the
interface, whoever was killed and however.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from runtime import syscalls
from runtime.errors import RuntimeFault
from runtime.network import bridge, links
from runtime.network.addresses import choose_address, gateway, mac_of
from runtime.network.ledger import Lease, Network, Standing, locked
from runtime.network.netlink import Line
from runtime.network.networks import directory_of, networks, resolve
from runtime.network.ports import Port, check_apart, overlap, reserved

INSIDE = "eth0"
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_LOOPBACK = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What an instance gets: a namespace to enter, files to see, and what to tell about it.

    *namespace* is a path that can be opened; *files* maps what stands in /etc to what it shows.
    After *keep* the instance stays on the network when the block is left, until its last process
    has ended and nobody holds the descriptor *lifeline* any more, if there is one.
    """

    namespace: str
    address: IPv4Address | None = None
    ports: tuple[Port, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    lifeline: int | None = None
    keep: Callable[[], object] = field(default=lambda: None, compare=False)


@contextmanager
def attached(
    name: str,
    *,
    instance: str,
    directory: Path,
    hostname: str,
    names: Sequence[str] = (),
    ports: Sequence[Port] = (),
) -> Iterator[Attachment]:
    """On the network *name* inside the block; afterwards address, names and ports are free again.

    *directory* is the instance's own; the files it is to see in /etc are written there. Raises
    SpecError, Unsupported, RuntimeFault; then nothing is left.
    """
    network = resolve(name)
    check_apart(ports)
    home = directory_of(name)
    with ExitStack() as undo:
        namespace, inside = undo.enter_context(_namespace())
        with locked(home), Line() as outside, reserved(ports) as own_ports:
            _check_free(own_ports)
            notice = bridge.forwarding_notice(network)
            lease, standing = _join(network, outside, namespace, Lease(
                instance=instance, link=f"isv-{secrets.token_hex(4)}", address=IPv4Address(0),
                names=tuple(dict.fromkeys((*names, hostname, instance))), ports=own_ports,
            ))  # fmt: skip
            leaving = undo.enter_context(ExitStack())
            leaving.callback(_leave, network, lease)
            _configure(inside, lease, standing, network)
        yield Attachment(
            namespace=f"/proc/{os.getpid()}/fd/{namespace}",
            address=lease.address,
            ports=own_ports,
            files=own_files(directory, hostname, lease.address, gateway(standing.subnet)),
            notices=() if notice is None else (notice,),
            keep=leaving.pop_all,
        )


@contextmanager
def shared(pid: int, files: Path) -> Iterator[Attachment]:
    """In the network namespace of the process *pid*, seeing what *files* has for /etc."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RuntimeFault("the container whose network is to be shared has ended") from error
    try:
        seen = {f"/etc/{name}": files / name for name in ("hosts", "hostname", "resolv.conf")}
        yield Attachment(
            namespace=f"/proc/{os.getpid()}/fd/{namespace}",
            files={place: str(path) for place, path in seen.items() if path.exists()},
        )
    finally:
        os.close(namespace)


def host_files() -> dict[str, str]:
    """What a container in the host's own network sees of it in /etc."""
    paths = ("/etc/hosts", "/etc/resolv.conf")
    return {path: os.path.realpath(path) for path in paths if os.path.exists(path)}  # noqa: PTH110


@contextmanager
def _namespace() -> Iterator[tuple[int, Line]]:
    """A new network namespace: a descriptor that holds it, and a line to its kernel side."""
    with ExitStack() as undo:
        here = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            try:
                made = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
                undo.callback(os.close, made)
                line = undo.enter_context(Line())
            finally:
                syscalls.setns(here, syscalls.CLONE_NEWNET)
        finally:
            os.close(here)
        yield made, line


def _check_free(ports: Sequence[Port]) -> None:
    """What another member has published is taken, also before its keeper holds the port."""
    leases = [lease for found in networks() if found.standing for lease in found.standing.leases]
    for lease in leases:
        for port in ports:
            if any(overlap(port, other) for other in lease.ports):
                raise RuntimeFault(
                    f"port {port.host}/{port.protocol} is published by {lease.instance}",
                    remedy="publish on another port",
                )


def _join(network: Network, line: Line, namespace: int, wanted: Lease) -> tuple[Lease, Standing]:
    """A lease with an address, its interface made; if that fails, all is as it was."""
    home = directory_of(network.name)
    standing = bridge.stand(home, network, line)
    try:
        address = choose_address(
            standing.subnet, [each.address for each in standing.leases], standing.last
        )
        lease = replace(wanted, address=address)
        links.add_veth(
            line,
            lease.link,
            bridge=links.names(line)[network.bridge],
            namespace=namespace,
            peer=INSIDE,
            mac=mac_of(address),
        )
        if lease.ports:
            links.reflect(line, links.names(line)[lease.link])
        standing = replace(standing, last=address, leases=(*standing.leases, lease))
        bridge.settle(home, network, standing, line)
    except BaseException:
        others = tuple(each for each in standing.leases if each.instance != wanted.instance)
        bridge.settle(home, network, replace(standing, leases=others), line)
        raise
    return lease, standing


def _leave(network: Network, lease: Lease) -> None:
    """Free what the lease held; the interface goes with the namespace."""
    home = directory_of(network.name)
    left: tuple[Lease, ...] = ()
    with locked(home), Line() as line:
        standing = bridge.prune(home, network, line)
        if standing is not None:
            left = tuple(each for each in standing.leases if each.link != lease.link)
            bridge.settle(home, network, replace(standing, leases=left), line)
    if lease.ports and left:
        bridge.call_keeper(network)


def _configure(inside: Line, lease: Lease, standing: Standing, network: Network) -> None:
    own = IPv4Interface((lease.address, standing.subnet.prefixlen))
    links.bring_up(inside, _LOOPBACK)
    index = links.names(inside)[INSIDE]
    links.bring_up(inside, index)
    links.add_address(inside, index, own)
    if not network.is_internal:
        links.add_default_route(inside, gateway(standing.subnet))


def own_files(
    directory: Path, hostname: str, address: IPv4Address, server: IPv4Address
) -> dict[str, str]:
    """Written for this instance alone, shown in its /etc."""
    contents = {
        "hosts": f"127.0.0.1\tlocalhost\n{address}\t{hostname}\n",
        "hostname": f"{hostname}\n",
        "resolv.conf": f"nameserver {server}\n{_search()}options ndots:0\n",
    }
    for name, content in contents.items():
        path = directory / name
        path.write_text(content)
        path.chmod(0o644)
    return {f"/etc/{name}": str(directory / name) for name in contents}


def _search() -> str:
    """The host's own search domains: a short name means inside what it means outside."""
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found = [line for line in lines if line.split()[:1] == ["search"] and line.isprintable()]
    return f"{found[-1]}\n" if found else ""
