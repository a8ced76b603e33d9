import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.image import Image, ImageError, Store, unpack, unpacked

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def image(make_image: MakeImage, pack: Pack, member: Member) -> Image:
    content = os.urandom(100_000)
    hard = member("b", kind=tarfile.LNKTYPE, link="a")
    return make_image(pack(member("a", content), hard), pack(member("c/d", content)))


@pytest.fixture
def bad(make_image: MakeImage, pack: Pack, member: Member) -> Image:
    return make_image(pack(member("a", b"x")), pack(member("b", b"x"), member("../c", b"x")))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_all_layers_become_one_tree(store: Store, image: Image, tmp_path: Path) -> None:
    unpack(store, image, tmp_path / "t")
    assert names(tmp_path / "t") == ["a", "b", "c"]
    assert (tmp_path / "t/b").samefile(tmp_path / "t/a")
    assert (tmp_path / "t").stat().st_mode & 0o7777 == 0o755
    assert names(tmp_path) == ["home", "t"]


def test_an_image_without_layers_is_an_empty_tree(
    store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    unpack(store, make_image(), tmp_path / "t")
    assert names(tmp_path / "t") == []


@pytest.mark.parametrize("what", ["file", "directory", "dangling link"])
def test_the_target_must_not_exist(store: Store, image: Image, tmp_path: Path, what: str) -> None:
    target = tmp_path / "t"
    if what == "file":
        target.write_text("mine")
    elif what == "directory":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    with pytest.raises(ImageError, match="exists already"):
        unpack(store, image, target)
    assert names(tmp_path) == ["home", "t"]


def test_a_missing_parent_is_told(store: Store, image: Image, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        unpack(store, image, tmp_path / "no" / "t")
    assert names(tmp_path) == ["home"]


def test_a_bad_layer_leaves_nothing(store: Store, bad: Image, tmp_path: Path, home: Path) -> None:
    with pytest.raises(ImageError, match="leads upwards"):
        unpack(store, bad, tmp_path / "t")
    assert names(tmp_path) == ["home"]
    with pytest.raises(ImageError, match="leads upwards"):
        unpacked(store, bad, purpose="host")
    assert [names(slot) for slot in (home / "rootfs").iterdir()] == [[]]


def test_a_corrupt_blob_leaves_nothing(store: Store, image: Image, tmp_path: Path) -> None:
    layer = image.manifest.layers[1].digest
    path = store.root / "blobs/sha256" / layer.removeprefix("sha256:")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ImageError, match=layer):
        unpack(store, image, tmp_path / "t")
    assert names(tmp_path) == ["home"]


def test_the_cache_makes_a_tree_once_for_each_purpose(
    store: Store, image: Image, home: Path
) -> None:
    first = unpacked(store, image, purpose="host")
    again = unpacked(store, image, purpose="host")
    other = unpacked(store, image, purpose="container")
    assert first.path == home / "rootfs" / f"{image.digest[7:39]}-host" / "tree"
    assert not first.cached
    assert again.cached
    assert (again.path, again.duration_ns, again.disk_bytes) == (
        first.path, first.duration_ns, first.disk_bytes,
    )  # fmt: skip
    assert not other.cached
    assert other.path != first.path
    assert first.duration_ns > 0
    assert names(first.path.parent) == ["meta.json", "tree"]
    assert first.path.parent.stat().st_mode & 0o777 == 0o700


def test_disk_bytes_are_what_du_says(store: Store, image: Image) -> None:
    found = unpacked(store, image, purpose="host")
    seen = subprocess.run(["du", "-s", "-B1", found.path], capture_output=True, check=True)
    assert found.disk_bytes == int(seen.stdout.split()[0])


@pytest.mark.parametrize("damage", ["meta gone", "meta torn", "tree gone"])
def test_a_tree_that_is_not_known_to_be_whole_is_made_again(
    store: Store, image: Image, damage: str
) -> None:
    path = unpacked(store, image, purpose="host").path
    (path / "a").unlink()
    meta = path.parent / "meta.json"
    if damage == "meta gone":
        meta.unlink()
    elif damage == "meta torn":
        meta.write_text('{"duration_ns"')
    else:
        path.rename(path.with_name("elsewhere"))
    again = unpacked(store, image, purpose="host")
    assert not again.cached
    assert (path / "a").exists()


@pytest.mark.parametrize("purpose", ["", "../x", "a/b", "A", ".x", "x" * 33])
def test_a_purpose_is_one_plain_word(store: Store, image: Image, purpose: str) -> None:
    with pytest.raises(ImageError, match="is no purpose"):
        unpacked(store, image, purpose=purpose)


def _ask(root: Path, results: "multiprocessing.Queue[bool]") -> None:
    store = Store(root)
    results.put(unpacked(store, store.resolve("sample"), purpose="host").cached)


def test_processes_that_ask_at_once_share_one_making(store: Store, image: Image) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_ask, args=(store.root, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    results.close()
    results.join_thread()
    assert sorted(answers) == [False, True, True, True]
    assert unpacked(store, image, purpose="host").cached


KILLED = """
import sys, time
from pathlib import Path
from runtime.image import Store, unpack, unpacked
import runtime.image.unpacking as unpacking

apply_layer = unpacking.apply_layer

def stop_after_the_first(layer, tree, limits, *, has_lower):
    if has_lower:
        print("half", flush=True)
        time.sleep(60)
    return apply_layer(layer, tree, limits, has_lower=has_lower)

unpacking.apply_layer = stop_after_the_first
store = Store(Path(sys.argv[1]))
image = store.resolve("sample")
if sys.argv[2] == "cache":
    unpacked(store, image, purpose="host")
else:
    unpack(store, image, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("where", ["cache", "target"])
def test_what_a_killed_process_left_is_gone_at_the_next_call(
    store: Store, image: Image, tmp_path: Path, home: Path, where: str
) -> None:
    target = tmp_path / "t"
    argument = "cache" if where == "cache" else str(target)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.root), argument],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ISOSCOPE_HOME": str(home)},
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"half\n"
        maker.send_signal(signal.SIGKILL)
    if where == "cache":
        path = unpacked(store, image, purpose="host").path
        assert names(path.parent) == ["meta.json", "tree"]
    else:
        assert not target.exists()
        unpack(store, image, target)
        assert names(tmp_path) == ["home", "t"]
        path = target
    assert names(path) == ["a", "b", "c"]
