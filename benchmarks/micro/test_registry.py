"""Pulling and pushing beside skopeo: the same image and registry on loopback, in turns.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_registry.py``. Wall time of
the whole command, as a user waits for it, with docker-registry at the other end and with ours.
``pull`` and ``push`` end with the image as it came, not unpacked: skopeo in an OCI layout, ours in
the store, which syncs it to the disk before it says so; skopeo does not. ``start`` is what a first
container waits for: our pull and snapshots, on the disk when they are said to be, beside skopeo
and ``umoci raw unpack``, which are not.

Python's bytecode is kept, as it is on a user's machine, whatever the environment says: without it
each start compiles our modules again, 0.2 s here.
"""

import hashlib
import io
import json
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from isal import igzip

from benchmarks.stats import ratio_of_medians
from runtime.image import Store
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE
from runtime.image.registry.server import serving
from runtime.image.registry.service import Service

ROUNDS = 12
RESAMPLES = 2000
IMAGE_BYTES = 170 << 20
LAYERS = 4
ROOT = Path(__file__).parents[2]

SNAPSHOT = """
import sys
from runtime.image import Store, using_snapshots
store = Store()
with using_snapshots(store, store.resolve(sys.argv[1])):
    pass
"""

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("docker-registry") and shutil.which("skopeo")),
        reason="not installed: apt-get install docker-registry skopeo",
    ),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A registry at *host*, a folder for what is pulled, and the store with the image."""

    host: str
    folder: Path
    store: Store

    def command(self, who: str, what: str) -> list[str]:
        """What is timed."""
        name = f"{self.host}/image:1"
        if what == "start":
            pulled = shlex.join(self.command(who, "pull"))
            unpacked = shlex.join(self._unpack(who, name))
            return ["sh", "-ec", f"{pulled}; {unpacked}"]
        if who == "isoscope":
            words = ["push", "-q", "image"] if what == "push" else ["pull", "-q"]
            return [sys.executable, str(ROOT / "isoscope.py"), "image", *words, name]
        copy = ["skopeo", "--insecure-policy", "copy", "-q"]
        if what == "push":
            source = f"oci:{self.store.root}:image:latest"
            return [*copy, "--dest-tls-verify=false", source, f"docker://{name}"]
        target = f"oci:{self.folder}/layout:image"
        return [*copy, "--src-tls-verify=false", f"docker://{name}", target]

    def _unpack(self, who: str, name: str) -> list[str]:
        if who == "isoscope":
            return [sys.executable, "-c", SNAPSHOT, name]
        layout = f"{self.folder}/layout:image"
        return ["umoci", "raw", "unpack", "--image", layout, f"{self.folder}/tree"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with 170 MB of this machine's own programs in four layers, as ``image``."""
    store = Store(tmp_path_factory.mktemp("home") / "images")
    files = sorted(path for path in Path("/usr/lib").rglob("*") if path.is_file())
    random.Random(1).shuffle(files)
    layers, diff_ids = [], []
    for _ in range(LAYERS):
        raw = _tar(files, IMAGE_BYTES // LAYERS)
        diff_ids.append(f"sha256:{hashlib.sha256(raw).hexdigest()}")
        layers.append(store.write_blob(igzip.compress(raw, 1), LAYER_GZIP_TYPE).to_json())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": store.write_blob(json.dumps(config).encode(), CONFIG_TYPE).to_json(),
        "layers": layers,
    }
    store.tag(store.write_blob(json.dumps(manifest).encode()).digest, "image")
    return store


def _tar(files: list[Path], size_bytes: int) -> bytes:
    """Some of *files*, which are fewer then, as a layer of about *size_bytes*."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        while packed.tell() < size_bytes:
            path = files.pop()
            archive.add(path, str(path.relative_to("/")), recursive=False)
    return packed.getvalue()


@contextmanager
def _docker_registry(folder: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    settings = folder / "registry.yml"
    settings.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '{host}'}}\n"
    )
    with subprocess.Popen(
        ["docker-registry", "serve", str(settings)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", int(host.split(":")[1]))).close()
                except OSError:
                    time.sleep(0.05)
                else:
                    break
            yield host
        finally:
            process.terminate()


@contextmanager
def _ours(folder: Path) -> Iterator[str]:
    with serving(Store(folder / "data"), Service(port=0)) as server:
        yield server.authority


REGISTRIES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "docker-registry": _docker_registry,
    "our registry": _ours,
}


@pytest.mark.parametrize("registry", REGISTRIES)
@pytest.mark.parametrize("what", ["pull", "push", "start"])
def test_beside_skopeo(image: Store, tmp_path: Path, what: str, registry: str) -> None:
    if what == "start" and (shutil.which("umoci") is None or os.geteuid() != 0):
        pytest.skip("unpacking as umoci does needs root; apt-get install umoci")
    names = ["isoscope", "skopeo"]
    stream = random.Random(2)
    taken: dict[str, dict[int, float]] = {name: {} for name in names}
    for block in range(-1, ROUNDS):
        for name in stream.sample(names, len(names)):
            folder = tmp_path / f"{name}{block}"
            folder.mkdir()
            with REGISTRIES[registry](folder) as host:  # empty, so that nothing is there already
                seconds = _seconds(Place(host=host, folder=folder, store=image), name, what)
            shutil.rmtree(folder)
            if block >= 0:  # the first warms the caches
                taken[name][block] = seconds
    ratio = ratio_of_medians(taken["isoscope"], taken["skopeo"], resamples=RESAMPLES, key="r")
    assert ratio is not None
    assert ratio.ci95 is not None
    medians = {name: sorted(times.values())[ROUNDS // 2] for name, times in taken.items()}
    print(
        f"\n{what}, {registry}: isoscope {medians['isoscope']:.3f} s,"
        f" skopeo {medians['skopeo']:.3f} s, ratio {ratio.estimate:.2f}"
        f" [{ratio.ci95.low:.2f}, {ratio.ci95.high:.2f}] of {ratio.blocks} pairs"
    )


def _seconds(place: Place, who: str, what: str) -> float:
    """One command with nothing there before, as for a new image; its bytecode is."""
    if what != "push":
        source = f"oci:{place.store.root}:image:latest"
        copy = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", source]
        subprocess.run([*copy, f"docker://{place.host}/image:1"], check=True)
    home = place.store.root.parent if what == "push" else place.folder / "home"
    environment = {
        **os.environ,
        "ISOSCOPE_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(place.store.root.parent / "bytecode"),
    }
    os.sync()  # nobody waits for what the one before left to be written
    started_ns = time.monotonic_ns()
    subprocess.run(place.command(who, what), check=True, capture_output=True, env=environment)
    return (time.monotonic_ns() - started_ns) / 1e9
