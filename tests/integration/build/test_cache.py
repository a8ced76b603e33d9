"""What is found again, what is not, and that no cache is ever believed blindly."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from integration.build.workplace import ROOT, Workplace, isoscope

from runtime.build.cache import Cache, prune
from runtime.build.eviction import cache_bytes, shrink
from runtime.image import Store

DOCKERFILE = """FROM busybox
WORKDIR /work
COPY in .
RUN cat file > copy
"""


def test_times_owners_and_places_of_a_context_change_nothing(
    workplace: Workplace, tmp_path: Path
) -> None:
    workplace.write("in/file", "data")
    (workplace.context / "in/link").symlink_to("file")
    first = workplace.build(DOCKERFILE)
    elsewhere = Workplace(tmp_path / "elsewhere")
    shutil.copytree(workplace.context, elsewhere.context, symlinks=True)
    for path in (elsewhere.context / "in").iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
        os.chown(path, 12, 34, follow_symlinks=False)
    again = elsewhere.build(DOCKERFILE)
    assert elsewhere.run_steps() == []
    assert len(elsewhere.cached()) == 3
    assert again.digest == first.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda context: (context / "in/file").write_text("DATA"),
        lambda context: (context / "in/file").chmod(0o600),
        lambda context: (context / "in/new").write_text(""),
        lambda context: (context / "in/file").rename(context / "in/other"),
        lambda context: (context / "in/sub").mkdir(),
    ],
)
def test_names_modes_and_contents_count(
    workplace: Workplace, change: Callable[[Path], object]
) -> None:
    workplace.write("in/file", "data")
    dockerfile = DOCKERFILE.replace("cat file > copy", "ls")
    first = workplace.build(dockerfile)
    change(workplace.context)
    assert workplace.build(dockerfile).digest != first.digest
    assert workplace.cached() == ["WORKDIR /work"]


def test_the_same_build_without_a_cache_gives_the_same_digest(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    dockerfile = DOCKERFILE + "RUN mkdir d && touch d/now && rm /bin/ash\nCOPY --from=0 /bin /b\n"
    dockerfile = dockerfile.replace("FROM busybox\n", "FROM busybox AS zero\nFROM zero\n", 1)
    first = workplace.build(dockerfile)
    again = workplace.build(dockerfile, no_cache=True)
    assert workplace.cached() == []
    assert again.digest == first.digest
    config = json.loads(workplace.store.read_blob(again.manifest.config))
    assert config["created"] == "1980-01-01T00:00:00Z"
    assert [entry["created_by"] for entry in config["history"][-5:]] == [
        "WORKDIR /work", "COPY in .", "RUN cat file > copy",
        "RUN mkdir d && touch d/now && rm /bin/ash", "COPY --from=0 /bin /b",
    ]  # fmt: skip


def test_another_epoch_is_another_image(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    later = workplace.build(DOCKERFILE, epoch_s=1_000_000_000)
    tree = workplace.tree(later)
    assert (tree / "work/file").stat().st_mtime == 1_000_000_000
    assert (tree / "work/copy").stat().st_mtime == 1_000_000_000
    assert later.created == "2001-09-09T01:46:40Z"


def test_a_step_that_comes_to_the_same_lets_the_next_be_found(workplace: Workplace) -> None:
    dockerfile = """
FROM busybox AS tool
ARG NOISE
RUN echo $NOISE > /dev/null && echo tool > /tool && echo $NOISE > /noise
FROM busybox
COPY --from=tool /tool /tool
RUN echo later
"""
    workplace.build(dockerfile, build_args={"NOISE": "1"})
    workplace.build(dockerfile, build_args={"NOISE": "2"})
    assert workplace.run_steps() == [
        "RUN echo $NOISE > /dev/null && echo tool > /tool && echo $NOISE > /noise"
    ]
    assert workplace.cached() == ["COPY --from=tool /tool /tool", "RUN echo later"]


def test_link_is_found_on_another_base(workplace: Workplace) -> None:
    workplace.write("file", "data")
    text = "FROM busybox\nRUN echo BASE > /base\nCOPY --link file /deep/file\n"
    first = workplace.build(text.replace("BASE", "one"))
    second = workplace.build(text.replace("BASE", "two"))
    assert workplace.cached() == ["COPY --link file /deep/file"]
    assert first.manifest.layers[-1] == second.manifest.layers[-1]
    tree = workplace.tree(second)
    assert (tree / "base").read_text() == "two\n"
    assert (tree / "deep/file").read_text() == "data"


def _become(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def _records() -> list[Path]:
    return sorted((Cache(Store()).root / "steps").glob("*.json"))


HARMS: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-7]),
    lambda path: path.write_text('{"layer": 7}'),
    lambda path: path.write_text(path.read_text().replace("sha256:", "sha256:../")),
    lambda path: _become(path, os.mkfifo),
    lambda path: _become(path, os.mkdir),
]


def test_a_damaged_record_is_not_believed(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    first = workplace.build(DOCKERFILE)
    for harms in (HARMS[:3], HARMS[3:]):
        prune(Store())
        workplace.build(DOCKERFILE)
        for path, harm in zip(_records(), harms, strict=True):
            harm(path)
        assert workplace.build(DOCKERFILE).digest == first.digest
        assert workplace.cached() == []


def test_a_damaged_layer_is_made_again(workplace: Workplace) -> None:
    prune(Store())
    workplace.write("in/file", "data")
    first = workplace.build(DOCKERFILE)
    for layer in first.manifest.layers[1:]:
        blob = workplace.store.root / "blobs/sha256" / layer.digest[7:]
        blob.write_bytes(b"?" * layer.size_bytes)  # both names of it, store and cache
    assert workplace.build(DOCKERFILE).digest == first.digest
    assert workplace.cached() == []
    assert (workplace.tree(first) / "work/copy").read_text() == "data"


def test_removing_the_image_leaves_the_cache_and_pruning_empties_it(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    dockerfile = DOCKERFILE + "RUN echo of-this-test-only > mark\n"
    first = workplace.build(dockerfile, tags=("gone",))
    workplace.store.remove(first.digest)
    again = workplace.build(dockerfile)
    assert workplace.run_steps() == []
    assert again.digest == first.digest
    assert (workplace.tree(again) / "work/mark").read_text() == "of-this-test-only\n"
    assert prune(Store()) >= 0
    assert not (Cache(Store()).root / "layers").exists()
    workplace.build(dockerfile)
    assert workplace.cached() == []


def test_a_cached_build_imports_no_engine(workplace: Workplace) -> None:
    workplace.write("Dockerfile", DOCKERFILE)
    workplace.write("in/file", "data")
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import isoscope
status = isoscope.main(["image", "build", "-q", {str(workplace.context)!r}])
heavy = [name for name in sys.modules if name.startswith(("runtime.container", "rich", "numpy"))]
print(status, heavy)
"""
    said = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert said[0].stdout.splitlines()[0] == said[1].stdout.splitlines()[0]
    assert said[1].stdout.splitlines()[1] == "0 []"


def test_two_builds_at_once_come_to_the_same(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    workplace.write("Dockerfile", DOCKERFILE + "RUN --mount=type=cache,target=/c ls > two\n")

    def build(_: int) -> subprocess.CompletedProcess[str]:
        words = isoscope("image", "build", "--progress", "plain", str(workplace.context))
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(build, range(3)))
    assert {each.returncode for each in done} == {0}, [each.stderr for each in done]
    assert len({each.stdout for each in done}) == 1


def test_who_tidies_up_meanwhile_takes_nothing_away(workplace: Workplace) -> None:
    workplace.write("in/file", "data")
    steps = "".join(f"RUN sleep 0.1; cat file > copy{n}\n" for n in range(4))
    workplace.write("Dockerfile", DOCKERFILE + steps)
    words = isoscope("image", "build", "-q", "--no-cache", str(workplace.context))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            workplace.store.sweep()
            workplace.store.sweep_layers()
        assert process.stdout is not None
        digest = process.stdout.read().strip()
    assert process.returncode == 0
    tree = workplace.tree(workplace.store.resolve(digest))
    assert (tree / "work/copy3").read_text() == "data"


def test_the_least_recently_used_goes_when_the_cache_is_too_large(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune(Store())
    step = "RUN --mount=type=cache,target=/c head -c 300000 /dev/urandom > /made-{0}\n".format
    built = {name: workplace.build(f"FROM busybox\n{step(name)}") for name in "abc"}
    for age_s, name in enumerate("cab"):  # c was used last
        blob = built[name].manifest.layers[-1].digest
        for path in _records():
            if blob in path.read_text():
                os.utime(path, (1000 - age_s, 1000 - age_s))
    for image in built.values():
        workplace.store.remove(image.digest)
    before_bytes = cache_bytes(Store())
    monkeypatch.setenv("ISOSCOPE_BUILD_CACHE", "800k")
    freed_bytes = shrink(Store())
    assert 250_000 < freed_bytes < 400_000
    assert cache_bytes(Store()) == before_bytes - freed_bytes
    for name, steps in (("c", 0), ("a", 0), ("b", 1)):
        workplace.build(f"FROM busybox\n{step(name)}")
        assert len(workplace.run_steps()) == steps, name
    monkeypatch.setenv("ISOSCOPE_BUILD_CACHE", "0")
    workplace.build("FROM busybox\nRUN echo > /small\n")  # a build keeps the limit by itself
    assert not list((Cache(Store()).root / "mounts").iterdir())
    with Cache(Store()).in_use():
        assert shrink(Store()) == 0


def test_emptying_the_cache_by_command_and_what_df_tells(workplace: Workplace) -> None:
    def told(*words: str) -> Any:
        done = subprocess.run(
            isoscope("image", *words, "--json"), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    image = workplace.build("FROM busybox\nRUN head -c 300000 /dev/urandom > /a\n")
    workplace.store.remove(image.digest)
    used = told("df")
    assert used["build_cache_bytes"] >= 300_000
    assert used["build_cache_limit_bytes"] == 20 << 30
    assert told("prune", "--cache", "--dry-run")["build_cache_bytes"] == used["build_cache_bytes"]
    assert told("prune", "--cache")["build_cache_bytes"] == used["build_cache_bytes"]
    assert told("df")["build_cache_bytes"] == 0
