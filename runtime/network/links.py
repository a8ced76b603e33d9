"""Interfaces, their addresses and routes: one function, one message to the kernel.

Sources: rtnetlink(7), linux/if_link.h, linux/veth.h, linux/if_addr.h, linux/rtnetlink.h.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from runtime.network.netlink import ACK, MAKE, REQUEST, Line, attribute, attributes, message

EVENTS = 1
"""The multicast group (RTMGRP_LINK) that tells of interfaces that come and go."""

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 20, 24, 26
_SETLINK = 19
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_PROTINFO, _BRPORT_MODE = 12, 4
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1
_IFF_UP = 1
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")


def add_bridge(line: Line, name: str, *, mac: bytes) -> None:
    """A bridge, up. With a *mac* of its own: else it would change with every port."""
    _make(line, _named(name, up=True, mac=mac) + _info(b"bridge"))


def add_veth(line: Line, name: str, *, bridge: int, namespace: int, peer: str, mac: bytes) -> None:
    """A pair of linked interfaces: *name*, up, on *bridge*; *peer*, down, in *namespace* (a fd).

    The kernel refuses to switch the peer on before there is a pair (ENOTCONN, drivers/net/veth.c).
    """
    other = _named(peer, mac=mac) + attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
    master = attribute(_IFLA_MASTER, struct.pack("=I", bridge))
    info = _info(b"veth", attribute(_VETH_PEER, other))
    _make(line, _named(name, up=True) + master + info)


def reflect(line: Line, index: int) -> None:
    """Let the bridge send frames back through *index*, the port that they came by.

    Where bridged packets are translated too (br_netfilter), a member reaches itself by that.
    """
    mode = attribute(_PROTINFO, attribute(_BRPORT_MODE, b"\1"), nested=True)
    head = _LINK.pack(socket.AF_BRIDGE, 0, index, 0, 0)
    line.tell([message(_SETLINK, REQUEST | ACK, head + mode)])


def bring_up(line: Line, index: int) -> None:
    """Switch the interface *index* on; 1 is the loopback device of every namespace."""
    line.tell([message(_NEWLINK, REQUEST | ACK, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP))])


def remove(line: Line, name: str) -> None:
    """Remove the interface *name*. Raises OSError (ENODEV if there is none)."""
    line.tell([message(_DELLINK, REQUEST | ACK, _named(name))])


def add_address(line: Line, index: int, address: IPv4Interface) -> None:
    """Give the interface *index* an address; the route to its network comes with it."""
    head = _ADDRESS.pack(socket.AF_INET, address.network.prefixlen, 0, _UNIVERSE, index)
    own = address.ip.packed
    line.tell([message(_NEWADDR, MAKE, head + attribute(_IFA_LOCAL, own)
                       + attribute(_IFA_ADDRESS, own))])  # fmt: skip


def add_default_route(line: Line, gateway: IPv4Address) -> None:
    """Send everything else to *gateway*."""
    head = _ROUTE.pack(
        socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_BOOT, _UNIVERSE, _UNICAST, 0
    )
    line.tell([message(_NEWROUTE, MAKE, head + attribute(_RTA_GATEWAY, gateway.packed))])


def names(line: Line) -> dict[str, int]:
    """Name -> index of the interfaces there are."""
    found = {}
    for body in line.list(_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        index = _LINK.unpack_from(body)[2]
        told = attributes(body[_LINK.size :])
        found[told[_IFLA_IFNAME].rstrip(b"\0").decode("ascii", "replace")] = index
    return found


def routes(line: Line) -> Iterator[tuple[IPv4Network, int]]:
    """Every IPv4 destination that this machine has a route to, with the interface; no default."""
    for body in line.list(_GETROUTE, _ROUTE.pack(socket.AF_INET, *[0] * 8)):
        bits = body[1]
        told = attributes(body[_ROUTE.size :])
        if bits and _RTA_DST in told:
            (index,) = struct.unpack("=I", told.get(_RTA_OIF, bytes(4)))
            yield IPv4Network((told[_RTA_DST], bits), strict=False), index


def _make(line: Line, body: bytes) -> None:
    line.tell([message(_NEWLINK, MAKE, body)])


def _named(name: str, *, up: bool = False, mac: bytes = b"") -> bytes:
    flags = _IFF_UP if up else 0
    head = _LINK.pack(0, 0, 0, flags, flags) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
    return head + (attribute(_IFLA_ADDRESS, mac) if mac else b"")


def _info(kind: bytes, data: bytes = b"") -> bytes:
    content = attribute(_INFO_KIND, kind) + (attribute(_INFO_DATA, data) if data else b"")
    return attribute(_IFLA_LINKINFO, content)
