"""Containers on images of many layers: what they see, and what becomes of the layers meanwhile."""

import gzip
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import leftovers
import pytest

from runtime.image import Image, Store, state_dir
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")
ROOT = Path(__file__).parent.parent.parent


def layer(*files: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def grown(image: Image, name: str, *tars: bytes) -> Image:
    """*image* under more layers."""
    store = Store()
    config = json.loads(store.read_blob(image.manifest.config))
    document = json.loads(store.read_blob(image.digest))
    with store.writing():
        for tar in tars:
            config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
            blob = store.write_blob(gzip.compress(tar, 1, mtime=0), LAYER_GZIP_TYPE)
            document["layers"].append(blob.to_json())
        document["config"] = store.write_blob(json.dumps(config).encode(), CONFIG_TYPE).to_json()
        made = store.write_blob(json.dumps(document).encode(), MANIFEST_TYPE)
        return store.tag(made.digest, name)


Run = Callable[[str, str], str]


@pytest.fixture
def run() -> Iterator[Run]:
    before = leftovers.seen()
    names: list[str] = []

    def call(name: str, script: str) -> str:
        names.append(name)
        command = [sys.executable, str(ROOT / "isoscope.py"), "run", name, "sh", "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    yield call
    assert not leftovers.settled(before)
    store = Store()
    for name in dict.fromkeys(names):
        store.remove(name)


@pytest.mark.parametrize(("count", "mounts"), [(128, 128), (300, 1)])
def test_as_many_layers_as_images_have_and_more(
    busybox: Image, run: Run, count: int, mounts: int
) -> None:
    tars = [layer((f"f{n}", b"%d" % n), ("top", b"%d" % n)) for n in range(1, count)]
    tars[-1] = layer((f"f{count - 1}", b"x"), (".wh.f1", b""), ("top", b"%d" % (count - 1)))
    grown(busybox, f"layers-{count}", *tars)
    said = run(
        f"layers-{count}",
        "cat f2 top; test -e f1 || echo ' gone'; ls -d f* | wc -l; sed q /proc/mounts",
    )
    first, number, mount = said.splitlines()
    assert first == f"2{count - 1} gone"
    assert int(number) == count - 2
    lower = mount.split("lowerdir=")[1].split(",")[0]
    assert len(lower.split(":")) == mounts


def test_deep_paths_need_no_more_descriptors_than_others(busybox: Image, run: Run) -> None:
    deep = "/".join("abcde")
    changes = (((f"{deep}/{n}", b""), (f"{deep}/.wh.{n - 1}", b"")) for n in range(1, 128))
    grown(busybox, "deep", *(layer(*change) for change in changes))
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, usual[1]))  # usual is 1024
    try:
        assert run("deep", f"ls {deep}") == "127\n"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_who_uses_layers_keeps_them(busybox: Image) -> None:
    name = grown(busybox, "used", layer(("only", b"here"))).references[0]
    before = leftovers.seen()
    words = ["run", name, "sh", "-c", "echo on; cat; cat only"]
    with subprocess.Popen(
        [sys.executable, str(ROOT / "isoscope.py"), *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == b"on\n"
        slots = {path.name for path in (state_dir() / "layers").iterdir()}
        Store().remove(name)  # below what refuses it: as if it had come at the same moment
        assert {path.name for path in (state_dir() / "layers").iterdir()} == slots
        assert running.communicate(b"", timeout=30)[0] == b"here"
    assert len(Store().sweep_layers()) >= 1
    assert not leftovers.settled(before)


def test_the_root_directory_is_the_images_own(busybox: Image, run: Run) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("./")
        info.type, info.mode, info.uid, info.mtime = tarfile.DIRTYPE, 0o751, 7, 1000
        archive.addfile(info)
    grown(busybox, "root-directory", tar.getvalue())
    assert run("root-directory", "stat -c '%a %u %Y' /") == "751 7 1000\n"
