"""A machine's network: TCP/IP inside QEMU itself, which needs no right and no interface here.

QEMU answers the guest's packets as a router would and makes its connections as an ordinary
program (qemu(1), ``-netdev user``). Machines do not see each other. ``user`` lets the guest out,
and QEMU leads what it sends to 10.0.2.2 to this computer's own loopback: it is for images that may
reach what listens there. ``none`` lets nothing out but answers to published TCP ports. A port that
is published is reached from this computer's loopback only. A connection to it is accepted by QEMU
before the guest listens: never a sign of readiness.
"""

import errno
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vmbackend.account import NAME, emulator_account
from vmbackend.errors import MachineSpecError

NetworkChoice = Literal["none", "user"]
Protocol = Literal["tcp", "udp"]
LOOPBACK = "127.0.0.1"
MODULES = ("virtio_net",)
"""What the guest loads for it, besides what every guest loads."""

_ADDRESS, _GATEWAY, _NAMESERVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
_KIND = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_WRITTEN = re.compile(r"(?P<host>\d{1,5}):(?P<guest>\d{1,5})(?:/(?P<protocol>tcp|udp))?", re.ASCII)
_LAST_PORT = 65535
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Port *host* of this computer's loopback leads to port *guest* of the machine."""

    host: int
    guest: int
    protocol: Protocol = "tcp"

    def __post_init__(self) -> None:
        """Raises MachineSpecError for what is no port."""
        if not all(0 < number <= _LAST_PORT for number in (self.host, self.guest)):
            raise MachineSpecError(f"{self} names no port", remedy="ports are 1 to 65535")

    def __str__(self) -> str:
        return f"{self.host}:{self.guest}/{self.protocol}"


def parse_port(text: str) -> Port:
    """``HOST:GUEST[/tcp|/udp]``. Raises MachineSpecError."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise MachineSpecError(
            f"{text[:60]!r} publishes no port", remedy="write HOST:GUEST or HOST:GUEST/udp"
        )
    protocol: Protocol = "udp" if match["protocol"] == "udp" else "tcp"
    return Port(host=int(match["host"]), guest=int(match["guest"]), protocol=protocol)


def check_network(network: str, ports: Iterable[Port]) -> None:
    """Raises MachineSpecError unless a machine can have *network* and *ports*. Pure."""
    if network not in get_args(NetworkChoice):
        raise MachineSpecError(f"{network!r} is no network of machines", remedy="use none or user")
    seen = set()
    for port in ports:
        if network == "none" and port.protocol == "udp":
            raise MachineSpecError(
                f"port {port.host}/udp: QEMU drops a guest's UDP answers where nothing may go out",
                remedy="use network user",
            )
        if (port.host, port.protocol) in seen:
            raise MachineSpecError(f"port {port.host}/{port.protocol} is published twice")
        seen.add((port.host, port.protocol))


def check_free(ports: Iterable[Port]) -> None:
    """Raises MachineSpecError if QEMU could not listen on one of *ports* now."""
    first = 1
    if emulator_account() is not None:
        first = int(_UNPRIVILEGED.read_text())
    for port in ports:
        if port.host < first:
            raise MachineSpecError(
                f"port {port.host} is root's, and QEMU runs as {NAME}",
                remedy=f"choose a port from {first}",
            )
        with socket.socket(socket.AF_INET, _KIND[port.protocol]) as trial:
            if port.protocol == "tcp":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((LOOPBACK, port.host))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                why = "is taken" if taken else f"cannot be used: {error.strerror}"
                raise MachineSpecError(
                    f"port {port.host}/{port.protocol} of {LOOPBACK} {why}",
                    remedy="choose another",
                ) from None


def emulator_network(network: NetworkChoice, ports: Iterable[Port]) -> tuple[str, ...]:
    """QEMU's words for it; none at all if the machine has no network. Pure."""
    forwards = "".join(
        f",hostfwd={port.protocol}:{LOOPBACK}:{port.host}-{_ADDRESS}:{port.guest}"
        for port in ports
    )
    if network == "none" and not forwards:
        return ()
    closed = "on" if network == "none" else "off"
    return (
        "-netdev", f"user,id=net,ipv6=off,restrict={closed}{forwards}",
        "-device", "virtio-net-pci,netdev=net,bus=pcie.0,addr=0x4,romfile=",
    )  # fmt: skip


def guest_network(network: NetworkChoice) -> str:
    """What the guest's first process finds in its environment, from the kernel's command line.

    Parameters that the kernel does not know are handed on (kernel-parameters.rst). A nameserver
    is told only to a guest that may ask it. Pure.
    """
    known = {"ISOSCOPE_ADDRESS": _ADDRESS}
    if network == "user":
        known |= {"ISOSCOPE_GATEWAY": _GATEWAY, "ISOSCOPE_NAMESERVER": _NAMESERVER}
    return " ".join(f"{name}={value}" for name, value in known.items())
