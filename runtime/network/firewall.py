"""The rules of one network: rendered as nftables' own language (pure), loaded as one transaction.

Each network has a table of its own, which is only ever replaced as a whole, so that it says what
is true now whatever a crash left. No rule of anybody else's is touched; where another table drops
what is forwarded, it stays dropped. Source: nft(8).
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network

from runtime.errors import RuntimeFault, Unsupported
from runtime.network.addresses import gateway
from runtime.network.ledger import Lease, Network, Standing
from runtime.network.ports import ANYWHERE

_LIMIT_S = 30.0
_REMEDY = "install nftables, as with: apt-get install nftables"


def render(network: Network, standing: Standing) -> str:
    """The whole table of *network* as it is *standing*."""
    body = "\n".join(_chains(network.bridge, standing, is_internal=network.is_internal))
    return f"table ip {network.table} {{\n{body}\n}}\n"


def load(network: Network, standing: Standing) -> None:
    """Make the table of a network that had none. Raises Unsupported, RuntimeFault.

    Only if there is one all the same, which a crash left, it is replaced: to delete a table the
    kernel waits for every processor.
    """
    rules = render(network, standing)
    with _nft(f"create table ip {network.table}\n{rules}") as loading:
        refused = loading.refusal()
    if refused:
        replace(network, standing)


def replace(network: Network, standing: Standing) -> None:
    """Make the table say what is true now, at once. Raises Unsupported, RuntimeFault."""
    with _nft(_removal(network.table) + render(network, standing)) as loading:
        loading.end()


@contextmanager
def unloading(network: Network) -> Iterator[None]:
    """Remove the table, if there is one, while the block does what takes as long."""
    with _nft(_removal(network.table)) as removal:
        yield
        removal.end()


def _removal(table: str) -> str:
    return f"add table ip {table}\ndelete table ip {table}\n"  # so that a missing one is no error


def _chains(bridge: str, standing: Standing, *, is_internal: bool) -> Iterator[str]:
    subnet = standing.subnet
    yield from _chain("guard", "type filter hook prerouting priority -300", [
        f'iifname "{bridge}" ip daddr 127.0.0.0/8 drop comment "no member reaches our loopback"',
    ])  # fmt: skip
    yield from _chain("published", None, _translations(standing.leases))
    yield from _chain("arriving", "type nat hook prerouting priority -100", [
        *_names(bridge, standing),
        "fib daddr type local jump published",
    ])  # fmt: skip
    yield from _chain("leaving", "type nat hook output priority -100", [
        "fib daddr type local jump published",
    ])  # fmt: skip
    yield from _chain(
        "hiding",
        "type nat hook postrouting priority 100",
        _masquerades(bridge, subnet, is_internal=is_internal),
    )
    yield from _chain(
        "passing",
        "type filter hook forward priority 0",
        _passages(bridge, is_internal=is_internal),
    )


def _chain(name: str, hook: str | None, rules: Sequence[str]) -> Iterator[str]:
    yield f"\tchain {name} {{"
    if hook is not None:
        yield f"\t\t{hook}; policy accept;"
    for rule in rules:
        yield f"\t\t{rule}"
    yield "\t}"


def _translations(leases: Sequence[Lease]) -> list[str]:
    return [
        ("" if port.ip == ANYWHERE else f"ip daddr {port.ip} ")
        + f"{port.protocol} dport {port.host} dnat to {lease.address}:{port.inside}"
        for lease in leases
        for port in lease.ports
    ]


def _names(bridge: str, standing: Standing) -> list[str]:
    """Questions for names go to the keeper's own ports: 53 may be another program's here."""
    to_us = f'iifname "{bridge}" ip daddr {gateway(standing.subnet)}'
    return [
        f"{to_us} udp dport 53 redirect to :{standing.udp_port}",
        f"{to_us} tcp dport 53 redirect to :{standing.tcp_port}",
    ]


def _masquerades(bridge: str, subnet: IPv4Network, *, is_internal: bool) -> list[str]:
    outside = f'ip saddr {subnet} oifname != "{bridge}" masquerade comment "to the outside"'
    return [
        *([] if is_internal else [outside]),
        f'ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade comment "from our loopback"',
        f'ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade comment "members"',
    ]


def _passages(bridge: str, *, is_internal: bool) -> list[str]:
    """Members speak to each other and outwards; to them come answers and what is published."""
    return [
        "tcp flags syn tcp option maxseg size set rt mtu",
        f'iifname "{bridge}" oifname "{bridge}" accept',
        *([f'iifname "{bridge}" ct state new drop'] if is_internal else []),
        f'oifname "{bridge}" ct state established,related accept',
        f'oifname "{bridge}" ct status dnat accept',
        f'oifname "{bridge}" drop',
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    """nft at work on a script that it has got."""

    process: subprocess.Popen[str]

    def refusal(self) -> str:
        """Why nft refused, in its words; empty if it did not. Raises RuntimeFault."""
        try:
            _, said = self.process.communicate(timeout=_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise RuntimeFault(f"nft did not end in {_LIMIT_S:g} s") from None
        status = self.process.returncode
        return next(iter(said.splitlines()), f"status {status}") if status else ""

    def end(self) -> None:
        """Wait until it is done. Raises RuntimeFault."""
        if why := self.refusal():
            raise RuntimeFault(f"nft refused the rules of a network: {why}")


@contextmanager
def _nft(script: str) -> Iterator[_Run]:
    """Start nft on *script*; it ends with the block. Raises Unsupported if there is none."""
    with open(os.memfd_create("rules"), "w+") as given:  # noqa: PTH123 - wraps a descriptor
        given.write(script)
        given.seek(0)
        try:
            process = subprocess.Popen(
                ["nft", "-f", "-"], text=True,
                stdin=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError:
            raise Unsupported("networks need the program nft", remedy=_REMEDY) from None
    with process:
        try:
            yield _Run(process)
        finally:
            if process.poll() is None:
                process.kill()
