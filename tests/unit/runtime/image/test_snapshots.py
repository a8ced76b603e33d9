"""Snapshots of layers: shared, whole or not there, and gone with the last image that has them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from isal import igzip

from runtime.image import (
    Image,
    ImageError,
    Store,
    unpack,
    using_snapshots,
)
from runtime.image.layer import Limits
from runtime.image.slots import layers_dir
from runtime.image.snapshots import snapshots

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="snapshots need root; run as root")

DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE

Pack = Callable[..., bytes]
Member = Callable[..., tuple[tarfile.TarInfo, bytes]]
MakeImage = Callable[..., Image]


def test_layers_that_images_share_are_unpacked_once(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    tars = [pack(member(name, b"x")) for name in "abc"]
    first = make_image(tars[0], tars[1], name="first")
    second = make_image(tars[0], tars[2], name="second")
    with using_snapshots(store, first) as one, using_snapshots(store, second) as two:
        assert one.paths[1] == two.paths[1]
        assert one.paths[0] != two.paths[0]
        assert not one.cached
        assert not two.cached
    inode = one.paths[1].stat().st_ino
    with using_snapshots(store, first) as again:
        assert again.cached
        assert again.paths == one.paths
        assert (again.duration_ns, again.disk_bytes) == (one.duration_ns, one.disk_bytes)
    assert one.paths[1].stat().st_ino == inode
    assert len(list(layers_dir().iterdir())) == 3
    assert {path.stat().st_mode & 0o777 for path in layers_dir().iterdir()} == {0o700}


def test_the_same_layer_on_others_is_another_snapshot(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    upper = pack(member("d/new", b"x"))
    on_one = make_image(pack(member("d", kind=DIR, mode=0o700)), upper, name="one")
    on_two = make_image(pack(member("d", kind=DIR, mode=0o711)), upper, name="two")
    modes = [(snapshots(store, image)[0] / "d").stat().st_mode for image in (on_one, on_two)]
    assert [mode & 0o777 for mode in modes] == [0o700, 0o711]


def test_an_image_that_goes_takes_its_layers_but_not_those_of_others(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    tars = [pack(member(name, b"x")) for name in "abc"]
    first, second = make_image(*tars[:2], name="first"), make_image(*tars[::2], name="second")
    own, shared = snapshots(store, first)
    snapshots(store, second)
    with using_snapshots(store, first):
        store.remove("first")
        assert own.exists()  # somebody uses it
    assert store.sweep_layers() == (own.parent.name,)
    assert shared.exists()
    store.remove("second")
    assert list(layers_dir().iterdir()) == []


def test_nothing_is_swept_while_an_image_is_being_made(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    image = make_image(pack(member("a", b"x")))
    (tree,) = snapshots(store, image)
    with store.writing():
        assert store.sweep_layers() == ()
    assert tree.exists()


@pytest.mark.parametrize("damage", ["meta gone", "meta torn", "tree gone"])
def test_a_snapshot_that_is_not_known_to_be_whole_is_made_again(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, damage: str
) -> None:
    image = make_image(pack(member("a", b"x")), pack(member("b", b"x")))
    top, bottom = snapshots(store, image)
    meta = bottom.parent / "meta.json"
    if damage == "meta gone":
        meta.unlink()
        (bottom / "a").unlink()
    elif damage == "meta torn":
        meta.write_text('{"chain_id"')
        (bottom / "left over").touch()
    else:
        bottom.rename(bottom.with_name("elsewhere"))
    before = (top / "b").stat().st_ino
    assert snapshots(store, image) == (top, bottom)
    assert [path.name for path in bottom.iterdir()] == ["a"]
    assert (top / "b").stat().st_ino == before


def test_another_layer_in_its_place_is_refused(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    image = make_image(pack(member("a", b"x")))
    (tree,) = snapshots(store, image)
    meta = tree.parent / "meta.json"
    meta.write_text(meta.read_text().replace("sha256:", "sha256:0")[:-1] + "}")
    with pytest.raises(ImageError, match="want the same place"):
        snapshots(store, image)


BAD: dict[str, Callable[[Member], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "through a link of its own": lambda m: [m("l", kind=LINK, link="/"), m("l/x", b"1")],
    "through a lower link": lambda m: [m("link/x", b"1")],
    "deletes through a lower link": lambda m: [m("link/.wh.x")],
    "through a lower file": lambda m: [m("file/x", b"1")],
    "upwards": lambda m: [m("../x", b"1")],
    "a link to what was deleted": lambda m: [m(".wh.file"), m("h", kind=HARD, link="file")],
    "a link to what will be deleted": lambda m: [m("h", kind=HARD, link="file"), m(".wh.file")],
    "a link to a lower directory": lambda m: [m("h", kind=HARD, link="dir")],
    "a whiteout of no name": lambda m: [m("dir/.wh.")],
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_layer_leaves_nothing(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, tmp_path: Path, case: str
) -> None:
    lower = [
        member("link", kind=LINK, link=str(tmp_path)),
        member("file"),
        member("dir", kind=DIR),
    ]
    image = make_image(pack(*lower), pack(*BAD[case](member)), pack(member("later", b"x")))
    with pytest.raises(ImageError) as caught:
        snapshots(store, image)
    assert image.manifest.layers[1].digest in caught.value.message
    with pytest.raises(ImageError):
        unpack(store, image, tmp_path / "whole")
    assert list(layers_dir().iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_limits_count_for_the_whole_image(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    image = make_image(*(pack(member(name, bytes(5000))) for name in "abc"))
    sizes = sum(len(pack(member(name, bytes(5000)))) for name in "abc")
    for limits in (Limits(entries=2), Limits(total_bytes=sizes - 1)):
        many = r"too many entries|more than \d+ bytes"
        with (
            pytest.raises(ImageError, match=many),
            using_snapshots(store, image, limits=limits),
        ):
            pass
        assert list(layers_dir().iterdir()) == []
    with using_snapshots(store, image, limits=Limits(entries=3, total_bytes=sizes)):
        pass


def _ask(root: Path, results: "multiprocessing.Queue[bool]") -> None:
    store = Store(root)
    with using_snapshots(store, store.resolve("sample")) as found:
        results.put(found.cached)


def test_processes_that_ask_at_once_share_one_making(
    store: Store, make_image: MakeImage, pack: Pack, member: Member
) -> None:
    image = make_image(*(pack(member(name, os.urandom(50_000))) for name in "abcd"))
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
    assert len(snapshots(store, image)) == 4


KILLED = """
import sys, time
from pathlib import Path
from runtime.image import Store
from runtime.image import making
from runtime.image.snapshots import snapshots
write = making.write_overlay

def stop_after_the_first(layer, tree, limits, lower):
    if not lower():
        return write(layer, tree, limits, lower)
    print("half", flush=True)
    time.sleep(60)

making.write_overlay = stop_after_the_first
store = Store(Path(sys.argv[1]))
snapshots(store, store.resolve("sample"))
"""


def test_what_a_killed_unpacking_left_is_made_again_or_swept(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, home: Path
) -> None:
    image = make_image(pack(member("a", b"x")), pack(member("b", b"x")))

    def kill() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.root)],
            stdout=subprocess.PIPE,
            env={
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "ISOSCOPE_HOME": str(home),
            },
        ) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == b"half\n"
            maker.send_signal(signal.SIGKILL)

    kill()
    assert len(list(layers_dir().iterdir())) == 2
    assert len(store.sweep_layers()) == 2
    assert list(layers_dir().iterdir()) == []
    kill()
    assert [[p.name for p in tree.iterdir()] for tree in snapshots(store, image)] == [["b"], ["a"]]
    assert store.sweep_layers() == ()


INTERRUPTED = """
import sys
from pathlib import Path
from runtime.image import Store, making
from runtime.image.snapshots import snapshots
write = making.write_overlay

def tell(*arguments):
    print("begun", flush=True)
    return write(*arguments)

making.write_overlay = tell
store = Store(Path(sys.argv[1]))
snapshots(store, store.resolve("sample"))
"""


def test_an_interrupt_ends_all_that_unpacks_and_leaves_nothing(
    store: Store, make_image: MakeImage, pack: Pack, member: Member, home: Path
) -> None:
    large = [pack(member(name, bytes(200 << 20))) for name in "ab"]
    make_image(*large, blobs=tuple(igzip.compress(tar, 1) for tar in large))
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(store.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ISOSCOPE_HOME": str(home)},
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"begun\n"
        maker.send_signal(signal.SIGINT)
        _, said = maker.communicate(timeout=60)
    assert said.endswith(b"KeyboardInterrupt\n")
    assert maker.returncode == -signal.SIGINT
    assert list(layers_dir().iterdir()) == []
