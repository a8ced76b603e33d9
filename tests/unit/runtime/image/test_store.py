import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from runtime.image import Image, ImageError, Store, unpacked
from runtime.image.index import REFERENCE_NAME

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., object]


def blob_path(store: Store, digest: str) -> Path:
    return store.root / "blobs/sha256" / digest.removeprefix("sha256:")


def blobs(store: Store) -> set[str]:
    return {f"sha256:{path.name}" for path in (store.root / "blobs/sha256").iterdir()}


@pytest.fixture
def image(make_image: MakeImage, pack: Pack, member: Member) -> Image:
    return make_image(pack(member("a", b"x" * 5000)), config={"Cmd": ["a"]})


def test_looking_creates_nothing(store: Store, home: Path) -> None:
    assert store.images() == ()
    for look in (store.resolve, store.remove):
        with pytest.raises(ImageError) as caught:
            look("busybox")
        assert caught.value.message == "no image named 'busybox'"
        assert "isoscope image bootstrap busybox" in (caught.value.remedy or "")
    with pytest.raises(ImageError, match="missing"):
        store.read_blob("sha256:" + "0" * 64)
    assert not home.exists()


def test_blobs_come_back_whole(store: Store) -> None:
    content = os.urandom(700_000)
    descriptor = store.write_blob(io.BytesIO(content), "text/x")
    assert descriptor == store.write_blob(content, "text/x")
    assert descriptor.size_bytes == len(content)
    assert store.read_blob(descriptor) == content
    with store.open_blob(descriptor.digest) as reader:
        assert b"".join(iter(lambda: reader.read(1000), b"")) == content
    assert list((store.root / "ingest").iterdir()) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty"])
@pytest.mark.parametrize("chunk", [-1, 7, 1000, 1 << 20])
def test_damage_is_found_by_every_way_of_reading(store: Store, damage: str, chunk: int) -> None:
    descriptor = store.write_blob(bytes(range(250)) * 4)
    path = blob_path(store, descriptor.digest)
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    damaged = {"flip": raw, "cut": raw[:-1], "grow": raw + b"x", "empty": bytearray()}
    path.write_bytes(damaged[damage])
    for name in (descriptor, descriptor.digest):
        with (
            store.open_blob(name) as reader,
            pytest.raises(ImageError, match=f"blob {descriptor.digest} is corrupt"),
        ):
            b"".join(iter(partial(reader.read, chunk), b""))


def test_writing_a_blob_again_heals_it(store: Store) -> None:
    descriptor = store.write_blob(b"content")
    blob_path(store, descriptor.digest).write_bytes(b"damaged")
    store.write_blob(b"content")
    assert store.read_blob(descriptor) == b"content"


def test_what_is_no_file_is_no_blob(store: Store, tmp_path: Path) -> None:
    descriptor = store.write_blob(b"content")
    path = blob_path(store, descriptor.digest)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ImageError, match="not a regular file"):
        store.read_blob(descriptor)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"content")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match="cannot be read"):
        store.read_blob(descriptor)


@pytest.mark.parametrize("name", ["", "sha256:ab", "../x", "sha256:" + "AB" * 32])
def test_only_digests_name_blobs(store: Store, name: str) -> None:
    with pytest.raises(ImageError, match="is no digest"):
        store.read_blob(name)


def test_reading_into_memory_is_bounded(store: Store) -> None:
    descriptor = store.write_blob(b"x" * 100)
    with pytest.raises(ImageError, match="larger than 99 bytes"):
        store.read_blob(descriptor, limit_bytes=99)


def test_names_of_an_image(store: Store, image: Image) -> None:
    store.tag(image.digest, "reg.example:5000/a/b:1.0")
    hexadecimal = image.digest.removeprefix("sha256:")
    for name in (
        "sample", "sample:latest", "reg.example:5000/a/b:1.0", image.digest, hexadecimal,
        hexadecimal[:12], f"sha256:{hexadecimal[:12]}", f"sample@{image.digest}",
        f"sample:latest@{image.digest}", image.short_id,
    ):  # fmt: skip
        found = store.resolve(name)
        assert found.digest == image.digest
        assert found.references == ("reg.example:5000/a/b:1.0", "sample:latest")
    for name in (hexadecimal[:11], f"other@{image.digest}", "sample:other", "0" * 12):
        with pytest.raises(ImageError, match="no image named"):
            store.resolve(name)
    with pytest.raises(ImageError, match="no image reference"):
        store.resolve("Not A Name")


def test_a_digest_means_its_image_whatever_others_are_called(store: Store, image: Image) -> None:
    with pytest.raises(ImageError, match="taken for a digest"):
        store.tag(image.digest, "sha256:" + "0" * 64)
    other = "sha256:" + "1" * 64  # as another tool may have written it
    path = store.root / "index.json"
    path.write_text(path.read_text().replace("sample:latest", other))
    with pytest.raises(ImageError, match="no image named"):
        store.resolve(other)
    assert store.resolve(image.digest).references == (other,)


def test_an_index_that_nobody_could_read_is_not_written(store: Store, image: Image) -> None:
    names = [f"{'n' * 200}/{number}:{'t' * 128}" for number in range(9000)]
    before = (store.root / "index.json").read_bytes()
    with pytest.raises(ImageError, match="full of names"):
        store.tag(image.digest, *names)
    assert (store.root / "index.json").read_bytes() == before
    many = store.tag(image.digest, *names[:100])
    assert len(many.references) == 101


def test_size_counts_manifest_config_and_layers(store: Store, image: Image) -> None:
    assert image.size_bytes == sum(blob_path(store, d).stat().st_size for d in blobs(store))
    assert len(blobs(store)) == 3


def test_a_name_moves_and_its_old_image_stays_without(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    first = make_image(pack(member("a", b"1")), name="n")
    second = make_image(pack(member("a", b"2")), name="n")
    assert store.resolve("n").digest == second.digest
    assert store.resolve(first.short_id).references == ()
    assert [image.references for image in store.images()] == [("n:latest",), ()]
    store.tag(first.digest, "n")
    assert store.resolve("n").digest == first.digest
    assert store.resolve(second.digest).references == ()
    assert len(store.images()) == 2


def test_tagging_needs_a_whole_image(store: Store, image: Image) -> None:
    other = "sha256:" + "0" * 64
    with pytest.raises(ImageError, match="names another digest"):
        store.tag(image.digest, f"a@{other}")
    with pytest.raises(ImageError, match="missing"):
        store.tag(other, "a")
    with pytest.raises(ImageError, match="not JSON"):
        store.tag(image.manifest.layers[0].digest, "a")
    blob_path(store, image.manifest.layers[0].digest).unlink()
    with pytest.raises(ImageError, match=f"{image.manifest.layers[0].digest} is missing"):
        store.tag(image.digest, "a")
    assert [found.references for found in store.images()] == [("sample:latest",)]


def test_removing_keeps_what_others_need(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    shared, own = pack(member("shared", b"s" * 999)), pack(member("own", b"o" * 999))
    kept = make_image(shared, name="kept", config={"Cmd": ["kept"]})
    gone = make_image(shared, own, name="gone", config={"Cmd": ["gone"]})
    store.tag(gone.digest, "gone:2")
    before = blobs(store)
    assert store.remove("gone") == ()
    assert blobs(store) == before
    removed = store.remove("gone:2")
    layers = [layer.digest for layer in gone.manifest.layers]
    assert removed == tuple(sorted([gone.digest, gone.manifest.config.digest, layers[1]]))
    assert before - blobs(store) == set(removed)
    assert [image.digest for image in store.images()] == [kept.digest]
    with pytest.raises(ImageError, match="no image named"):
        store.resolve(gone.digest)


def test_removing_by_digest_takes_all_names(store: Store, image: Image) -> None:
    store.tag(image.digest, "other")
    assert len(store.remove(image.short_id)) == 3
    assert store.images() == ()
    assert blobs(store) == set()


def test_removing_takes_the_unpacked_trees_too(store: Store, image: Image, home: Path) -> None:
    for purpose in ("host", "container"):
        unpacked(store, image, purpose=purpose)
    (home / "rootfs" / f"{'0' * 32}-host").mkdir()
    store.tag(image.digest, "second")
    store.remove("sample")
    assert len(list((home / "rootfs").iterdir())) == 3
    store.remove("second")
    assert [path.name for path in (home / "rootfs").iterdir()] == [f"{'0' * 32}-host"]


def test_a_corrupt_image_can_be_removed_and_is_named(
    store: Store, image: Image, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    make_image(pack(member("b", b"y")), name="good")
    blob_path(store, image.digest).write_bytes(b"{}")
    for look in (lambda: store.resolve("sample"), store.images, lambda: store.remove("good")):
        with pytest.raises(ImageError, match=image.digest):
            look()
    # Nothing was deleted while it was unknown what the corrupt image needs.
    assert len(blobs(store)) == 6
    assert len(store.remove("sample")) == 6
    assert store.images() == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "index.json: not JSON"),
        ('{"schemaVersion": 1}', "schemaVersion"),
        ('{"schemaVersion": 2, "manifests": [{"digest": "sha256:0"}]}', "manifests[0]"),
    ],
)
def test_a_bad_index_says_where(store: Store, image: Image, text: str, why: str) -> None:
    (store.root / "index.json").write_text(text)
    with pytest.raises(ImageError) as caught:
        store.resolve(image.digest)
    assert why in caught.value.message


def test_diff_ids_must_match_the_layers(
    make_image: MakeImage, pack: Pack, member: Member, store: Store
) -> None:
    digest = "sha256:" + "0" * 64
    with pytest.raises(ImageError, match=r"1 layers, but its configuration .* has 2 diff_ids"):
        make_image(pack(member("a")), diff_ids=(digest, digest))
    assert store.images() == ()


def _tag_many(root: Path, digest: str, worker: int) -> None:
    store = Store(root)
    for number in range(10):
        store.tag(digest, f"worker{worker}:{number}")
        store.write_blob(f"{worker} {number}".encode())


def test_processes_that_tag_at_once_lose_nothing(store: Store, image: Image) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_tag_many, args=(store.root, image.digest, number))
        for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    expected = {f"worker{w}:{n}" for w in range(4) for n in range(10)} | {"sample:latest"}
    assert set(store.resolve(image.digest).references) == expected


KILLED = """
import sys
from pathlib import Path
from runtime.image import Store

class Endless:
    def read(self, size):
        sys.stdout.write("x")
        sys.stdout.flush()
        return b"x" * 4096

Store(Path(sys.argv[1])).write_blob(Endless())
"""


def test_a_killed_writer_leaves_nothing_behind_for_long(store: Store, image: Image) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.root)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": path},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.read(10) == b"x" * 10
        # While it lives its file is its own, and no deletion comes between it and its tag.
        store.write_blob(b"other")
        assert len(list((store.root / "ingest").iterdir())) == 1
        writer.send_signal(signal.SIGKILL)
    assert len(blobs(store)) == 4
    store.write_blob(b"other")
    assert list((store.root / "ingest").iterdir()) == []
    assert store.resolve("sample") == image


REMOVE = (
    "import sys, pathlib, runtime.image as i; i.Store(pathlib.Path(sys.argv[1])).remove('other')"
)


def test_what_a_writer_has_not_named_yet_is_not_swept(
    store: Store, image: Image, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    make_image(pack(member("b")), name="other")
    path = os.pathsep.join(filter(None, sys.path))
    with store.writing():
        fresh = store.write_blob(b"not named yet")
        # A new program, for a fork would inherit the lock and wait for itself.
        remover = subprocess.Popen(
            [sys.executable, "-c", REMOVE, str(store.root)], env={"PYTHONPATH": path}
        )
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for this block
            remover.wait(1)
        assert store.read_blob(fresh) == b"not named yet"
    assert remover.wait(60) == 0
    with pytest.raises(ImageError, match="missing"):
        store.read_blob(fresh)
    assert store.resolve("sample").digest == image.digest


def test_other_errors_inside_writing_are_not_the_stores(store: Store) -> None:
    with pytest.raises(ConnectionResetError), store.writing():
        raise ConnectionResetError


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageError, match="cannot write the image store") as caught:
        Store(tmp_path / "file" / "images").write_blob(b"x")
    assert "ISOSCOPE_HOME" in (caught.value.remedy or "")


def test_the_layout_is_what_the_specification_says(store: Store, image: Image) -> None:
    assert json.loads((store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.root / "index.json").read_text())
    assert index["schemaVersion"] == 2
    (line,) = index["manifests"]
    assert line["digest"] == image.digest
    assert line["annotations"] == {REFERENCE_NAME: "sample:latest"}
    assert store.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_and_writes_the_store(store: Store, image: Image, tmp_path: Path) -> None:
    seen = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.root}:sample:latest"],
        capture_output=True,
        check=True,
    )
    found = json.loads(seen.stdout)
    assert found["Digest"] == image.digest
    assert found["Layers"] == [layer.digest for layer in image.manifest.layers]
    other = Store(tmp_path / "other")
    other.write_blob(b"")
    for source, target in ((store, other), (other, store)):
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", f"oci:{source.root}:sample:latest",
             f"oci:{target.root}:{'sample:latest' if target is other else 'copied:1'}"],
            capture_output=True,
            check=True,
        )  # fmt: skip
    assert other.resolve("sample").digest == image.digest
    assert store.resolve("copied:1").digest == image.digest
