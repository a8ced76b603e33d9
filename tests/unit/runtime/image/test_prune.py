import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.image import Image, ImageError, Store, unpacked

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., object]


def unnamed(_digest: str, names: tuple[str, ...]) -> bool:
    return bool(names)


@pytest.fixture
def two(make_image: MakeImage, pack: Pack, member: Member) -> tuple[Image, Image]:
    shared = pack(member("shared", b"s" * 9000))
    return (
        make_image(shared, pack(member("one", b"1")), name="one"),
        make_image(shared, pack(member("two", b"2")), name="two"),
    )


def files(store: Store) -> set[str]:
    return {f"sha256:{path.name}" for path in (store.root / "blobs/sha256").iterdir()}


def test_an_empty_store_is_not_made_to_be_pruned(store: Store, home: Path) -> None:
    assert store.prune(unnamed).images == ()
    assert not home.exists()


def test_what_has_a_name_stays(store: Store, two: tuple[Image, Image]) -> None:
    store.tag(two[1].digest, "one")  # robs the first of its only name
    store.write_blob(b"nobody's")
    before = files(store)
    tree = unpacked(store, two[0], purpose="p").path
    told = store.prune(unnamed, dry_run=True)
    assert files(store) == before
    assert tree.exists()
    done = store.prune(unnamed)
    assert done == told
    assert done.images == (two[0].digest,)
    shared, own = (layer.digest for layer in two[0].manifest.layers)
    assert own in done.blobs
    assert shared not in done.blobs
    assert len(done.blobs) == 4  # manifest, config, a layer; and what was nobody's
    assert files(store) == before - set(done.blobs)
    assert not tree.exists()
    assert [image.references for image in store.images()] == [("one:latest", "two:latest")]


def test_the_bytes_are_those_of_the_files(store: Store, two: tuple[Image, Image]) -> None:
    sizes = {f"sha256:{path.name}": path.stat().st_size for path in store._blobs.iterdir()}
    done = store.prune(lambda digest, _: digest == two[0].digest)
    assert done.blob_bytes == sum(sizes[digest] for digest in done.blobs)
    assert store.resolve("one") == two[0]


def test_several_names_go_together_or_not_at_all(store: Store, two: tuple[Image, Image]) -> None:
    with pytest.raises(ImageError, match="no image named 'three'"):
        store.remove("one", "three")
    assert len(store.images()) == 2

    def refuse(digest: str) -> None:
        if digest == two[1].digest:
            raise ImageError("it is in use")

    with pytest.raises(ImageError, match="it is in use"):
        store.remove("one", "two", guard=refuse)
    assert len(store.images()) == 2
    store.tag(two[1].digest, "more")
    store.remove("two", "one", guard=refuse)  # 'two' is only a name: the image has another
    assert store.resolve("more").references == ("more:latest",)
    with pytest.raises(ImageError, match="no image"):
        store.resolve(two[0].digest)
    store.tag(two[1].digest, "again")
    with pytest.raises(ImageError, match="it is in use"):
        store.remove("more", "again", guard=refuse)


def test_an_image_without_a_name_is_one_of_the_stores(
    store: Store, two: tuple[Image, Image]
) -> None:
    assert store.keep(two[0].digest).references == ("one:latest",)
    store.remove("one")
    with pytest.raises(ImageError, match="missing"):
        store.keep(two[0].digest)
    manifest = store.read_blob(two[1].digest)
    other = store.write_blob(manifest.replace(b"{", b"{ ", 1), two[1].manifest.media_type)
    assert store.keep(other.digest).references == ()
    assert store.keep(other.digest).references == ()
    assert len(store.images()) == 2


def _churn(root: Path, images: tuple[Image, Image], worker: int) -> None:
    store = Store(root)
    for number in range(8):
        with store.writing():
            # What was just pruned comes back, as a pull would bring it.
            copied = [
                store.write_blob((root.parent / f"copy/{path}").read_bytes())
                for path in os.listdir(root.parent / "copy")  # noqa: PTH208 - names
            ]
            assert copied
            store.tag(images[worker % 2].digest, f"worker{worker}:{number}")
        if worker < 2:
            mine = f"worker{worker}:{number}"
            store.prune(lambda _, names, mine=mine: mine in names)  # type: ignore[misc]
        else:
            try:
                store.remove(f"worker{worker}:{number}")
            except ImageError as error:  # another has pruned it already
                if not error.message.startswith("no image named"):
                    raise


def test_processes_that_write_remove_and_prune_at_once(
    store: Store, two: tuple[Image, Image], home: Path
) -> None:
    (home / "copy").mkdir()
    for path in store._blobs.iterdir():
        (home / "copy" / path.name).write_bytes(path.read_bytes())
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_churn, args=(store.root, two, number)) for number in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    for image in store.images():
        for layer in image.manifest.layers:
            store.read_blob(layer)
    store.prune(lambda *_: False)
    assert files(store) == set()
    assert list((store.root / "ingest").iterdir()) == []
