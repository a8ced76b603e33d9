"""Real packets over this computer's loopback, through QEMU, to programs in a guest and back."""

import socket
import subprocess

import pytest

from vmbackend.machine import Machine, machine
from vmbackend.network import Port
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
LIMIT_S = 60
LOOPBACK = "127.0.0.1"
UDP_ECHO = """
#include <arpa/inet.h>
int main(void)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(81)}, from;
    char bytes[64];
    int end = socket(AF_INET, SOCK_DGRAM, 0);

    if (bind(end, (void *)&own, sizeof own))
        return 1;
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t count = recvfrom(end, bytes, sizeof bytes, 0, (void *)&from, &size);
        if (sendto(end, bytes, (size_t)count, 0, (void *)&from, size) < 0)
            return 2;
    }
}
"""
SERVE_TCP = """
(nc -ll -p 80 -e cat &) < /dev/null > /dev/null 2>&1
while ! grep -q :0050 /proc/net/tcp*; do sleep 0.02; done
"""
SERVE_UDP = """
cat > /echo; chmod +x /echo; (/echo &) < /dev/null > /dev/null 2>&1
while ! grep -q :0051 /proc/net/udp; do sleep 0.02; done
"""
"""busybox has no server that speaks UDP, so it is given one."""


def free_port(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as trial:
        trial.bind((LOOPBACK, 0))
        return int(trial.getsockname()[1])


@pytest.fixture(scope="module")
def udp_echo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = tmp_path_factory.mktemp("echo") / "echo"
    command = ["gcc", "-static", "-O1", "-x", "c", "-o", str(program), "-"]
    subprocess.run(command, input=UDP_ECHO.encode(), check=True)
    return program.read_bytes()


def ask_tcp(port: int) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=LIMIT_S) as line:
        line.sendall(b"over tcp")
        return line.recv(64)


def ask_udp(port: int) -> bytes:
    """Datagrams may be lost, so it is asked again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((LOOPBACK, port))
        line.settimeout(2)
        for _ in range(10):
            line.send(b"over udp")
            try:
                return line.recv(64)
            except TimeoutError:
                continue
    return b""


def hears_of(listener: socket.socket, guest: Machine) -> bool:
    """Whether the guest reaches what listens on this computer's loopback."""
    port = listener.getsockname()[1]
    guest.run(["timeout", "2", "nc", "10.0.2.2", str(port)], timeout_s=LIMIT_S)
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_published_ports_lead_inside_and_the_guest_gets_out(busybox: str, udp_echo: bytes) -> None:
    tcp, udp = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    ports = (Port(host=tcp, guest=80), Port(host=udp, guest=81, protocol="udp"))
    with (
        machine(MachineSpec(image=busybox, network="user", ports=ports)) as guest,
        socket.create_server((LOOPBACK, 0)) as listener,
    ):
        started = guest.run(["sh", "-c", SERVE_UDP + SERVE_TCP], stdin=udp_echo, timeout_s=LIMIT_S)
        assert started.exit_status == 0
        assert ask_tcp(tcp) == b"over tcp"
        assert ask_udp(udp) == b"over udp"
        assert hears_of(listener, guest)


def test_a_published_port_alone_opens_no_way_out(busybox: str) -> None:
    port = free_port(socket.SOCK_STREAM)
    spec = MachineSpec(image=busybox, ports=(Port(host=port, guest=80),))
    with machine(spec) as guest, socket.create_server((LOOPBACK, 0)) as listener:
        assert guest.run(["sh", "-c", SERVE_TCP], timeout_s=LIMIT_S).exit_status == 0
        assert ask_tcp(port) == b"over tcp"
        assert not hears_of(listener, guest)
