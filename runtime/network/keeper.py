"""The process that is there while a network has members, and no longer.

It answers their questions for names, holds the ports they publish, and watches the kernel's news
of interfaces: with the last process of a namespace its interface goes, so that even a member whose
owner was killed is missed at once. With the last member it takes the network down and ends.
Light on purpose: run by an interpreter without site packages, it imports nothing of images.
"""

import json
import selectors
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from runtime.errors import RuntimeFault
from runtime.network import links, names
from runtime.network.bridge import prune
from runtime.network.ledger import Network, Standing, locked, read_network
from runtime.network.netlink import ROUTE, Line
from runtime.network.ports import Port, hold
from runtime.network.resolver import HostServers, Resolver

_MOST_NEWS_BYTES = 1 << 16
_MOST_CALLS = 64
_NOWHERE = IPv4Network("0.0.0.0/32")


def main(setting: str) -> None:
    """Keep the network that *setting* (JSON) tells of."""
    given = json.loads(setting)
    directory = Path(given["directory"])
    network = read_network(directory)
    if network is None:
        return
    with (
        socket.socket(fileno=given["udp"]) as udp,
        socket.socket(fileno=given["tcp"]) as tcp,
        socket.socket(fileno=given["calls"]) as calls,
        selectors.DefaultSelector() as selector,
        news_of_links() as news,
        Line() as line,
    ):
        keeper = Keeper(directory, network, line)
        host = HostServers()
        servers = (lambda: ()) if network.is_internal else host
        resolver = Resolver(udp, tcp, zone=lambda: keeper.zone, servers=servers)
        resolver.register(selector)
        calls.setblocking(False)
        for source in (news, calls):
            selector.register(source, selectors.EVENT_READ)
        callers: list[bytes] = []
        while keeper.look():
            _acknowledge(calls, callers)
            serve_until_news(selector, resolver)
            _take_all(news)
            callers = _take_calls(calls)


def serve_until_news(selector: selectors.BaseSelector, resolver: Resolver) -> None:
    """Answer questions until some interface has come or gone, or somebody calls."""
    while True:
        ready = [key for key, _ in selector.select(resolver.wait_s())]
        if any(key.data is None for key in ready):
            return  # what is asked now may be about whoever has just come
        for key in ready:
            if key.fd in selector.get_map():  # an earlier one may have ended it
                key.data()
        resolver.expire()


def news_of_links() -> socket.socket:
    """Becomes readable with every interface of this namespace that comes or goes."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    news = socket.socket(socket.AF_NETLINK, kind, ROUTE)
    news.bind((0, links.EVENTS))
    return news


class Keeper:
    """What is known of the members, as it was when last looked."""

    def __init__(self, directory: Path, network: Network, line: Line) -> None:
        self._directory, self._network, self._line = directory, network, line
        self._held: dict[Port, socket.socket] = {}
        self.zone = names.zone(_NOWHERE, ())

    def look(self) -> bool:
        """Learn who is there; False if nobody is, and then the network is gone too."""
        with suppress(FileNotFoundError), locked(self._directory):
            standing = prune(self._directory, self._network, self._line)
            if standing is not None:
                self._learn(standing)
                return True
        return False

    def _learn(self, standing: Standing) -> None:
        members: list[tuple[IPv4Address, tuple[str, ...]]] = [
            (lease.address, lease.names) for lease in standing.leases
        ]
        self.zone = names.zone(standing.subnet, members)
        published = {port for lease in standing.leases for port in lease.ports}
        for port in set(self._held) - published:
            self._held.pop(port).close()
        for port in published - set(self._held):
            with suppress(RuntimeFault):  # somebody was quicker; the translation wins
                self._held[port] = hold(port)


def _take_all(news: socket.socket) -> None:
    """Take all the news there are; what they say is looked up."""
    with suppress(OSError):
        while news.recv(_MOST_NEWS_BYTES):
            pass


def _take_calls(calls: socket.socket) -> list[bytes]:
    """Whoever wants to be told when we have looked; taken before that, so that it is true."""
    callers: list[bytes] = []
    with suppress(OSError):
        while len(callers) < _MOST_CALLS:
            callers.append(calls.recvfrom(1)[1])
    return callers


def _acknowledge(calls: socket.socket, callers: list[bytes]) -> None:
    for caller in callers:
        with suppress(OSError):
            calls.sendto(b"!", caller)
