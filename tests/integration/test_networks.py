"""Networks, names and ports, with real traffic in namespaces of the test's own."""

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack

import pytest
from laboratory import HERE, OUTSIDE, Laboratory, keepers, laboratory, until

from runtime.container.cgroups import members
from runtime.container.state import groups_of, instances_dir
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="networks need root; run as root")

SERVES = (
    "mkdir /srv; echo hello > /srv/index.html; httpd -p 80 -h /srv; echo ready; exec sleep 1000"
)
GETS = """
import socket
line = socket.create_connection(('{0}', {1}), 20)
line.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
print(line.makefile().read())
"""
TELLS_PEER = """
import socket
server = socket.create_server(('0.0.0.0', 7000))
print('ready', flush=True)
while True:
    line, peer = server.accept()
    line.sendall(peer[0].encode())
    line.close()
"""
ECHOES = """
import socket
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind(('0.0.0.0', 5000))
print('ready', flush=True)
while True:
    word, peer = line.recvfrom(100)
    line.sendto(word + b' from ' + peer[0].encode(), peer)
"""
ASKS = """
import socket
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.settimeout(20)
line.sendto(b'word', ('{0}', {1}))
print(line.recv(100).decode())
"""
KNOWS_ALL = """
import socket, struct, threading
def answer(packet):
    end = packet.index(b'\\0', 12) + 5
    head = packet[:2] + struct.pack('!HHHHH', 0x8180, 1, 1, 0, 0)
    kind = packet[end - 4:end]
    found = struct.pack('!HHHIH', 0xc00c, 1, 1, 60, 4) + bytes((203, 0, 113, 7))
    if kind != b'\\0\\1\\0\\1':
        head, found = packet[:2] + struct.pack('!HHHHH', 0x8180, 1, 0, 0, 0), b''
    return head + packet[12:end] + found
def tcp():
    while True:
        line, _ = server.accept()
        size, = struct.unpack('!H', line.recv(2))
        told = answer(line.recv(size))
        line.sendall(struct.pack('!H', len(told)) + told)
        line.close()
server = socket.create_server(('0.0.0.0', 53))
threading.Thread(target=tcp, daemon=True).start()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('0.0.0.0', 53))
print('ready', flush=True)
while True:
    packet, peer = udp.recvfrom(4096)
    udp.sendto(answer(packet), peer)
"""


@pytest.fixture(scope="module")
def lab(busybox: Image) -> Iterator[Laboratory]:
    assert busybox.digest
    with laboratory() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(lab: Laboratory) -> Iterator[None]:
    yield
    until(lambda: lab.left() == "")  # the kernel takes a moment to end a namespace
    assert not list(instances_dir().iterdir())


def serving(lab: Laboratory, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return lab.started("run", *options, "busybox", "sh", "-c", SERVES)


def waiting(lab: Laboratory, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return lab.started("run", *options, "busybox", "sh", "-c", "echo ready; exec sleep 1000")


def get(lab: Laboratory, address: str, port: int, *, pid: int | None = None) -> bytes:
    return lab._in(pid or lab.here, [sys.executable, "-c", GETS.format(address, port)]).stdout


def init_of(instance: object) -> int:
    """A process of the container, which is in its network."""
    return next(members(groups_of(instances_dir() / str(instance))[0]))


def test_members_find_each_other_by_every_name(lab: Laboratory) -> None:
    with serving(lab, "--network", "bridge", "--name", "Web"):
        (web,) = lab.members("bridge")
        script = "for name in web WEB $1; do wget -qO- http://$name/ || exit; done; nslookup $2"
        address, instance = str(web["address"]), str(web["instance"])
        inside = ("busybox", "sh", "-c", script, "sh", instance, address)
        said = lab.ok("run", "--network", "bridge", *inside)
    assert said.count("hello") == 3
    assert "name = Web".lower() in said.lower()


def test_a_member_has_files_that_say_who_and_where_it_is(lab: Laboratory) -> None:
    script = "cat /etc/hosts /etc/hostname /etc/resolv.conf; hostname"
    said = lab.ok("run", "--network", "bridge", "busybox", "sh", "-c", script)
    lines = said.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[1].split()[1] == lines[2]
    assert lines[2] in lines[3:]
    assert any(line.startswith("nameserver 10.") for line in lines)


def test_a_published_port_is_reached_from_everywhere(lab: Laboratory) -> None:
    with (
        serving(lab, "-p", "8080:80", "-p", "127.0.0.1:8081:80"),
        waiting(lab, "--network", "bridge"),
    ):
        first, second = lab.members("bridge")
        assert first["ports"] == ["0.0.0.0:8080->80/tcp", "127.0.0.1:8081->80/tcp"]
        for address in ("127.0.0.1", HERE):
            assert b"hello" in get(lab, address, 8080)
        assert b"hello" in get(lab, "127.0.0.1", 8081)
        assert b"hello" in get(lab, HERE, 8080, pid=lab.outside)
        assert get(lab, HERE, 8081, pid=lab.outside) == b""
        for member in (first, second):  # through the machine's own address, and back
            assert b"hello" in get(lab, HERE, 8080, pid=init_of(member["instance"]))


def test_datagrams_are_published_and_the_sender_is_not_hidden(lab: Laboratory) -> None:
    with waiting(lab, "-p", "5001:5000/udp"):
        (member,) = lab.members("bridge")
        with lab.serving(init_of(member["instance"]), ECHOES):
            asks = (sys.executable, "-c", ASKS.format(HERE, 5001))
            assert lab.do_outside(*asks).stdout == f"word from {OUTSIDE}\n".encode()
            asks = (sys.executable, "-c", ASKS.format("127.0.0.1", 5001))
            assert lab.do(*asks).stdout.startswith(b"word from 10.213.")


def test_the_outside_sees_the_machine_and_reaches_nothing_unpublished(lab: Laboratory) -> None:
    with lab.serving(lab.outside, TELLS_PEER), serving(lab, "--network", "bridge"):
        (member,) = lab.members("bridge")
        address = str(member["address"])
        told = ("busybox", "nc", OUTSIDE, "7000")
        assert lab.ok("run", "--network", "bridge", *told) == HERE
        lab.do_outside("ip", "route", "add", f"{address}/32", "via", HERE)
        reach = f"import socket; socket.create_connection(('{address}', 80), 0.5)"
        refused = lab.do_outside(sys.executable, "-c", reach)
        lab.do_outside("ip", "route", "del", f"{address}/32")
        assert b"TimeoutError" in refused.stderr
        assert b"hello" in get(lab, address, 80)


def test_an_internal_network_has_no_way_out_and_networks_are_apart(lab: Laboratory) -> None:
    lab.ok("network", "create", "--internal", "--subnet", "10.77.0.0/24", "back")
    try:
        with serving(lab, "--network", "back", "--name", "db"):
            near = ("busybox", "sh", "-c", f"wget -qO- http://db/; ping -c1 -W1 {OUTSIDE}")
            done = lab.run("run", "--network", "back", *near)
            assert done.stdout.startswith(b"hello")
            assert b"unreachable" in done.stderr
            far = ("busybox", "sh", "-c", "wget -T1 -qO- http://10.77.0.2/ || nslookup db")
            done = lab.run("run", "--network", "bridge", *far)
            assert b"hello" not in done.stdout
            assert done.returncode
            assert "has members" in lab.fails("network", "rm", "back")
    finally:
        lab.ok("network", "rm", "back")


def test_a_port_that_is_taken_is_said_before_anything_starts(lab: Laboratory) -> None:
    with lab.serving(lab.here, TELLS_PEER):
        said = lab.fails("run", "-p", "7000:80", "busybox", "echo", "started")
    assert "port 7000/tcp is taken; end what listens there" in said
    with waiting(lab, "-p", "8080:80"):
        (member,) = lab.members("bridge")
        said = lab.fails("run", "-p", "127.0.0.1:8080:81", "busybox", "echo", "started")
        assert "port 8080/tcp" in said
        listen = "import socket; socket.create_server(('', 8080))"
        until(lambda: b"in use" in lab.do(sys.executable, "-c", listen).stderr)
        assert member["ports"] == ["0.0.0.0:8080->80/tcp"]


def test_a_port_is_free_again_when_its_container_has_ended(lab: Laboratory) -> None:
    with waiting(lab, "--network", "bridge"):  # so that the keeper lives on
        for _ in range(3):
            lab.ok("run", "-p", "8080:80", "busybox", "true")


def test_free_ports_are_chosen_and_told(lab: Laboratory) -> None:
    with serving(lab, "-p", "80"):
        (member,) = lab.members("bridge")
        number = int(str(member["ports"]).partition(":")[2].partition("-")[0])
        assert b"hello" in get(lab, "127.0.0.1", number)


def test_the_network_of_the_machine_and_of_another_container(lab: Laboratory) -> None:
    assert "wire" in lab.ok("run", "--network", "host", "busybox", "ls", "/sys/class/net")
    with serving(lab, "--network", "bridge", "--name", "web"):
        (member,) = lab.members("bridge")
        shared = f"container:{member['instance']}"
        script = "wget -qO- http://127.0.0.1/; cat /etc/hosts"
        said = lab.ok("run", "--network", shared, "busybox", "sh", "-c", script)
    assert said.startswith("hello\n")
    assert str(member["address"]) in said
    assert "no container" in lab.fails("run", "--network", shared, "busybox", "true")
    assert "no network" in lab.fails("run", "--network", "nowhere", "busybox", "true")
    said = lab.fails("run", "--network", "host", "-p", "80", "busybox", "true")
    assert "cannot be published" in said


def test_what_is_not_ours_is_asked_of_the_hosts_servers(
    lab: Laboratory, tmp_path_factory: pytest.TempPathFactory
) -> None:
    servers = tmp_path_factory.mktemp("etc") / "resolv.conf"
    servers.write_text(f"nameserver {OUTSIDE}\nsearch test\n")
    script = "cat /etc/resolv.conf; nslookup far.example; echo ready; exec sleep 1000"
    words = ["run", "--network", "bridge", "--name", "web", "busybox", "sh", "-c", script]
    argv = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']
    with (
        lab.serving(lab.outside, KNOWS_ALL),
        lab.started(*words, ready="search test", within=[*argv, str(servers)]) as process,
    ):
        assert process.stdout is not None
        said = "".join(iter(lambda: process.stdout.readline().decode(), "ready\n"))  # type: ignore[union-attr]
        assert "203.0.113.7" in said
        (member,) = lab.members("bridge")
        server = str(member["address"]).rpartition(".")[0] + ".1"
        question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0%b\0\0\1\0\1"
        for name, address in ((b"\3far\7example", (203, 0, 113, 7)), (b"\3WEB", None)):
            packet = question % name
            told = over_tcp(lab, init_of(member["instance"]), server, packet)
            expected = bytes(address) if address else socket.inet_aton(str(member["address"]))
            assert told[:2] == b"\x12\x34"
            assert told[-4:] == expected


def over_tcp(lab: Laboratory, pid: int, server: str, packet: bytes) -> bytes:
    script = (
        "import socket, sys; line = socket.create_connection((sys.argv[1], 53), 20);"
        "line.sendall(sys.stdin.buffer.read()); line.shutdown(1);"
        "sys.stdout.buffer.write(line.makefile('rb').read())"
    )
    argv = [sys.executable, "-c", script, server]
    sent = struct.pack("!H", len(packet)) + packet
    return lab._in(pid, argv, input=sent).stdout[2:]


def test_a_member_that_talks_nonsense_keeps_nobody_from_names(lab: Laboratory) -> None:
    nonsense = (
        "import os, socket, sys\n"
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "for size in range(0, 600, 3): udp.sendto(os.urandom(size), (sys.argv[1], 53))\n"
        "lines = [socket.create_connection((sys.argv[1], 53), 20) for _ in range(16)]\n"
        "for line in lines: line.sendall(b'\\xff\\xff\\0')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with waiting(lab, "--network", "bridge", "--name", "loud"):
        (member,) = lab.members("bridge")
        server = str(member["address"]).rpartition(".")[0] + ".1"
        script = nonsense.replace("sys.argv[1]", repr(server))
        with lab.serving(init_of(member["instance"]), script):
            said = lab.ok("run", "--network", "bridge", "busybox", "nslookup", "loud")
    assert str(member["address"]) in said


def test_members_that_come_at_once_get_addresses_of_their_own(lab: Laboratory) -> None:
    with ExitStack() as undo, ThreadPoolExecutor(4) as pool:
        starts = [waiting(lab, "--network", "bridge") for _ in range(4)]
        list(pool.map(undo.enter_context, starts))
        together = lab.members("bridge")
        assert len({str(each["address"]) for each in together}) == 4
        words = " ".join(str(each["instance"]) for each in together)
        script = f"for name in {words}; do nslookup $name || exit; done"
        said = lab.ok("run", "--network", "bridge", "busybox", "sh", "-c", script)
    assert all(str(each["address"]) in said for each in together)


def test_killing_the_owner_takes_the_network_down(lab: Laboratory) -> None:
    with waiting(lab, "-p", "8080:80") as process:
        assert keepers()
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: lab.left() == "")
    lab.ok("gc")


def test_gc_takes_down_what_a_killed_keeper_left(lab: Laboratory) -> None:
    with waiting(lab, "-p", "8080:80") as process:
        (keeper,) = keepers()
        os.kill(int(keeper), signal.SIGKILL)
        (member,) = lab.members("bridge")
        found = ("busybox", "nslookup", str(member["instance"]))
        assert str(member["address"]) in lab.ok("run", "--network", "bridge", *found)
        (keeper,) = keepers()
        os.kill(int(keeper), signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert "iso-" in lab.left()
    until(lambda: "network bridge" in lab.ok("gc"))


def test_the_machines_own_rules_stay_as_they_are(lab: Laboratory) -> None:
    hook = b"type filter hook forward priority filter; policy accept;"
    rules = b"table ip theirs {\n\tchain c {\n\t\t" + hook + b"\n\t}\n}\n"
    assert lab.do("nft", "-f", "-", input=rules).returncode == 0
    try:
        lab.ok("run", "-p", "8080:80", "busybox", "true")
        assert lab.do("nft", "list", "ruleset").stdout == rules
    finally:
        lab.do("nft", "delete", "table", "ip", "theirs")


def test_networks_are_made_listed_and_removed(lab: Laboratory) -> None:
    lab.ok("network", "create", "--subnet", "10.78.0.0/16", "wide")
    try:
        assert ["wide", "10.78.0.0/16", "0", "yes"] in [
            row.split() for row in lab.ok("network", "ls").splitlines()
        ]
        assert "wide exists" in lab.fails("network", "create", "wide")
        said = lab.fails("network", "create", "--subnet", "10.78.3.0/24", "narrow")
        assert "overlaps 10.78.0.0/16 of network wide" in said
        lab.do("ip", "route", "add", "10.78.9.0/24", "via", OUTSIDE)
        said = lab.fails("run", "--network", "wide", "busybox", "true")
        lab.do("ip", "route", "del", "10.78.9.0/24")
        assert "10.78.9.0/24 has a route here" in said
        for words in (("--subnet", "10.0.0.0/31", "x"), ("../x",), ("host",), ("",)):
            lab.fails("network", "create", *words)
    finally:
        assert lab.ok("network", "rm", "wide") == "wide\n"
    assert "no network 'wide'" in lab.fails("network", "inspect", "wide")
