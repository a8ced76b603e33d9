"""Building beside buildah: the same Dockerfile, in turns, everything made and everything cached.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_build.py``. Wall time of the
whole command, as a user waits for it. buildah isolates by chroot, which is its quickest way and
works everywhere; ours are containers.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.stats import ratio_of_medians
from runtime.image import Store, bootstrap_busybox

ROUNDS = 12
RESAMPLES = 2000
ROOT = Path(__file__).parents[2]
DOCKERFILE = """
FROM BASE AS build
WORKDIR /src
COPY . .
RUN cat data/* | sha256sum > digest
FROM BASE
COPY --from=build /src/digest /digest
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="builds need root; run as root"),
    pytest.mark.skipif(
        not (shutil.which("buildah") and shutil.which("skopeo")),
        reason="buildah and skopeo are not installed: apt-get install buildah skopeo",
    ),
    pytest.mark.timeout(1800),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Builders:
    """The command of each builder, by its name; ``fresh`` does everything again."""

    context: Path
    buildah: tuple[str, ...]
    policy: Path

    def command(self, name: str, *, fresh: bool) -> list[str]:
        """What is timed."""
        no_cache = ["--no-cache"] if fresh else []
        if name == "isoscope":
            file = str(self.context.parent / "ours")
            words = ["image", "build", "-q", *no_cache, "-f", file, "-t", "timed"]
            return [sys.executable, str(ROOT / "isoscope.py"), *words, str(self.context)]
        file = str(self.context.parent / "theirs")
        words = ["--isolation", "chroot", "--layers", "--format", "oci", "-f", file, "-t", "timed"]
        policy = ["--signature-policy", str(self.policy)]
        return [*self.buildah, "bud", *policy, *no_cache, *words, str(self.context)]


@pytest.fixture
def builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builders]:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "home"))
    context = tmp_path / "context"
    (context / "data").mkdir(parents=True)
    stream = random.Random(1)
    for number in range(100):
        (context / "data" / str(number)).write_bytes(stream.randbytes(20_000))
    (tmp_path / "ours").write_text(DOCKERFILE.replace("BASE", "busybox"))
    (tmp_path / "theirs").write_text(DOCKERFILE.replace("BASE", "localhost/busybox"))
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    place = (str(tmp_path / "root"), str(tmp_path / "run"))
    bootstrap_busybox(Store())
    layout = f"oci:{tmp_path}/base:busybox"
    copy = ["skopeo", "copy", "-q", "--policy", str(policy)]
    subprocess.run([*copy, f"oci:{Store().root}:busybox:latest", layout], check=True)
    storage = f"containers-storage:[overlay@{place[0]}+{place[1]}]localhost/busybox:latest"
    subprocess.run([*copy, layout, storage], check=True)
    options = ("--root", place[0], "--runroot", place[1], "--storage-driver", "overlay")
    try:
        yield Builders(context=context, buildah=("buildah", *options), policy=policy)
    finally:
        subprocess.run(["umount", f"{place[0]}/overlay"], check=False, capture_output=True)


@pytest.mark.parametrize("fresh", [True, False], ids=["uncached", "cached"])
def test_beside_buildah(builders: Builders, *, fresh: bool) -> None:
    names = ["isoscope", "buildah"]
    for name in names:
        _seconds(builders.command(name, fresh=False))
    stream = random.Random(2)
    taken: dict[str, dict[int, float]] = {name: {} for name in names}
    for block in range(ROUNDS):
        for name in stream.sample(names, len(names)):
            taken[name][block] = _seconds(builders.command(name, fresh=fresh))
    ratio = ratio_of_medians(taken["isoscope"], taken["buildah"], resamples=RESAMPLES, key="build")
    if ratio is None or ratio.ci95 is None:
        pytest.fail(f"no ratio of {taken}")
    medians = {name: sorted(times.values())[ROUNDS // 2] for name, times in taken.items()}
    print(
        f"\n{'uncached' if fresh else 'cached'}: isoscope {medians['isoscope']:.3f} s,"
        f" buildah {medians['buildah']:.3f} s, ratio {ratio.estimate:.2f}"
        f" [{ratio.ci95.low:.2f}, {ratio.ci95.high:.2f}] of {ratio.blocks} pairs"
    )


def _seconds(command: list[str]) -> float:
    started_ns = time.monotonic_ns()
    subprocess.run(command, check=True, capture_output=True)
    return (time.monotonic_ns() - started_ns) / 1e9
