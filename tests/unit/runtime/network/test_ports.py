"""How published ports are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SpecError
from runtime.network.ports import ANYWHERE, Port, check_apart, overlap, parse_ports


def port(host: int, inside: int, ip: str = ANYWHERE) -> Port:
    return Port(ip=ip, host=host, inside=inside)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", (port(0, 80),)),
        ("8080:80", (port(8080, 80),)),
        ("127.0.0.1:8080:80", (port(8080, 80, "127.0.0.1"),)),
        ("127.0.0.1::80", (port(0, 80, "127.0.0.1"),)),
        ("53:53/udp", (Port(host=53, inside=53, protocol="udp"),)),
        ("80/tcp", (port(0, 80),)),
        ("8000-8002:80-82", (port(8000, 80), port(8001, 81), port(8002, 82))),
        ("80-81", (port(0, 80), port(0, 81))),
    ],
)
def test_a_port_is_read(text: str, ports: tuple[Port, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "80:", "x:80", "80:x", "0:80", "80:0", "65536:80", "80:65536", "8080:80/sctp",
        "8000-8001:80", "9-8:9-8", "1-2000:1-2000", "1.2.3:80:80", "1.2.3.256:80:80", "80:80:80",
        "::1:80:80", "80/udp/tcp", "+1:80", "\uff18\uff10:80", "80 ", "80\n",
    ],
)  # fmt: skip
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_ports(text)


@given(st.text(max_size=30))
def test_any_text_is_ports_or_refused(text: str) -> None:
    try:
        ports = parse_ports(text)
    except SpecError:
        return
    assert all(0 < each.inside < 1 << 16 and 0 <= each.host < 1 << 16 for each in ports)


def test_one_port_leads_to_one_place() -> None:
    check_apart(parse_ports("80-81"))
    check_apart((port(80, 1), Port(host=80, inside=1, protocol="udp")))
    check_apart((port(80, 1, "127.0.0.1"), port(80, 1, "127.0.0.2")))
    for pair in ((port(80, 1), port(80, 2)), (port(80, 1, "127.0.0.1"), port(80, 1))):
        assert overlap(*pair)
        with pytest.raises(SpecError, match="port 80/tcp is published twice"):
            check_apart(pair)
