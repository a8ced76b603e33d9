"""Which addresses a network and its members get (pure)."""

import re
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network

from runtime.errors import SpecError

_POOLS = (IPv4Network("10.213.0.0/16"), IPv4Network("172.29.0.0/16"))
"""Private ranges (RFC 1918) that neither docker nor podman nor libvirt begins with."""

_LOCALLY_ADMINISTERED = b"\x02\x69"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_LABEL_MOST = 63


def choose_subnet(taken: Collection[IPv4Network], start: int) -> IPv4Network:
    """A /24 that overlaps none of *taken*; *start* spreads those who choose at the same time."""
    for pool in _POOLS:
        candidates = list(pool.subnets(new_prefix=24))
        for position in range(len(candidates)):
            subnet = candidates[(start + position) % len(candidates)]
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
    raise SpecError(
        "every address range that networks are made of has a route here already",
        remedy="make one with: isoscope network create --subnet A.B.C.0/24 NAME",
    )


def parse_subnet(text: str) -> IPv4Network:
    """``10.5.0.0/24`` as a network that has room for a gateway and a member. Raises SpecError."""
    try:
        subnet = IPv4Network(text)
    except ValueError:
        raise SpecError(
            f"{text!r} is not an IPv4 network", remedy="write one such as 10.5.0.0/24"
        ) from None
    if not 8 <= subnet.prefixlen <= 30:
        raise SpecError(f"{text} is no usable size", remedy="give a prefix of 8 to 30 bits")
    if subnet.is_loopback or subnet.is_multicast or subnet.is_reserved or subnet.is_link_local:
        raise SpecError(f"{text} has another meaning", remedy="give a private network")
    return subnet


def gateway(subnet: IPv4Network) -> IPv4Address:
    """The address of the bridge itself."""
    return subnet.network_address + 1


def choose_address(
    subnet: IPv4Network, taken: Collection[IPv4Address], last: IPv4Address | None
) -> IPv4Address:
    """A free address, the next after *last* if there is one: a used one rests for a while."""
    first, count = int(subnet.network_address) + 2, subnet.num_addresses - 3
    begin = 0 if last is None else int(last) - first + 1
    used = {int(address) for address in taken}
    for position in range(min(count, len(used) + 1)):
        number = first + (begin + position) % count
        if number not in used:
            return IPv4Address(number)
    raise SpecError(f"no address of {subnet} is free", remedy="end a member, or use a larger one")


def mac_of(address: IPv4Address) -> bytes:
    """The link address that belongs to *address*: one that returns is found where it was."""
    return _LOCALLY_ADMINISTERED + address.packed


def check_name(name: str, *, of: str) -> str:
    """*name*, if it can be part of a file name and of a domain name. Raises SpecError."""
    if _NAME.fullmatch(name) is None:
        raise SpecError(
            f"{name!r} cannot be the name of {of}",
            remedy="use at most 63 letters, digits, '-', '_' and '.', a letter or digit first",
        )
    return name
