"""A proxy that stands between a client and a registry and spoils chosen answers.

It reads a request, asks the registry itself, and hands both to a *fault*, which sends whatever it
likes down the client's connection. Without a fault the answer is passed on as it came.
"""

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """A request; *number* counts those that the same fault saw before."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int = 0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def head(self, *extra: tuple[str, str], status: int | None = None) -> bytes:
        """The head of the answer; *extra* replaces headers of the same names."""
        replaced = {name.lower() for name, _ in extra} | {"transfer-encoding"}
        kept = [(k, v) for k, v in self.headers if k.lower() not in replaced]
        lines = [f"{name}: {value}" for name, value in (*kept, *extra)]
        code = status or self.status
        return "\r\n".join([f"HTTP/1.1 {code} Status", *lines, "", ""]).encode()


Fault = Callable[[socket.socket, Asked, Answer], None]


@dataclass
class Proxy:
    """Spoils with *fault* what goes to a path that *where* matches, if *times* allows it."""

    upstream: tuple[str, int]
    port: int
    where: str = r"(?!)"
    method: str = "GET"
    fault: Fault | None = None
    times: int = 1 << 30
    seen: list[Asked] = field(default_factory=list)
    spoiled: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def spoil(
        self, where: str, fault: Fault, *, method: str = "GET", times: int = 1 << 30
    ) -> None:
        self.where, self.fault, self.method, self.times = where, fault, method, times

    def answer(self, line: socket.socket, stream: "socket.SocketIO") -> bool:
        """Answer one request; whether the connection goes on."""
        asked = read_request(stream)
        if asked is None:
            return False
        with self.guard:
            self.seen.append(asked)
            wanted = asked.method == self.method and re.search(self.where, asked.path)
            fault = self.fault if wanted and self.spoiled < self.times else None
            number = self.spoiled
            self.spoiled += fault is not None
        answer = self.forward(asked)
        if fault is not None:
            numbered = Asked(asked.method, asked.path, asked.headers, asked.body, number)
            fault(line, numbered, answer)
            return False
        length = ("Content-Length", str(len(answer.body)))
        head = answer.head() if asked.method == "HEAD" else answer.head(length)
        line.sendall(head + (b"" if asked.method == "HEAD" else answer.body))
        return True

    def forward(self, asked: Asked) -> Answer:
        connection = http.client.HTTPConnection(*self.upstream, timeout=10)
        try:
            headers = {k: v for k, v in asked.headers.items() if k.lower() != "host"}
            connection.request(asked.method, asked.path, body=asked.body or None, headers=headers)
            reply = connection.getresponse()
            return Answer(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()


def read_request(stream: "socket.SocketIO") -> Asked | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers = {}
    while line := stream.readline().strip().decode("latin-1"):
        name, _, value = line.partition(": ")
        headers[name] = value
    size = int(headers.get("Content-Length", 0))
    body = b""
    while len(body) < size and (chunk := stream.read(size - len(body))):
        body += chunk
    if len(body) < size:
        return None
    return Asked(first[0], first[1], headers, body)


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket, "socket.SocketIO"], bool]) -> Iterator[int]:
    """A server on a free port that calls *answer* for each request; gone after the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    lines: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def attend(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            stream = line.makefile("rb")
            with stream:
                while answer(line, stream):  # type: ignore[arg-type]
                    pass

    def accept() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            lines.append(line)
            threads.append(threading.Thread(target=attend, args=(line,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for line in lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def faulty(upstream: tuple[str, int]) -> Iterator[Proxy]:
    proxy = Proxy(upstream, 0)
    with listening(proxy.answer) as port:
        proxy.port = port
        yield proxy


# Faults


def reset(line: socket.socket) -> None:
    """End the connection with a RST."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def cut(ratio: float, *, hard: bool = False) -> Fault:
    """The whole head, and the body up to *ratio* of it."""

    def fault(line: socket.socket, _: Asked, answer: Answer) -> None:
        part = answer.body[: int(len(answer.body) * ratio)]
        line.sendall(answer.head(("Content-Length", str(len(answer.body)))) + part)
        if hard:
            time.sleep(0.02)  # a RST overtakes what was sent just before
            reset(line)

    return fault


def flipped(line: socket.socket, _: Asked, answer: Answer) -> None:
    spoiled = bytearray(answer.body)
    spoiled[len(spoiled) // 2] ^= 1
    line.sendall(answer.head() + spoiled)


def with_length(change: int) -> Fault:
    """A body of another length, and a head that admits it."""

    def fault(line: socket.socket, _: Asked, answer: Answer) -> None:
        body = answer.body + b"x" * change if change > 0 else answer.body[:change]
        line.sendall(answer.head(("Content-Length", str(len(body)))) + body)

    return fault


def endless(line: socket.socket, _: Asked, answer: Answer) -> None:
    kept = [(k, v) for k, v in answer.headers if k.lower() != "content-length"]
    head = Answer(200, kept, b"").head(("Connection", "close"))
    line.sendall(head.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
    piece = answer.body[:4096].ljust(4096, b" ")
    while True:
        line.sendall(b"1000\r\n" + piece + b"\r\n")


def endless_head(line: socket.socket, _: Asked, __: Answer) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        line.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")


def endless_continue(line: socket.socket, _: Asked, __: Answer) -> None:
    while True:
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def drip(line: socket.socket, _: Asked, answer: Answer) -> None:
    for byte in answer.head() + answer.body:
        line.sendall(bytes([byte]))
        time.sleep(0.02)


def silent(line: socket.socket, _: Asked, __: Answer) -> None:
    line.recv(1)  # until the client has had enough


def garbage(line: socket.socket, _: Asked, __: Answer) -> None:
    line.sendall(bytes(range(256)) * 16)


def status(code: int, *extra: tuple[str, str], body: bytes = b"no") -> Fault:
    def fault(line: socket.socket, _: Asked, __: Answer) -> None:
        length = ("Content-Length", str(len(body)))
        line.sendall(Answer(code, [length, *extra], b"").head() + body)

    return fault
