"""Which addresses networks and members get."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecError
from runtime.network.addresses import (
    check_name,
    choose_address,
    choose_subnet,
    gateway,
    mac_of,
    parse_subnet,
)

SMALL = IPv4Network("10.5.0.0/29")


@given(st.integers(min_value=0, max_value=1 << 32), st.sets(st.integers(0, 255), max_size=200))
def test_a_subnet_clashes_with_no_route(start: int, used: set[int]) -> None:
    routes = [IPv4Network(f"10.213.{number}.0/24") for number in used]
    chosen = choose_subnet([*routes, IPv4Network("10.213.7.128/25")], start)
    assert chosen.prefixlen == 24
    assert not any(chosen.overlaps(route) for route in routes)
    assert str(chosen) != "10.213.7.0/24"


def test_the_second_range_is_used_when_the_first_is_taken_and_none_when_both_are() -> None:
    first, second = IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12")
    assert choose_subnet([first], 300).subnet_of(second)
    with pytest.raises(SpecError, match="has a route here"):
        choose_subnet([first, second], 0)


def test_addresses_are_given_in_turn_and_come_back_last() -> None:
    last, given_out = None, []
    for _ in range(6):
        last = choose_address(SMALL, [], last)
        given_out.append(str(last))
    assert given_out == [f"10.5.0.{n}" for n in (2, 3, 4, 5, 6, 2)]


def test_a_full_network_says_so() -> None:
    hosts = [IPv4Address(f"10.5.0.{n}") for n in range(2, 7)]
    assert choose_address(SMALL, hosts[1:], hosts[3]) == hosts[0]
    with pytest.raises(SpecError, match=r"no address of 10\.5\.0\.0/29 is free"):
        choose_address(SMALL, hosts, None)


def test_gateway_and_members_are_apart_and_have_link_addresses_of_their_own() -> None:
    first = choose_address(SMALL, [], None)
    assert first != gateway(SMALL)
    assert mac_of(first) != mac_of(gateway(SMALL))
    assert mac_of(first)[0] & 3 == 2  # one station, locally administered


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.0.0/31", "10.0.0.0/7", "10.0.0.1/24", "127.0.0.0/24", "224.0.0.0/24",
     "169.254.0.0/16", "fd00::/64", "10.0.0.0"],
)  # fmt: skip
def test_what_is_no_subnet_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_subnet(text)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-x", "x" * 64, "a b", "a\n", "é"])
def test_names_are_no_paths(name: str) -> None:
    with pytest.raises(SpecError):
        check_name(name, of="a network")
