"""What networks of containers are made of, tried in a network namespace of its own.

Speaks rtnetlink and nfnetlink, the kernel's own protocols, so that neither ip nor nft must be
installed. Sources: netlink(7), rtnetlink(7), linux/if_link.h, linux/veth.h, and
linux/netfilter/nf_tables.h for the names of messages and attributes.
"""

import os
import socket
import struct
from collections.abc import Callable
from functools import partial

from runtime import syscalls
from runtime.container.rungs.attempt import refusal
from runtime.container.rungs.rung import Rung, found_of
from runtime.errors import RuntimeFault

NETWORKS = ("run --network", "run -p")
"""What is lost without them."""

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x001, 0x004, 0x200, 0x400
_MAKE = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_EXCL | _NLM_F_CREATE
_NLMSG_ERROR = 2
_RTM_NEWLINK = 16
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO = 3, 10, 18
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1

_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFTABLES = 10
_NEW_TABLE, _NEW_CHAIN = _NFTABLES << 8 | 0, _NFTABLES << 8 | 3
_NFPROTO_IPV4 = 2
_POSTROUTING, _SRCNAT = 4, 100  # where and when a source address is rewritten

_NAME = b"isoscope"
_LIMIT_S = 2.0


def network_rung() -> Rung:
    """A pair of linked interfaces, a bridge, and a table that rewrites addresses."""
    parts: dict[str, Callable[[], None]] = {
        "veth": _make_veth,
        "bridge": _make_bridge,
        "nftables": _make_table,
    }
    refused = {
        part: why
        for part, make in parts.items()
        if (why := refusal(partial(_in_namespace, make))) is not None
    }
    return Rung(
        name="network",
        ok=not refused,
        found=found_of(parts, refused),
        remedy=f"modprobe {' '.join(_modules(refused))}, where the kernel has them"
        if refused
        else None,
        costs=NETWORKS,
    )


def _modules(parts: dict[str, str]) -> list[str]:
    return ["nf_tables nft_chain_nat" if part == "nftables" else part for part in parts]


def _in_namespace(make: Callable[[], None]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    make()


def _make_veth() -> None:
    peer = _attribute(_VETH_INFO_PEER, _link() + _attribute(_IFLA_IFNAME, b"v1\0"))
    _talk(_NETLINK_ROUTE, [_message(_RTM_NEWLINK, _MAKE, _new_link(b"v0", b"veth", peer))])
    _expect_links("v0", "v1")


def _make_bridge() -> None:
    """With a port, so that it is more than a name."""
    _talk(_NETLINK_ROUTE, [_message(_RTM_NEWLINK, _MAKE, _new_link(b"b0", b"bridge"))])
    peer = _attribute(_VETH_INFO_PEER, _link() + _attribute(_IFLA_IFNAME, b"v1\0"))
    master = _attribute(_IFLA_MASTER, struct.pack("=I", socket.if_nametoindex("b0")))
    body = _new_link(b"v0", b"veth", peer) + master
    _talk(_NETLINK_ROUTE, [_message(_RTM_NEWLINK, _MAKE, body)])
    _expect_links("b0", "v0", "v1")


def _make_table() -> None:
    """One transaction: a table, and in it a chain that network address translation hooks into."""
    family = struct.pack("!BBH", _NFPROTO_IPV4, 0, 0)
    hook = _attribute(1, struct.pack("!I", _POSTROUTING)) + _attribute(
        2, struct.pack("!i", _SRCNAT)
    )
    chain = (
        _attribute(1, _NAME + b"\0")  # NFTA_CHAIN_TABLE
        + _attribute(3, b"nat\0")  # NFTA_CHAIN_NAME
        + _attribute(4, hook, nested=True)  # NFTA_CHAIN_HOOK
        + _attribute(7, b"nat\0")  # NFTA_CHAIN_TYPE
    )
    batch = struct.pack("!BBH", 0, 0, _NFTABLES)
    _talk(
        _NETLINK_NETFILTER,
        [
            _message(_BATCH_BEGIN, _NLM_F_REQUEST, batch),
            _message(_NEW_TABLE, _MAKE, family + _attribute(1, _NAME + b"\0")),
            _message(_NEW_CHAIN, _MAKE, family + chain),
            _message(_BATCH_END, _NLM_F_REQUEST, batch),
        ],
    )


def _new_link(name: bytes, kind: bytes, data: bytes = b"") -> bytes:
    info = _attribute(_IFLA_INFO_KIND, kind)
    if data:
        info += _attribute(_IFLA_INFO_DATA, data)
    return _link() + _attribute(_IFLA_IFNAME, name + b"\0") + _attribute(_IFLA_LINKINFO, info)


def _link() -> bytes:
    """An empty ``struct ifinfomsg``: the kernel chooses the number."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)


def _attribute(kind: int, content: bytes, *, nested: bool = False) -> bytes:
    size = 4 + len(content)
    flag = 0x8000 if nested else 0
    return struct.pack("=HH", size, kind | flag) + content + bytes(-size % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def _talk(protocol: int, messages: list[bytes]) -> None:
    """Send *messages* at once; each that asks for an answer gets one. Raises OSError by errno."""
    answers = sum(1 for message in messages if message[6] & _NLM_F_ACK)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as line:
        line.settimeout(_LIMIT_S)
        line.send(b"".join(messages))
        while answers:
            answers -= _read_answers(line.recv(65536))


def _read_answers(received: bytes) -> int:
    """How many messages were acknowledged; an error in one is raised."""
    acknowledged = 0
    while received:
        size, kind = struct.unpack_from("=IH", received)
        if kind == _NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", received, 16)
            if error:
                raise OSError(-error, os.strerror(-error))
            acknowledged += 1
        received = received[(size + 3) & ~3 :]
    return acknowledged


def _expect_links(*names: str) -> None:
    there = {name for _, name in socket.if_nameindex()}
    if not there >= set(names):
        raise RuntimeFault("the kernel agreed, but the links are not there")
