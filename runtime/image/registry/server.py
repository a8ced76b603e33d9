"""A small registry over the store: OCI distribution-spec 1.1, pull, push, discovery, deletion.

One thread a connection, a bounded number of them; heads, bodies and silences are bounded too, so
that a hostile client costs a connection for a while and nothing more.
"""

import http.client
import io
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from runtime.errors import ImageError
from runtime.image.blob import Reader, digest_of
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.manifest import Descriptor
from runtime.image.reference import is_digest
from runtime.image.registry.catalog import Catalog, MissingPartError
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.incoming import BrokenBodyError, Deadline, Incoming, body_of
from runtime.image.registry.passwords import Passwords
from runtime.image.registry.routes import (
    ProblemError,
    Route,
    check_content_range,
    page,
    parse_range,
    parse_target,
)
from runtime.image.registry.uploads import Upload, UploadRefusedError, Uploads, uploads
from runtime.image.served import INDEX_TYPE, media_type_of, parts
from runtime.image.store import Store

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 256 << 10
_JSON = "application/json"
_DRAIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of us a client gets.

    ``head_s`` is the time for the head of a request, ``idle_s`` that between two requests,
    ``silence_s`` that for each chunk of 256 KiB, in either direction.
    """

    connections: int = 64
    head_s: float = 15.0
    idle_s: float = 60.0
    silence_s: float = 30.0
    blob_bytes: int = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is offered, and to whom.

    *passwords* None means everybody. *in_use* names what stands on an image, which then cannot
    be deleted. *log* is told each request, as a line.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    read_only: bool = False
    deletion: bool = False
    tls: ssl.SSLContext | None = None
    passwords: Passwords | None = None
    bounds: Bounds = field(default_factory=Bounds)
    in_use: Callable[[str], tuple[str, ...]] = lambda _: ()
    log: Callable[[str], None] = lambda _: None


class Server:
    """A registry that listens."""

    def __init__(self, listener: socket.socket, service: Service, shelf: "_Shelf") -> None:
        self._listener = listener
        self._service = service
        self._shelf = shelf
        self._free = threading.BoundedSemaphore(service.bounds.connections)
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = threading.Event()

    @property
    def authority(self) -> str:
        """Host and port, as they stand in an image's name."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def wait(self) -> None:
        """Return when another thread closes it; an interrupt ends the waiting too."""
        self._closed.wait()

    def serve(self) -> None:
        """Answer until ``close``."""
        while True:
            self._free.acquire()
            try:
                connection, address = self._listener.accept()
            except OSError:
                self._free.release()
                if self._closed.is_set():
                    return
                time.sleep(0.05)  # out of descriptors: some will be free in a moment
                continue
            thread = threading.Thread(target=self._attend, args=(connection, address[0]))
            with self._guard:
                self._open.add(connection)
                self._threads.add(thread)
            thread.start()

    def close(self) -> None:
        """Stop listening and end every connection; returns when all threads have ended."""
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            threads = tuple(self._threads)
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _attend(self, connection: socket.socket, address: str) -> None:
        line = connection
        try:
            connection.settimeout(self._service.bounds.head_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._service.tls is not None:
                line = self._service.tls.wrap_socket(connection, server_side=True)
            _Handler(line, address, self._service, self._shelf)
        except (OSError, BrokenBodyError, ValueError):
            pass  # it went away, or was too slow
        finally:
            with self._guard:
                self._open.discard(connection)
                self._threads.discard(threading.current_thread())
            with suppress(OSError):
                line.close()
            connection.close()
            self._free.release()


@contextmanager
def serving(store: Store, service: Service) -> Iterator[Server]:
    """A registry over *store* that answers while the block is open. Raises RegistryError."""
    with (
        uploads(store, max_bytes=service.bounds.blob_bytes) as receiving,
        _listening(service) as listener,
    ):
        server = Server(listener, service, _Shelf(Catalog(store), receiving))
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.close()
            thread.join()


@contextmanager
def _listening(service: Service) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            service.host, service.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RegistryError(f"cannot listen on {service.host}: {error.strerror}") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(service.bounds.connections)
        except OSError as error:
            raise RegistryError(
                f"cannot listen on {service.host} port {service.port}: {error.strerror}",
                remedy="choose another with --host or --port",
            ) from error
        yield listener


@dataclass(frozen=True, slots=True)
class _Shelf:
    """What all connections share."""

    catalog: Catalog
    uploads: Uploads

    @property
    def store(self) -> Store:
        return self.catalog.store


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


class _Handler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "isoscope"
    sys_version = ""

    def __init__(self, line: socket.socket, address: str, service: Service, shelf: _Shelf) -> None:
        self._line = line
        self._service = service
        self._shelf = shelf
        self._deadline = Deadline()
        self.client_address = (address, 0)
        self.rfile = self._input = io.BufferedReader(Incoming(line, self._deadline), CHUNK_BYTES)
        self.wfile = _Outgoing(line, service.bounds.silence_s)  # type: ignore[assignment]
        self.close_connection = False
        self._body: Reader = io.BytesIO()
        self._body_bytes: int | None = None
        self._sent = 0
        try:
            while not self.close_connection:
                self._deadline.give(service.bounds.idle_s)
                if self._input.peek(1)[:1] in {b"", b"\x16"}:  # it left, or speaks TLS
                    return
                self._deadline.give(service.bounds.head_s)
                self._body, self._body_bytes, self._sent = io.BytesIO(), None, 0
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
        self._refuse(problem)

    def log_message(self, *_: object) -> None:
        """Say nothing: ``_answer`` does."""

    def _answer(self) -> None:
        try:
            self._body, self._body_bytes = body_of(
                self.headers,
                self._input,
                partial(self._deadline.give, self._service.bounds.silence_s),
            )
            self._admit()
            self._dispatch(parse_target(self.path))
        except ProblemError as problem:
            self._refuse(problem)
        except UploadRefusedError as error:
            self._refuse(ProblemError(error.status, error.code, str(error)))
        except BrokenBodyError as error:
            self.close_connection = True
            self._refuse(ProblemError(400, "SIZE_INVALID", str(error)))
        except ImageError as error:
            print(f"isoscope: {error}", file=sys.stderr)  # noqa: T201 - the operator must know
            self.close_connection = True
            self._refuse(ProblemError(500, "UNKNOWN", "the server's store is damaged"))
        self._service.log(f"{self.client_address[0]} {self.command} {self.path} {self._sent}")

    def _admit(self) -> None:
        passwords = self._service.passwords
        if passwords is not None and not passwords.admit(self.headers.get("Authorization")):
            raise ProblemError(401, "UNAUTHORIZED", "log in first")
        writes = self.command not in {"GET", "HEAD"}
        if writes and self._service.read_only:
            raise ProblemError(405, "UNSUPPORTED", "this registry is read-only")

    def _dispatch(self, route: Route) -> None:
        method = "GET" if self.command == "HEAD" else self.command
        actions: Mapping[tuple[str, str], Callable[[Route], None]] = {
            ("base", "GET"): lambda _: self._send_json({}),
            ("catalog", "GET"): self._list_repositories,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("blob", "GET"): self._get_blob,
            ("blob", "DELETE"): self._delete_blob,
            ("uploads", "POST"): self._begin_upload,
            ("upload", "GET"): self._tell_upload,
            ("upload", "PATCH"): self._add_to_upload,
            ("upload", "PUT"): self._finish_upload,
            ("upload", "DELETE"): self._cancel_upload,
            ("tags", "GET"): self._list_tags,
            ("referrers", "GET"): self._list_referrers,
        }
        action = actions.get((route.kind, method))
        if action is None:
            raise ProblemError(405, "UNSUPPORTED", f"{self.command} means nothing here")
        action(route)

    # Manifests

    def _get_manifest(self, route: Route) -> None:
        found = self._shelf.catalog.find(route.name, route.item)
        if found is None:
            raise ProblemError(404, "MANIFEST_UNKNOWN", "there is no such manifest")
        raw = self._shelf.store.read_blob(found)
        self._send(200, raw, found.media_type, headers={"Docker-Content-Digest": found.digest})

    def _put_manifest(self, route: Route) -> None:
        raw = self._whole_body(MAX_DOCUMENT_BYTES)
        told = self.headers.get("Content-Type")
        if is_digest(route.item) and digest_of(raw) != route.item:
            raise ProblemError(400, "DIGEST_INVALID", "the manifest hashes to another digest")
        self._restore_parts(raw, told)
        try:
            done = self._shelf.catalog.put(route.name, route.item, raw, told)
        except MissingPartError as error:
            raise ProblemError(400, "MANIFEST_BLOB_UNKNOWN", error.message) from None
        except ImageError as error:
            raise ProblemError(400, "MANIFEST_INVALID", error.message) from None
        headers = {
            "Location": f"/v2/{route.name}/manifests/{done.digest}",
            "Docker-Content-Digest": done.digest,
        }
        if done.subject is not None:
            headers["OCI-Subject"] = done.subject
        self._send(201, headers=headers)

    def _restore_parts(self, raw: bytes, told: str | None) -> None:
        """Blobs of the manifest that a removal took since they were sent come back."""
        with suppress(ImageError):
            kind = media_type_of(raw, told, "manifest")
            descriptor = Descriptor(media_type=kind, digest="manifest", size_bytes=len(raw))
            for part in parts(descriptor, raw):
                self._shelf.uploads.restore(part.digest)

    def _delete_manifest(self, route: Route) -> None:
        self._require_deletion()
        catalog = self._shelf.catalog
        found = catalog.find(route.name, route.item)
        if found is None:
            raise ProblemError(404, "MANIFEST_UNKNOWN", "there is no such manifest")
        if running := self._service.in_use(found.digest):
            raise ProblemError(409, "DENIED", f"it is in use by {', '.join(running)}")
        if is_digest(route.item):
            catalog.delete(route.name, route.item)
        else:
            catalog.untag(route.name, route.item)
        self._send(202)

    # Blobs

    def _get_blob(self, route: Route) -> None:
        store = self._shelf.store
        try:
            opened = store.open_raw(route.item)
            with opened as (file, size_bytes):
                part = parse_range(self.headers.get("Range") or "", size_bytes)
                if part is not None:
                    file.seek(part[0])
                    self._send_stream(file, size_bytes, route.item, part)
                    return
            with store.open_blob(route.item) as reader:
                self._send_stream(reader, size_bytes, route.item, None)
        except ImageError as error:
            if self._sent:  # its hash came out wrong: the client must not have all of it
                self.close_connection = True
                print(f"isoscope: {error}", file=sys.stderr)  # noqa: T201
                return
            raise ProblemError(404, "BLOB_UNKNOWN", "there is no such blob") from None

    def _send_stream(
        self, source: Reader, size_bytes: int, digest: str, part: tuple[int, int] | None
    ) -> None:
        first, last = part or (0, size_bytes - 1)
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
        }
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
        self._head(200 if part is None else 206, headers)
        if self.command == "HEAD":
            return
        left = last - first + 1
        held = b""  # sent once what follows is known to be good: so a bad blob is cut short
        while left:
            chunk = source.read(min(left, CHUNK_BYTES) if part is not None else CHUNK_BYTES)
            if not chunk:
                self.close_connection = True
                return
            self.wfile.write(held)
            held = chunk
            left -= len(chunk)
        if part is None:
            source.read(1)  # lets it check its hash
        self.wfile.write(held)

    def _delete_blob(self, route: Route) -> None:
        self._require_deletion()
        kept = self._shelf.uploads.drop(route.item)
        if self._shelf.catalog.is_part(route.item):
            raise ProblemError(409, "DENIED", "an image needs this blob")
        if not kept and route.item not in self._shelf.store.sweep():
            raise ProblemError(404, "BLOB_UNKNOWN", "there is no such blob")
        self._send(202)

    # Uploads

    def _begin_upload(self, route: Route) -> None:
        mount, digest = route.query.get("mount"), route.query.get("digest")
        if mount is not None and is_digest(mount) and self._has(mount):
            self._send_created(route.name, mount)
            return
        upload = self._shelf.uploads.begin(route.name)
        if digest is None:
            self._send_progress(202, upload)
            return
        with self._shelf.uploads.using(route.name, upload.name):
            self._receive_last(upload, digest)

    def _tell_upload(self, route: Route) -> None:
        with self._shelf.uploads.using(route.name, route.item) as upload:
            self._send_progress(204, upload)

    def _add_to_upload(self, route: Route) -> None:
        with self._shelf.uploads.using(route.name, route.item) as upload:
            check_content_range(
                self.headers.get("Content-Range"), upload.size_bytes, self._body_bytes
            )
            self._shelf.uploads.append(upload, self._body)
            self._send_progress(202, upload)

    def _finish_upload(self, route: Route) -> None:
        digest = route.query.get("digest", "")
        with self._shelf.uploads.using(route.name, route.item) as upload:
            check_content_range(
                self.headers.get("Content-Range"), upload.size_bytes, self._body_bytes
            )
            self._receive_last(upload, digest)

    def _receive_last(self, upload: Upload, digest: str) -> None:
        receiving = self._shelf.uploads
        if not is_digest(digest):
            receiving.cancel(upload)
            raise ProblemError(400, "DIGEST_INVALID", "a digest is sha256: and 64 hex digits")
        receiving.append(upload, self._body)
        receiving.finish(upload, digest)
        self._send_created(upload.repository, digest)

    def _cancel_upload(self, route: Route) -> None:
        with self._shelf.uploads.using(route.name, route.item) as upload:
            self._shelf.uploads.cancel(upload)
        self._send(204)

    def _send_created(self, name: str, digest: str) -> None:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        self._send(201, headers=headers)

    def _send_progress(self, status: int, upload: Upload) -> None:
        headers = {
            "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.name}",
            "Range": f"0-{max(0, upload.size_bytes - 1)}",
            "Docker-Upload-UUID": upload.name,
        }
        self._send(status, headers=headers)

    def _has(self, digest: str) -> bool:
        try:
            with self._shelf.store.open_raw(digest):
                return True
        except ImageError:
            return False

    # Lists

    def _list_tags(self, route: Route) -> None:
        tags = self._shelf.catalog.tags(route.name)
        if not tags:
            raise ProblemError(404, "NAME_UNKNOWN", "there is no such repository")
        some, more = page(tags, route.query)
        following = f"/v2/{route.name}/tags/list"
        self._send_page({"name": route.name, "tags": list(some)}, following, some, more=more)

    def _list_repositories(self, route: Route) -> None:
        some, more = page(self._shelf.catalog.repositories(), route.query)
        self._send_page({"repositories": list(some)}, "/v2/_catalog", some, more=more)

    def _list_referrers(self, route: Route) -> None:
        lines = self._shelf.catalog.referrers(route.item)
        headers = {}
        if (kind := route.query.get("artifactType")) is not None:
            lines = [line for line in lines if line.get("artifactType") == kind]
            headers["OCI-Filters-Applied"] = "artifactType"
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": lines}
        self._send(200, json.dumps(document).encode(), INDEX_TYPE, headers=headers)

    def _send_page(
        self, document: object, target: str, some: tuple[str, ...], *, more: bool
    ) -> None:
        headers = {}
        if more:
            headers["Link"] = f'<{target}?n={len(some)}&last={some[-1]}>; rel="next"'
        self._send(200, json.dumps(document).encode(), _JSON, headers=headers)

    # Answers

    def _require_deletion(self) -> None:
        if not self._service.deletion:
            raise ProblemError(405, "UNSUPPORTED", "this registry deletes nothing")

    def _whole_body(self, limit_bytes: int) -> bytes:
        taken, seen_bytes = [], 0
        while chunk := self._body.read(CHUNK_BYTES):
            taken.append(chunk)
            seen_bytes += len(chunk)
            if seen_bytes > limit_bytes:
                self.close_connection = True
                raise ProblemError(413, "MANIFEST_INVALID", f"the limit is {limit_bytes} bytes")
        return b"".join(taken)

    def _send_json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), _JSON)

    def _refuse(self, problem: ProblemError) -> None:
        headers = {}
        if problem.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="isoscope", charset="UTF-8"'
        if problem.status == 429:
            headers["Retry-After"] = "5"
        with suppress(OSError):
            self._send(problem.status, problem.body(), _JSON, headers=headers)

    def _send(
        self,
        status: int,
        body: bytes = b"",
        kind: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._drain()
        fields = {} if kind is None else {"Content-Type": kind}
        if status != 204:
            fields["Content-Length"] = str(len(body))
        self._head(status, {**fields, **(headers or {})})
        if body and self.command != "HEAD":
            self.wfile.write(body)

    def _drain(self) -> None:
        """Read off what the client still sends, or end the connection if that is much."""
        left = _DRAIN_BYTES
        try:
            while chunk := self._body.read(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    self.close_connection = True
                    return
        except (BrokenBodyError, OSError):
            self.close_connection = True

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._sent = status
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
