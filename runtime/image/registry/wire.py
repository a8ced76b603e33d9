"""HTTP/1.1 to strangers: connections kept for the next request, every wait and size bounded.

Requests are written here and answers are read by ``http.client.HTTPResponse``: its connection
class knows only a silence timeout, which a peer that drips one byte at a time never meets.
Source: RFC 9110 and 9112.
"""

import http.client
import io
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from runtime.image.blob import Reader
from runtime.image.registry.errors import InterruptedTransferError, RegistryError, TransientError
from runtime.image.registry.patience import Patience
from runtime.image.registry.proxy import Proxy, proxy_for
from runtime.image.registry.trust import Trust
from runtime.image.registry.url import Url

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES = 128 << 10
MAX_IDLE = 8
"""Connections kept open for later, to all hosts together."""

_AGENT = "isoscope"
_DRAIN_BYTES = 64 << 10
_DRAIN_S = 1.0
_FIELD = re.compile(r"[\t -~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request carries: *source* gives exactly *size_bytes*."""

    source: bytes | Reader
    size_bytes: int


class Reply:
    """The answer to one request; its body is read once, in order, while the block is open."""

    def __init__(self, line: "_Line", response: http.client.HTTPResponse, url: Url) -> None:
        self._line = line
        self._response = response
        self._abandoned = False
        self.url = url
        self.status = response.status

    def header(self, name: str) -> str | None:
        """The header *name*; several of them joined by commas."""
        return self._response.getheader(name)

    @property
    def size_bytes(self) -> int | None:
        """How long the body says it is, or None if it does not say."""
        text = self.header("Content-Length") or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read(self, size: int) -> bytes:
        """At most *size* bytes of the body; none at its end. Raises TransientError."""
        with self._line.told():
            self._line.give_time()
            return self._response.read(min(size, CHUNK_BYTES))

    def document(self, limit_bytes: int) -> bytes:
        """The whole body, which may have *limit_bytes*. Raises RegistryError."""
        parts, seen_bytes = [], 0
        while chunk := self.read(limit_bytes + 1 - seen_bytes):
            parts.append(chunk)
            seen_bytes += len(chunk)
            if seen_bytes > limit_bytes:
                raise RegistryError(
                    f"{self.url.authority} answers with more than {limit_bytes} bytes"
                )
        if self.size_bytes not in {None, seen_bytes} and self._response.status != 304:
            raise TransientError(f"the answer of {self.url.authority} was cut off")
        return b"".join(parts)

    def abandon(self) -> None:
        """Want nothing more of this reply, nor of its connection."""
        self._abandoned = True

    def release(self) -> bool:
        """Read off a short rest of the body; whether the connection can serve once more."""
        if self._abandoned:
            return False
        with suppress(TransientError, InterruptedTransferError), self._line.told():
            self._line.give_time(_DRAIN_S)
            if not self._response.isclosed():
                self._response.read(_DRAIN_BYTES)
            return self._response.isclosed() and not self._response.will_close
        return False


class Wire:
    """The connections of one command. Threads may share it; ``close`` calls their work off."""

    def __init__(self, trust: Trust, patience: Patience) -> None:
        self.patience = patience
        self.called_off = threading.Event()
        self._trust = trust
        self._guard = threading.Lock()
        self._idle: list[_Line] = []
        self._busy: set[_Line] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every connection; who is reading or waiting gets InterruptedTransferError."""
        with self._guard:
            self.called_off.set()
            for line in self._busy:
                line.cut()
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def request(
        self, method: str, url: Url, headers: Mapping[str, str], body: Body | None = None
    ) -> Iterator[Reply]:
        """Send one request; the reply, whatever its status. Raises TransientError."""
        line = self._kept(url) or self._fresh(url)
        reusable = False
        try:
            try:
                reply = line.exchange(method, url, headers, body)
            except TransientError as error:
                if not error.at_once or not _repeatable(body):
                    raise
                self._give_back(line, reusable=False)
                line = self._fresh(url)
                reply = line.exchange(method, url, headers, body)
            yield reply
            reusable = reply.release()
        finally:
            self._give_back(line, reusable=reusable)

    def _kept(self, url: Url) -> "_Line | None":
        with self._guard:
            if self.called_off.is_set():
                raise InterruptedTransferError
            for line in reversed(self._idle):
                if line.origin == url.origin:
                    self._idle.remove(line)
                    self._busy.add(line)
                    line.used_before = True
                    return line
        return None

    def _fresh(self, url: Url) -> "_Line":
        line = _Line(url, self.patience, self.called_off, proxy_for(url, os.environ))
        with self._guard:
            if self.called_off.is_set():
                raise InterruptedTransferError
            self._busy.add(line)
        try:
            line.connect(self._trust)
        except BaseException:
            self._give_back(line, reusable=False)
            raise
        return line

    def _give_back(self, line: "_Line", *, reusable: bool) -> None:
        with self._guard:
            self._busy.discard(line)
            if reusable and not self.called_off.is_set():
                self._idle.append(line)
                line = self._idle.pop(0) if len(self._idle) > MAX_IDLE else line
                if line in self._idle:
                    return
        line.close()


class _Line:
    """One connection."""

    def __init__(
        self,
        url: Url,
        patience: Patience,
        called_off: threading.Event,
        proxy: Proxy | None = None,
    ) -> None:
        self.origin = url.origin
        self.used_before = False
        self._url = url
        self._proxy = proxy
        self._patience = patience
        self._called_off = called_off
        self._until_ns = 0
        self._socket: socket.socket | None = None

    def connect(self, trust: Trust) -> None:
        """Reach the host, by whichever of its addresses answers. Raises RegistryError."""
        with self.told():
            self._socket = self._connected()
        if self._url.scheme == "https":
            if self._proxy is not None:
                self._tunnel(self._proxy)
            with trust.told(self._url), self.told():
                self._socket = trust.secured(self._socket, self._url)

    def exchange(
        self, method: str, url: Url, headers: Mapping[str, str], body: Body | None
    ) -> Reply:
        """Send a request and read the head of its answer."""
        response = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]
        with self.told():
            broken = self._send(self._head(method, url, headers, body), body)
            self.give_time()
            try:
                response.begin()
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException, ValueError):
                raise broken or TransientError(
                    f"{url.authority} ended the connection without an answer",
                    at_once=self.used_before,
                ) from None
        self.used_before = False
        if broken is not None:
            response.will_close = True
        return Reply(self, response, url)

    def _head(self, method: str, url: Url, headers: Mapping[str, str], body: Body | None) -> bytes:
        if self._proxy is None or url.scheme == "https":
            return _head(method, url.target, url, headers, body)
        return _head(method, str(url), url, {**headers, **self._proxy.headers}, body)

    def _tunnel(self, proxy: Proxy) -> None:
        """Let *proxy* connect us: from then on it only passes on. Raises RegistryError."""
        host = f"[{self._url.host}]" if ":" in self._url.host else self._url.host
        target = f"{host}:{self._url.port}"
        response = http.client.HTTPResponse(self, method="CONNECT")  # type: ignore[arg-type]
        with self.told():
            self._send(_head("CONNECT", target, self._url, proxy.headers, None), None)
            self.give_time()
            response.begin()
        if response.status != 200:
            raise RegistryError(
                f"the proxy {proxy.url.authority} does not lead to {self._url.authority}:"
                f" it answers {response.status}",
                remedy="see HTTPS_PROXY; NO_PROXY names what is reached without it",
            )

    def give_time(self, most_s: float = math.inf) -> None:
        """From now on the peer has ``silence_s`` for what is read next, or less."""
        left_s = min(self._patience.silence_s, most_s)
        self._until_ns = time.monotonic_ns() + round(left_s * 1e9)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What HTTPResponse reads from; closing it leaves the connection open."""
        return io.BufferedReader(_Incoming(self), CHUNK_BYTES)

    def receive_into(self, buffer: "WriteableBuffer") -> int:
        """recv(2) that ends when the peer's time is over. Raises TimeoutError.

        A connection that is reset ends as one that is closed: what came before it counts.
        """
        left_s = (self._until_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0 or self._socket is None:
            raise TimeoutError
        self._socket.settimeout(left_s)
        try:
            return self._socket.recv_into(buffer)
        except TimeoutError:
            raise
        except OSError:
            return 0

    def cut(self) -> None:
        """End what is going on, from another thread."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._socket is not None:
            self._socket.close()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what breaks into a TransientError that names the host."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._called_off.is_set():
                raise InterruptedTransferError from error
            via = f" through the proxy {self._proxy.url.authority}" if self._proxy else ""
            raise TransientError(
                f"{self._url.authority}{via}: {_why(error, self._patience)}"
            ) from error

    def _connected(self) -> socket.socket:
        last: OSError = OSError("it has no address")
        near = self._url if self._proxy is None else self._proxy.url
        found = socket.getaddrinfo(near.host, near.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            candidate = socket.socket(family, kind, protocol)
            self._socket = candidate  # so that it can be cut while it connects
            try:
                self._require_wanted()
                candidate.settimeout(self._patience.connect_s)
                candidate.connect(address)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._require_wanted()
            except OSError as error:
                candidate.close()
                last = error
            else:
                return candidate
        raise last

    def _require_wanted(self) -> None:
        """Go on only if nobody called it off: what is not connected yet cannot be cut."""
        if self._called_off.is_set():
            raise InterruptedTransferError

    def _send(self, head: bytes, body: Body | None) -> TransientError | None:
        """Send all; if the peer stops listening, what to say unless it has answered already."""
        if self._socket is None:
            raise TimeoutError
        chunks = _chunks(body)
        try:
            self._socket.settimeout(self._patience.silence_s)
            self._socket.sendall(head)
            while chunk := next(chunks, b""):
                self._socket.settimeout(self._patience.silence_s)
                self._socket.sendall(chunk)
        except TimeoutError:
            raise
        except OSError as error:
            if self._called_off.is_set():
                raise InterruptedTransferError from error
            said = f"{self._url.authority}: {_why(error, self._patience)}"
            return TransientError(said, at_once=self.used_before)
        return None


class _Incoming(io.RawIOBase):
    """The bytes that come in over a line."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        return self._line.receive_into(buffer)


def _head(
    method: str, target: str, url: Url, headers: Mapping[str, str], body: Body | None
) -> bytes:
    fields = {
        "Host": url.authority,
        "User-Agent": _AGENT,
        "Accept-Encoding": "identity",  # digests count the bytes as they are stored
        **headers,
    }
    if body is not None or method in {"POST", "PUT", "PATCH"}:
        fields["Content-Length"] = str(0 if body is None else body.size_bytes)
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in fields.items():
        if not _FIELD.fullmatch(value):
            raise RegistryError(f"a value for the header {name} holds what no header may hold")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _repeatable(body: Body | None) -> bool:
    return body is None or isinstance(body.source, bytes)


def _chunks(body: Body | None) -> Iterator[bytes]:
    """Exactly as many bytes as were announced: a source that is shorter or longer is an error."""
    if body is None:
        return
    if isinstance(body.source, bytes):
        yield body.source
        return
    left = body.size_bytes
    while left:
        chunk = body.source.read(min(left, CHUNK_BYTES))
        if not chunk:
            raise RegistryError("what is to be sent is shorter than it says")
        left -= len(chunk)
        if not left and body.source.read(1):  # reading on also lets a source check its hash
            raise RegistryError("what is to be sent is longer than it says")
        yield chunk


def _why(error: Exception, patience: Patience) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {patience.silence_s:g} s"
    if isinstance(error, socket.gaierror):
        return "there is no such host, or no name server that knows it"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut off"
    return "it does not speak HTTP"
