"""Requests and answers of one connection to our registry, whatever they are about.

Heads, bodies and silences are bounded, so that a hostile client costs a connection for a while and
nothing more. What a request means is told in ``runtime.image.registry.handler``.
"""

import http.client
import io
import json
import socket
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from runtime.errors import ImageError
from runtime.image.blob import Reader
from runtime.image.registry.incoming import BrokenBodyError, Deadline, Incoming, body_of
from runtime.image.registry.routes import ProblemError, Route, parse_target
from runtime.image.registry.service import Service, Shelf
from runtime.image.registry.uploads import UploadRefusedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 256 << 10
JSON_TYPE = "application/json"
_DRAIN_BYTES = 1 << 20


class _Outgoing(io.RawIOBase):
    """The bytes that go out, each write in time."""

    def __init__(self, line: socket.socket, silence_s: float) -> None:
        self._line = line
        self._silence_s = silence_s

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        self._line.settimeout(self._silence_s)
        self._line.sendall(data)
        return memoryview(data).nbytes


class Exchange(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "isoscope"
    sys_version = ""

    def __init__(self, line: socket.socket, address: str, service: Service, shelf: Shelf) -> None:
        self._line = line
        self.service = service
        self.shelf = shelf
        self.deadline = Deadline()
        self.client_address = (address, 0)
        self.rfile = self._input = io.BufferedReader(Incoming(line, self.deadline), CHUNK_BYTES)
        self.wfile = _Outgoing(line, service.bounds.silence_s)  # type: ignore[assignment]
        self.close_connection = False
        self.body: Reader = io.BytesIO()
        self.body_bytes: int | None = None
        self.sent = 0
        try:
            while not self.close_connection:
                self.deadline.give(service.bounds.idle_s)
                if self._input.peek(1)[:1] in {b"", b"\x16"}:  # it left, or speaks TLS
                    return
                self.deadline.give(service.bounds.head_s)
                self.body, self.body_bytes, self.sent = io.BytesIO(), None, 0
                self.handle_one_request()
        finally:
            self.rfile.close()

    def __getattr__(self, name: str) -> Callable[[], None]:
        """The base class asks for ``do_METHOD``: one place answers all of them."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """What the base class found wrong with a request, in the specification's form."""
        self.close_connection = True
        problem = ProblemError(code, "UNSUPPORTED", message or explain or "this is no request")
        self.refuse(problem)

    def log_message(self, *_: object) -> None:
        """Say nothing: ``_answer`` does."""

    def _answer(self) -> None:
        try:
            self.body, self.body_bytes = body_of(
                self.headers,
                self._input,
                partial(self.deadline.give, self.service.bounds.silence_s),
            )
            self._admit()
            self.dispatch(parse_target(self.path))
        except ProblemError as problem:
            self.refuse(problem)
        except UploadRefusedError as error:
            self.refuse(ProblemError(error.status, error.code, str(error)))
        except BrokenBodyError as error:
            self.close_connection = True
            self.refuse(ProblemError(400, "SIZE_INVALID", str(error)))
        except ImageError as error:
            print(f"isoscope: {error}", file=sys.stderr)  # noqa: T201 - the operator must know
            self.close_connection = True
            self.refuse(ProblemError(500, "UNKNOWN", "the server's store is damaged"))
        self.service.log(f"{self.client_address[0]} {self.command} {self.path} {self.sent}")

    def _admit(self) -> None:
        passwords = self.service.passwords
        if passwords is not None and not passwords.admit(self.headers.get("Authorization")):
            raise ProblemError(401, "UNAUTHORIZED", "log in first")
        writes = self.command not in {"GET", "HEAD"}
        if writes and self.service.read_only:
            raise ProblemError(405, "UNSUPPORTED", "this registry is read-only")

    @abstractmethod
    def dispatch(self, route: Route) -> None:
        """Do what is asked of *route*. Raises ProblemError, ImageError."""

    def whole_body(self, limit_bytes: int) -> bytes:
        taken, seen_bytes = [], 0
        while chunk := self.body.read(CHUNK_BYTES):
            taken.append(chunk)
            seen_bytes += len(chunk)
            if seen_bytes > limit_bytes:
                self.close_connection = True
                raise ProblemError(413, "MANIFEST_INVALID", f"the limit is {limit_bytes} bytes")
        return b"".join(taken)

    def send_json(self, document: object) -> None:
        self.send(200, json.dumps(document).encode(), JSON_TYPE)

    def refuse(self, problem: ProblemError) -> None:
        headers = {}
        if problem.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="isoscope", charset="UTF-8"'
        if problem.status == 429:
            headers["Retry-After"] = "5"
        with suppress(OSError):
            self.send(problem.status, problem.body(), JSON_TYPE, headers=headers)

    def send(
        self,
        status: int,
        body: bytes = b"",
        kind: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.drain()
        fields = {} if kind is None else {"Content-Type": kind}
        if status != 204:
            fields["Content-Length"] = str(len(body))
        self.send_head(status, {**fields, **(headers or {})})
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def drain(self) -> None:
        """Read off what the client still sends, or end the connection if that is much."""
        left = _DRAIN_BYTES
        try:
            while chunk := self.body.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    self.close_connection = True
                    return
        except (BrokenBodyError, OSError):
            self.close_connection = True

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.sent = status
        phrase = http.client.responses.get(status, "")
        lines = [
            f"HTTP/1.1 {status} {phrase}",
            "Docker-Distribution-Api-Version: registry/2.0",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if self.close_connection:
            lines.append("Connection: close")
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
