"""A small registry over the store: OCI distribution-spec 1.1, pull, push, discovery, deletion.

One thread a connection, a bounded number of them; heads, bodies and silences are bounded too, so
that a hostile client costs a connection for a while and nothing more.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from runtime.image.registry.catalog import Catalog
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.handler import Handler
from runtime.image.registry.incoming import BrokenBodyError
from runtime.image.registry.service import Service, Shelf
from runtime.image.registry.uploads import uploads
from runtime.image.store import Store

if TYPE_CHECKING:
    pass

_WAKE_S = 1.0


class Server:
    """A registry that listens."""

    def __init__(self, listener: socket.socket, service: Service, shelf: Shelf) -> None:
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
        # Python looks for signals before it sleeps, not in between: one that comes just there
        # would wait for the next, so the sleep has an end.
        while not self._closed.wait(_WAKE_S):
            pass

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
            Handler(line, address, self._service, self._shelf)
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
        server = Server(listener, service, Shelf(Catalog(store), receiving))
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
