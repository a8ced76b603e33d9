"""Our messages to the kernel do what those of pyroute2, the library for that, do."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from runtime import syscalls
from runtime.network import links
from runtime.network.netlink import Line

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="networks need root; run as root")
NAMESPACE = "/proc/thread-self/ns/net"
GATEWAY = IPv4Interface("10.9.0.1/24")
MEMBER = IPv4Interface("10.9.0.2/24")
MAC = b"\x02\x69\x0a\x09\0\x02"


class Place:
    """A network namespace that this thread was in for a moment."""

    def __init__(self, undo: ExitStack) -> None:
        pyroute2 = pytest.importorskip("pyroute2", reason="pip install pyroute2")
        here = os.open(NAMESPACE, os.O_RDONLY)
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            self.fd = os.open(NAMESPACE, os.O_RDONLY)
            undo.callback(os.close, self.fd)
            self.ours = undo.enter_context(Line())
            self.theirs = undo.enter_context(pyroute2.IPRoute())
        finally:
            syscalls.setns(here, syscalls.CLONE_NEWNET)
            os.close(here)

    def seen(self) -> dict[str, Any]:
        """Interfaces, addresses and routes, as pyroute2 reads them."""
        found: dict[str, Any] = {}
        for link in self.theirs.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            name = link.get_attr("IFLA_IFNAME")
            given = link.get_attr("IFLA_ADDRESS") if name in {"iso", "eth0"} else None
            kind = info and info.get_attr("IFLA_INFO_KIND")
            port = info and info.get_attr("IFLA_INFO_SLAVE_DATA")
            hairpin = port and port.get_attr("IFLA_BRPORT_MODE")
            found[name] = (
                link["flags"] & 1, kind, given, bool(link.get_attr("IFLA_MASTER")), hairpin,
            )  # fmt: skip
        found["addresses"] = sorted(
            (each.get_attr("IFA_LABEL"), each.get_attr("IFA_LOCAL"), each["prefixlen"])
            for each in self.theirs.get_addr(family=2)
        )
        found["routes"] = sorted(
            (str(each.get_attr("RTA_DST")), each["dst_len"], str(each.get_attr("RTA_GATEWAY")))
            for each in self.theirs.get_routes(family=2, table=254)
        )
        return found


@pytest.fixture
def places() -> Iterator[list[Place]]:
    """Two pairs of namespaces, since the same is made twice."""
    with ExitStack() as undo:
        yield [Place(undo) for _ in range(4)]


def test_ours_and_theirs_make_the_same(places: list[Place]) -> None:
    host, inside, other_host, other_inside = places
    make_ours(host, inside)
    make_theirs(other_host, other_inside)
    assert host.seen() == other_host.seen()
    assert inside.seen() == other_inside.seen()
    assert host.seen()["isv"][-2:] == (True, 1)
    assert inside.seen()["eth0"][2] == "02:69:0a:09:00:02"
    assert (IPv4Network("10.9.0.0/24"), index(inside, "eth0")) in set(links.routes(inside.ours))
    assert set(links.names(host.ours)) == {"lo", "iso", "isv"}


def make_ours(host: Place, inside: Place) -> None:
    links.add_bridge(host.ours, "iso", mac=MAC)
    links.add_address(host.ours, index(host, "iso"), GATEWAY)
    links.add_veth(
        host.ours, "isv", bridge=index(host, "iso"), namespace=inside.fd, peer="eth0", mac=MAC
    )
    links.reflect(host.ours, index(host, "isv"))
    links.bring_up(inside.ours, 1)
    links.bring_up(inside.ours, index(inside, "eth0"))
    links.add_address(inside.ours, index(inside, "eth0"), MEMBER)
    links.add_default_route(inside.ours, IPv4Address(GATEWAY.ip))


def make_theirs(host: Place, inside: Place) -> None:
    mac = MAC.hex(":")
    host.theirs.link("add", ifname="iso", kind="bridge", address=mac, state="up")
    bridge = host.theirs.link_lookup(ifname="iso")[0]
    host.theirs.addr("add", index=bridge, address=str(GATEWAY.ip), prefixlen=24)
    peer = {"ifname": "eth0", "address": mac, "net_ns_fd": inside.fd}
    host.theirs.link("add", ifname="isv", kind="veth", peer=peer, master=bridge, state="up")
    host.theirs.brport("set", index=host.theirs.link_lookup(ifname="isv")[0], mode=1)
    inside.theirs.link("set", index=1, state="up")
    eth0 = inside.theirs.link_lookup(ifname="eth0")[0]
    inside.theirs.link("set", index=eth0, state="up")
    inside.theirs.addr("add", index=eth0, address=str(MEMBER.ip), prefixlen=24)
    inside.theirs.route("add", dst="0.0.0.0/0", gateway=str(GATEWAY.ip))


def index(place: Place, name: str) -> int:
    return links.names(place.ours)[name]


def test_what_the_kernel_refuses_is_an_error_with_its_number(places: list[Place]) -> None:
    host, *_ = places
    with pytest.raises(OSError, match="No such device"):
        links.remove(host.ours, "none")
    links.add_bridge(host.ours, "iso", mac=MAC)
    with pytest.raises(FileExistsError):
        links.add_bridge(host.ours, "iso", mac=MAC)
    links.remove(host.ours, "iso")
    assert set(links.names(host.ours)) == {"lo"}
