"""Registries that are real: ours, and Debian's docker-registry where it is installed."""

import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty
import pytest

from runtime.image import Image, Store
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE
from runtime.image.registry.access import Access
from runtime.image.registry.credentials import Credentials
from runtime.image.registry.patience import Patience
from runtime.image.registry.server import Server, serving
from runtime.image.registry.service import Bounds, Service

MakeImage = Callable[..., Image]


@pytest.fixture(autouse=True)
def login_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's real logins are read or written."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    """What the registry has."""
    return Store(tmp_path / "theirs")


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    """What the client has."""
    return Store(tmp_path / "ours")


@pytest.fixture
def access() -> Access:
    """As a user has it, but quick to lose patience."""
    return Access(
        patience=Patience(
            connect_s=5, silence_s=10, attempts=4, backoff_s=0.01, longest_wait_s=0.5
        ),
        credentials=Credentials(),
    )


@pytest.fixture
def make() -> MakeImage:
    """make(store, name, *sizes of layers) -> an image of random layers, or tars of such."""

    def tar_of(blob: bytes) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo(f"file-{len(blob)}")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
        return packed.getvalue()

    def make(
        store: Store,
        name: str,
        *sizes: int,
        architecture: str = "amd64",
        seed: int = 1,
        tars: bool = False,
    ) -> Image:
        stream = random.Random(seed)  # noqa: S311 - bytes to repeat, not a secret
        blobs = [stream.randbytes(size) for size in sizes or (300_000, 2000)]
        if tars:
            blobs = [tar_of(blob) for blob in blobs]
        config = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(blob).hexdigest()}" for blob in blobs],
            },
        }
        described = store.write_blob(json.dumps(config).encode(), CONFIG_TYPE)
        layers = [store.write_blob(blob, LAYER_GZIP_TYPE).to_json() for blob in blobs]
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": described.to_json(),
            "layers": layers,
        }
        digest = store.write_blob(json.dumps(manifest).encode()).digest
        return store.tag(digest, name)

    return make


@pytest.fixture
def server(theirs: Store) -> Iterator[Server]:
    service = Service(port=0, deletion=True, bounds=Bounds(silence_s=10, idle_s=10))
    with serving(theirs, service) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[faulty.Proxy]:
    host, _, port = server.authority.rpartition(":")
    with faulty.faulty((host, int(port))) as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``cert.pem`` and ``key.pem`` for localhost and registry.test."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl; apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def docker_registry(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """docker_registry(extra YAML) -> HOST:PORT of Debian's registry, running."""
    if shutil.which("docker-registry") is None:
        pytest.skip("no docker-registry; apt-get install docker-registry")
    running: list[subprocess.Popen[bytes]] = []

    def start(http: str = "", more: str = "") -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = tmp_path / f"registry-{port}.yml"
        settings.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {tmp_path}/data-{port}}}}}\n"
            f'http: {{addr: "127.0.0.1:{port}"{http}}}\n{more}'
        )
        process = subprocess.Popen(
            ["docker-registry", "serve", str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"]},
        )
        running.append(process)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            else:
                return f"127.0.0.1:{port}"

    yield start
    for process in running:
        process.terminate()
        process.wait()
