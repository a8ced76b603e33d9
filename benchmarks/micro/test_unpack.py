"""Unpacking a layer beside umoci: a Debian of some 170 MB, gzip, on the same disk, in turns.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_unpack.py``. Wall time of a
whole process. ``tree`` is what umoci does too: verified, written, not synced to the disk;
``snapshot`` is what a container waits for the first time, and on the disk when it returns.

Nothing is deleted until the end: ext4 passes over inodes that were freed in the last minute, and
searching for others costs more than all the rest (``recently_deleted`` in its ialloc.c).
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.stats import ratio_of_medians
from runtime.image import Image, Store
from runtime.image.debian import DebianRecipe, bootstrap_debian
from runtime.image.removal import remove_tree

ROUNDS = 10
RESAMPLES = 2000
ROOT = Path(__file__).parents[2]

TREE = """
import sys
from pathlib import Path
from runtime.image import Store, unpack
store = Store(Path(sys.argv[1]))
unpack(store, store.resolve("debian"), Path(sys.argv[2]))
"""
SNAPSHOT = """
import sys
from pathlib import Path
from runtime.image import Store, using_snapshots
store = Store(Path(sys.argv[1]))
with using_snapshots(store, store.resolve("debian")):
    pass
"""

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("umoci") and shutil.which("mmdebstrap")),
        reason="not installed: apt-get install umoci mmdebstrap",
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="layers keep their owners for root only"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a minimal Debian as ``debian``."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSCOPE_HOME", str(home))
        bootstrap_debian(Store(), "debian", DebianRecipe(), say=print)
    return Store(home / "images")


@pytest.fixture
def layout(store: Store, tmp_path: Path) -> str:
    """The same image for umoci, which does not take the tag's colon."""
    image: Image = store.resolve("debian")
    folder = tmp_path / "layout"
    folder.mkdir()
    (folder / "blobs").symlink_to(store.root / "blobs")
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    raw = store.read_blob(image.digest)
    entry = {
        "mediaType": image.manifest.media_type,
        "digest": image.digest,
        "size": len(raw),
        "annotations": {"org.opencontainers.image.ref.name": "debian"},
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return f"{folder}:debian"


def test_beside_umoci(store: Store, layout: str, tmp_path: Path) -> None:
    names = ["tree", "snapshot", "umoci"]
    stream = random.Random(2)
    taken: dict[str, dict[int, float]] = {name: {} for name in names}
    try:
        for block in range(-1, ROUNDS):
            for name in stream.sample(names, len(names)):
                seconds = _seconds(name, store, layout, tmp_path / f"{name}{block}")
                if block >= 0:  # the first warms the caches
                    taken[name][block] = seconds
    finally:
        remove_tree(tmp_path)
    medians = {name: sorted(times.values())[ROUNDS // 2] for name, times in taken.items()}
    for name in names[:2]:
        ratio = ratio_of_medians(taken[name], taken["umoci"], resamples=RESAMPLES, key="r")
        assert ratio is not None
        assert ratio.ci95 is not None
        print(
            f"\n{name}: isoscope {medians[name]:.2f} s, umoci {medians['umoci']:.2f} s, ratio"
            f" {ratio.estimate:.2f} [{ratio.ci95.low:.2f}, {ratio.ci95.high:.2f}]"
            f" of {ratio.blocks} pairs"
        )


def _seconds(name: str, store: Store, layout: str, target: Path) -> float:
    """One process that unpacks the image into *target*, or into a home there."""
    programs = {"tree": TREE, "snapshot": SNAPSHOT}
    command = (
        ["umoci", "raw", "unpack", "--image", layout, str(target)]
        if name == "umoci"
        else [sys.executable, "-c", programs[name], str(store.root), str(target)]
    )
    environment = {**os.environ, "ISOSCOPE_HOME": str(target), "PYTHONPATH": str(ROOT)}
    os.sync()  # nobody waits for what the one before left to be written
    started_ns = time.monotonic_ns()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return (time.monotonic_ns() - started_ns) / 1e9
