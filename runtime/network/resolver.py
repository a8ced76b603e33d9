"""Answers the questions of a network's members: its own names, the rest by asking others.

One loop, no state but the questions under way, every one with a deadline; their number is
bounded, since whoever asks may be hostile. Each question that is passed on leaves by a socket of
its own, from a port and under a number that nobody can know (RFC 5452).
"""

import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from pathlib import Path

from runtime.network import names
from runtime.network.names import Question, Unanswerable, Zone

_ATTEMPT_S = 2.0
_CONVERSATION_S = 6.0
_MOST_UNDER_WAY = 256
_MOST_CONVERSATIONS = 16
_PORT = 53
_CONFIGURATION = Path("/etc/resolv.conf")

Address = tuple[str, int]


@dataclass(slots=True)
class _Passed:
    """A question that somebody else is asked, and the servers that are left to ask."""

    question: Question
    packet: bytes
    client: Address
    servers: list[str]
    number: int
    line: socket.socket
    deadline: float


class Resolver:
    """Serves *udp* and *tcp* until it is closed; *zone* is asked for anew with each question."""

    def __init__(
        self,
        udp: socket.socket,
        tcp: socket.socket,
        *,
        zone: Callable[[], Zone],
        servers: Callable[[], Sequence[str]],
    ) -> None:
        self._udp, self._tcp = udp, tcp
        self._zone, self._servers = zone, servers
        self._under_way: dict[int, _Passed] = {}
        self._conversations = threading.BoundedSemaphore(_MOST_CONVERSATIONS)
        self._selector: selectors.BaseSelector | None = None
        udp.setblocking(False)
        tcp.setblocking(False)

    def register(self, selector: selectors.BaseSelector) -> None:
        """Let *selector* wake whoever calls ``serve``."""
        self._selector = selector
        selector.register(self._udp, selectors.EVENT_READ, self._asked)
        selector.register(self._tcp, selectors.EVENT_READ, self._called)

    def wait_s(self) -> float | None:
        """How long nothing has to be done unless something comes in."""
        nearest = min((each.deadline for each in self._under_way.values()), default=None)
        return None if nearest is None else max(0.0, nearest - time.monotonic())

    def expire(self) -> None:
        """Ask the next server where one did not answer in time."""
        now = time.monotonic()
        for passed in [each for each in self._under_way.values() if each.deadline <= now]:
            self._drop(passed)
            self._pass_on(passed.question, passed.packet, passed.client, passed.servers)

    def _asked(self) -> None:
        """One datagram; the loop comes back for the next."""
        with suppress(OSError):
            packet, client = self._udp.recvfrom(names.MOST_BYTES)
            known = self._zone()
            if IPv4Address(client[0]) not in known.subnet:
                return
            try:
                question = names.read_question(packet)
            except Unanswerable as why:
                self._reply(why.answer(), client)
                return
            found = names.answer(question, known)
            if found is not None:
                self._reply(found, client)
            else:
                self._pass_on(question, packet, client, list(self._servers()))

    def _pass_on(
        self, question: Question, packet: bytes, client: Address, servers: list[str]
    ) -> None:
        while servers and len(self._under_way) < _MOST_UNDER_WAY:
            server, *servers = servers
            number = _unguessable()
            try:
                line = _towards(server, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            except OSError:
                continue
            passed = _Passed(
                question, packet, client, servers, number, line, time.monotonic() + _ATTEMPT_S
            )
            self._under_way[line.fileno()] = passed
            self._watch(passed)
            with suppress(OSError):
                line.send(names.renumbered(packet, number))
            return
        self._reply(names.refusal(question, names.SERVER_FAILURE), client)

    def _watch(self, passed: _Passed) -> None:
        if self._selector is not None:
            self._selector.register(
                passed.line, selectors.EVENT_READ, lambda: self._answered(passed)
            )

    def _answered(self, passed: _Passed) -> None:
        try:
            packet = passed.line.recv(names.MOST_BYTES)
        except OSError:  # nobody listens there
            passed.deadline = 0.0
            return
        if names.answers(packet, passed.question, passed.number):
            self._drop(passed)
            self._reply(names.renumbered(packet, passed.question.id), passed.client)

    def _drop(self, passed: _Passed) -> None:
        del self._under_way[passed.line.fileno()]
        if self._selector is not None:
            self._selector.unregister(passed.line)
        passed.line.close()

    def _reply(self, packet: bytes, client: Address) -> None:
        if packet:
            with suppress(OSError):
                self._udp.sendto(packet, client)

    def _called(self) -> None:
        """One conversation, in a thread of its own: it may be slow, and there are few."""
        with suppress(OSError):
            line, client = self._tcp.accept()
            known = self._zone()
            outside = IPv4Address(client[0]) not in known.subnet
            if outside or not self._conversations.acquire(blocking=False):
                line.close()
                return
            asked = (line, known, list(self._servers()))
            threading.Thread(target=self._converse, args=asked, daemon=True).start()

    def _converse(self, line: socket.socket, known: Zone, servers: list[str]) -> None:
        try:
            with line, suppress(OSError):
                deadline = time.monotonic() + _CONVERSATION_S
                packet = _receive(line, deadline)
                _send(line, _answer_whole(packet, known, servers, deadline), deadline)
        finally:
            self._conversations.release()


def configured_servers(text: str) -> tuple[str, ...]:
    """The name servers in *text*, a resolv.conf(5)."""
    words = (line.split() for line in text.splitlines())
    found = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver"]
    return tuple(server for server in found if _is_address(server))


class HostServers:
    """The name servers that this machine asks, read again when their file has changed."""

    def __init__(self, path: Path = _CONFIGURATION) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def __call__(self) -> tuple[str, ...]:
        """The servers, by address."""
        with suppress(OSError):
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._servers = configured_servers(self._path.read_text(errors="replace"))
                self._stamp = stamp
        return self._servers


def bind(gateway: IPv4Address, bridge: str) -> tuple[socket.socket, socket.socket]:
    """The two sockets that members reach, on ports of their own. Raises OSError."""
    device = os.fsencode(bridge) + b"\0"
    made = []
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        line = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
        made.append(line)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        line.bind((str(gateway), 0))
    made[1].listen(_MOST_CONVERSATIONS)
    return made[0], made[1]


def _answer_whole(packet: bytes, known: Zone, servers: list[str], deadline: float) -> bytes:
    try:
        question = names.read_question(packet)
    except Unanswerable as why:
        return why.answer()
    found = names.answer(question, known, most_bytes=0xFFFF)
    if found is not None:
        return found
    for server in servers:
        number = _unguessable()
        with suppress(OSError), _towards(server, socket.SOCK_STREAM) as line:
            _send(line, names.renumbered(packet, number), deadline)
            told = _receive(line, deadline)
            if names.answers(told, question, number):
                return names.renumbered(told, question.id)
    return names.refusal(question, names.SERVER_FAILURE)


def _unguessable() -> int:
    """A number for a question; the module secrets would cost the keeper megabytes."""
    return int.from_bytes(os.urandom(2))


def _towards(server: str, kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    line = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if not kind & socket.SOCK_NONBLOCK:
            line.settimeout(_ATTEMPT_S)
        line.connect((server, _PORT))
    except OSError:
        line.close()
        raise
    return line


def _receive(line: socket.socket, deadline: float) -> bytes:
    (size,) = struct.unpack("!H", _exactly(line, 2, deadline))
    return _exactly(line, size, deadline)


def _exactly(line: socket.socket, size: int, deadline: float) -> bytes:
    parts = b""
    while len(parts) < size:
        line.settimeout(max(0.001, deadline - time.monotonic()))
        if time.monotonic() >= deadline or not (part := line.recv(size - len(parts))):
            raise TimeoutError
        parts += part
    return parts


def _send(line: socket.socket, packet: bytes, deadline: float) -> None:
    if packet:
        line.settimeout(max(0.001, deadline - time.monotonic()))
        line.sendall(struct.pack("!H", len(packet)) + packet)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
