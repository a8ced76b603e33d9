"""The rules of a network are text before they are anything else."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import golden_files

from runtime.network.firewall import render
from runtime.network.ledger import (
    Lease,
    Network,
    Standing,
    read_network,
    read_standing,
    without_the_gone,
    write_network,
    write_standing,
)
from runtime.network.ports import Port

NETWORK = Network(name="bridge", id="0123abcd", created="2026-01-01T00:00:00+00:00")
STANDING = Standing(
    subnet=IPv4Network("10.213.5.0/24"),
    udp_port=40001,
    tcp_port=40002,
    keeper_pid=7,
    keeper_ticks=99,
    last=IPv4Address("10.213.5.3"),
    leases=(
        Lease(
            instance="0123456789ab",
            link="isv-00000001",
            address=IPv4Address("10.213.5.2"),
            names=("web", "0123456789ab"),
            ports=(
                Port(host=8080, inside=80),
                Port(ip="127.0.0.1", host=5353, inside=53, protocol="udp"),
            ),
        ),
        Lease(
            instance="ba9876543210",
            link="isv-00000002",
            address=IPv4Address("10.213.5.3"),
            names=(),
        ),
    ),
)


def test_the_rules_are_the_golden_ones() -> None:
    golden_files.check("networks/bridge.nft", render(NETWORK, STANDING))
    internal = replace(NETWORK, is_internal=True)
    golden_files.check("networks/internal.nft", render(internal, STANDING))


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    wide = replace(NETWORK, subnet=IPv4Network("10.0.0.0/8"), is_internal=True)
    for network in (NETWORK, wide):
        write_network(tmp_path, network)
        assert read_network(tmp_path) == network
    write_standing(tmp_path, STANDING)
    assert read_standing(tmp_path) == STANDING
    (tmp_path / "standing.json").write_text("{")  # as a crash of the machine may leave it
    assert read_standing(tmp_path) is None


def test_a_member_is_there_as_long_as_its_interface() -> None:
    left = without_the_gone(STANDING, {"lo", "isv-00000002"})
    assert left.leases == STANDING.leases[1:]
