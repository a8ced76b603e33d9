"""Makes a network stand with its first member, keeps it true, takes it down after the last.

Everything here is done by whoever holds the network's lock: a start, an end, the keeper, ``gc``.
"""

import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from errno import EEXIST
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from runtime.errors import RuntimeFault, Unsupported
from runtime.network import firewall, links, resolver
from runtime.network.addresses import choose_subnet, gateway, mac_of
from runtime.network.ledger import (
    Network,
    Standing,
    read_standing,
    without_the_gone,
    write_standing,
)
from runtime.network.netlink import Line
from runtime.waiting import readable

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_ROOT = Path(__file__).parent.parent.parent
_UDP, _TCP, _CALLS = 3, 4, 5
_HEARD_S = 2.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def stand(directory: Path, network: Network, line: Line) -> Standing:
    """The network as it stands, without members that are gone; made if it does not stand."""
    present = links.names(line)
    standing = read_standing(directory)
    if standing is not None and network.bridge in present:
        standing = without_the_gone(standing, set(present))
        if lives(standing):
            return standing
        if standing.leases:  # they must not lose their bridge because the keeper was killed
            return _keep(directory, network, standing.subnet, standing)
    take_down(directory, network, line)
    return _set_up(directory, network, line)


def settle(directory: Path, network: Network, standing: Standing, line: Line) -> None:
    """Make kernel and ledger agree with *standing*; a network without members goes."""
    before = read_standing(directory)
    if not standing.leases:
        take_down(directory, network, line)
        return
    if before is None or not before.leases:
        firewall.load(network, standing)
    elif firewall.render(network, before) != firewall.render(network, standing):
        firewall.replace(network, standing)
    write_standing(directory, standing)


def prune(directory: Path, network: Network, line: Line) -> Standing | None:
    """Drop the members that are gone, and with the last one the network; what is left."""
    standing = read_standing(directory)
    if standing is None:
        return None
    present = links.names(line)
    left = without_the_gone(standing, set(present))
    if not left.leases or network.bridge not in present:
        take_down(directory, network, line)
        return None
    if left != standing:
        settle(directory, network, left, line)
    return left


def take_down(directory: Path, network: Network, line: Line) -> None:
    """Nothing of the network is left but that it was asked for; it need not stand."""
    standing = read_standing(directory)
    if standing is not None:
        _end_keeper(standing)
        with firewall.unloading(network):
            _removed_quietly(line, network.bridge)
    elif network.bridge in links.names(line):
        _removed_quietly(line, network.bridge)
    write_standing(directory, None)


def lives(standing: Standing) -> bool:
    """Whether the keeper is there."""
    return started_ticks(standing.keeper_pid) == standing.keeper_ticks


def call_keeper(network: Network) -> None:
    """Have the keeper look who is there, and wait until it has; it may be gone by now.

    Ports that nobody publishes any more are free after that.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.settimeout(_HEARD_S)
        with suppress(OSError):
            line.bind("")  # an address of its own, for the answer
            line.connect(_called(network))
            line.send(b"look")
            line.recv(1)


def started_ticks(pid: int) -> int | None:
    """When *pid* started, in ticks since boot; None if it is gone. Source: proc(5), stat."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def forwarding_notice(network: Network) -> str | None:
    """Switch on what lets members reach the outside, if it is off; what to tell about that."""
    if network.is_internal or _FORWARDING.read_text().strip() != "0":
        return None
    try:
        _FORWARDING.write_text("1")
    except OSError as error:
        return f"net.ipv4.ip_forward is off and stays so ({error.strerror}): no way outside"
    return (
        "net.ipv4.ip_forward was off and is on now, for the way outside; off again with:"
        " sysctl net.ipv4.ip_forward=0"
    )


def _called(network: Network) -> bytes:
    """Where the keeper is called: a name in this network namespace, and in no directory."""
    return b"\0" + network.table.encode()


def _set_up(directory: Path, network: Network, line: Line) -> Standing:
    subnet = _subnet(network, line)
    own = IPv4Interface((gateway(subnet), subnet.prefixlen))
    with ExitStack() as undo:
        try:
            links.add_bridge(line, network.bridge, mac=mac_of(own.ip))
        except OSError as error:
            what = "is there already" if error.errno == EEXIST else error.strerror
            raise Unsupported(
                f"no bridge {network.bridge} can be made: {what}",
                remedy="see what this machine can do: isoscope doctor",
            ) from error
        undo.callback(_removed_quietly, line, network.bridge)
        _configure(network.bridge)
        links.add_address(line, links.names(line)[network.bridge], own)
        standing = _keep(directory, network, subnet, None)
        undo.pop_all()
    write_standing(directory, standing)
    return standing


def _keep(
    directory: Path, network: Network, subnet: IPv4Network, before: Standing | None
) -> Standing:
    """The network with a new keeper; its sockets are there before it, so that nobody waits."""
    udp, tcp = resolver.bind(gateway(subnet), network.bridge)
    calls = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with udp, tcp, calls:
        calls.bind(_called(network))
        pid = _start_keeper(directory, (udp.fileno(), tcp.fileno(), calls.fileno()))
        return Standing(
            subnet=subnet,
            udp_port=udp.getsockname()[1],
            tcp_port=tcp.getsockname()[1],
            keeper_pid=pid,
            keeper_ticks=started_ticks(pid) or 0,
            last=before.last if before else None,
            leases=before.leases if before else (),
        )


def _subnet(network: Network, line: Line) -> IPv4Network:
    routed = [destination for destination, _ in links.routes(line)]
    if network.subnet is None:
        return choose_subnet(routed, int(network.id, 16))
    for other in routed:
        if network.subnet.overlaps(other):
            raise RuntimeFault(
                f"network {network.name} has {network.subnet}, but {other} has a route here",
                remedy=f"remove it and create it with another --subnet: {network.name}",
            )
    return network.subnet


def _configure(bridge: str) -> None:
    """What only concerns our own interface: our loopback may speak to it, and it speaks IPv4."""
    Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet").write_text("1")
    with suppress(OSError):  # a kernel without IPv6 has nothing to switch off
        Path(f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6").write_text("1")


def _start_keeper(directory: Path, sockets: Sequence[int]) -> int:
    """A process of its own session, which the end of ours does not touch."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        " from runtime.network.keeper import main; main(sys.argv[2])"
    )
    places = {"udp": _UDP, "tcp": _TCP, "calls": _CALLS}
    setting = json.dumps({"directory": str(directory), **places})
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in sockets]  # no target's number
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", code, str(_ROOT), setting],
            {"PATH": _PATH},
            file_actions=[
                *((os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)),
                *(
                    (os.POSIX_SPAWN_DUP2, fd, to)
                    for fd, to in zip(high, places.values(), strict=True)
                ),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
        )
    finally:
        for fd in (*high, null):
            os.close(fd)


def _end_keeper(standing: Standing) -> None:
    """Kill the keeper and wait until it has ended; it may be us, or nobody's child."""
    pid = standing.keeper_pid
    if pid == os.getpid() or not lives(standing):
        return
    with suppress(OSError):
        watched = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watched, signal.SIGKILL)
            readable(watched, timeout_s=5.0)
        finally:
            os.close(watched)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _removed_quietly(line: Line, bridge: str) -> None:
    with suppress(OSError):
        links.remove(line, bridge)
