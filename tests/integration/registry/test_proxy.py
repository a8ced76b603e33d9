"""A registry that only a proxy can reach: its name has no address on this machine."""

import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.build.downloading import download
from runtime.build.model import Download
from runtime.image import Image, ImageError, Store
from runtime.image.reference import parse_reference
from runtime.image.registry.access import Access
from runtime.image.registry.places import Settings
from runtime.image.registry.pull import pull
from runtime.image.registry.push import push
from runtime.image.registry.server import Server, serving
from runtime.image.registry.service import Service
from runtime.image.registry.trust import server_context


class HttpProxy(socketserver.ThreadingTCPServer):
    """Leads every request to *upstream*, whatever host it names, and notes what it was asked."""

    daemon_threads = True
    upstream: tuple[str, int]
    heads: list[str]


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, HttpProxy)
        head = b""
        while b"\r\n\r\n" not in head:
            if not (chunk := self.request.recv(1 << 16)):
                return
            head += chunk
        self.server.heads.append(head.partition(b"\r\n\r\n")[0].decode())
        with socket.create_connection(self.server.upstream) as upstream:
            if head.startswith(b"CONNECT"):
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:  # one request a connection: the next one is the proxy's again
                plain = re.sub(rb"^(\w+) http://[^/ ]+", rb"\1 ", head, count=1)
                upstream.sendall(plain.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            back = threading.Thread(target=pass_on, args=(upstream, self.request), daemon=True)
            back.start()
            pass_on(self.request, upstream)
            back.join()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # who hung up wants no more


@pytest.fixture
def leading() -> Iterator[Callable[[Server], HttpProxy]]:
    running: list[HttpProxy] = []

    def lead(server: Server) -> HttpProxy:
        proxy = HttpProxy(("127.0.0.1", 0), Handler)
        host, _, port = server.authority.rpartition(":")
        proxy.upstream, proxy.heads = (host, int(port)), []
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        running.append(proxy)
        return proxy

    yield lead
    for proxy in running:
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture(autouse=True)
def no_proxy_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_plain_http_is_asked_of_the_proxy(
    server: Server,
    ours: Store,
    theirs: Store,
    make: Callable[..., Image],
    access: Access,
    leading: Callable[[Server], HttpProxy],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    image = make(theirs, "a/b:1", 300_000, 2000)
    proxy = leading(server)
    monkeypatch.setenv("HTTP_PROXY", f"http://user:pass@127.0.0.1:{proxy.server_address[1]}")
    through = replace(access, settings=Settings(plain_http=True))
    done = pull(ours, parse_reference("registry.test/a/b:1"), through)
    assert done.image.digest == image.digest
    assert proxy.heads[0].startswith("GET http://registry.test/v2/")
    assert all("Proxy-Authorization: Basic dXNlcjpwYXNz" in head for head in proxy.heads)
    push(ours, "registry.test/a/b:1", parse_reference("registry.test/c/d:1"), through)
    assert {name for each in theirs.images() for name in each.references} >= {"c/d:1"}
    url = f"http://registry.test/v2/a/b/blobs/{image.manifest.layers[1].digest}"
    assert download(Download(url=url), tmp_path / "added").path.stat().st_size == 2000
    assert proxy.heads[-1].startswith(f"GET {url}")  # ADD takes the same way


def test_https_goes_through_a_tunnel_that_is_verified(
    theirs: Store,
    ours: Store,
    make: Callable[..., Image],
    access: Access,
    certificate: Path,
    leading: Callable[[Server], HttpProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = make(theirs, "a/b:1")
    tls = server_context(certificate / "cert.pem", certificate / "key.pem")
    with serving(theirs, Service(port=0, tls=tls)) as server:
        proxy = leading(server)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_address[1]}")
        trusting = replace(access, authorities=certificate / "cert.pem")
        done = pull(ours, parse_reference("registry.test:5000/a/b:1"), trusting)
        assert done.image.digest == image.digest
        assert proxy.heads[0].startswith("CONNECT registry.test:5000 HTTP/1.1\r\n")
        assert all(head.startswith("CONNECT ") for head in proxy.heads)
        with pytest.raises(ImageError, match="is not trusted"):
            pull(ours, parse_reference("other.test:5000/a/b:1"), trusting)


def test_a_proxy_that_is_not_there_is_named(
    ours: Store, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    with pytest.raises(ImageError, match=f"through the proxy 127.0.0.1:{port}: connection refu"):
        pull(ours, parse_reference("registry.test/a/b:1"), access)
