import socket

import pytest

from vmbackend.errors import MachineSpecError
from vmbackend.network import (
    Port,
    check_free,
    check_network,
    emulator_network,
    guest_network,
    parse_port,
)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", Port(host=8080, guest=80)),
        ("8080:80/tcp", Port(host=8080, guest=80)),
        ("5353:53/udp", Port(host=5353, guest=53, protocol="udp")),
    ],
)
def test_ports_are_read_as_docker_writes_them(text: str, port: Port) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize(
    "text",
    ["", "80", ":80", "80:", "0:80", "80:0", "65536:80", "1:99999", "a:b", "1:2/sctp", "1:2:3",
     "-1:80", "\uff11:80", "80:80,hostfwd=tcp::1-:2", "80:80\n", "8" * 5000],
)  # fmt: skip
def test_what_is_no_port_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(MachineSpecError) as caught:
        parse_port(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("network", "ports"),
    [
        ("bridge", ()),
        ("user", (Port(host=1, guest=2), Port(host=1, guest=3))),
        ("none", (Port(host=1, guest=2, protocol="udp"),)),
    ],
)
def test_networks_that_cannot_be_are_refused(network: str, ports: tuple[Port, ...]) -> None:
    with pytest.raises(MachineSpecError):
        check_network(network, ports)


def test_one_number_may_be_published_for_each_protocol() -> None:
    check_network("user", (Port(host=1, guest=2), Port(host=1, guest=2, protocol="udp")))


def test_nothing_is_added_without_a_network() -> None:
    assert emulator_network("none", ()) == ()


def test_a_port_alone_lets_nothing_out_and_names_no_way() -> None:
    words = emulator_network("none", (Port(host=8080, guest=80),))
    assert "restrict=on,hostfwd=tcp:127.0.0.1:8080-10.0.2.15:80" in words[1]
    assert "GATEWAY" not in guest_network("none")
    assert "restrict=off" in emulator_network("user", ())[1]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_that_is_taken_is_said_before_anything_is_made(protocol: str) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as held:
        held.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            held.listen()
        port = Port(host=held.getsockname()[1], guest=80, protocol=protocol)  # type: ignore[arg-type]  # a table
        with pytest.raises(MachineSpecError, match="is taken"):
            check_free([port])
