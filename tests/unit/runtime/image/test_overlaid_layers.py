"""Layers in overlayfs's form: together they show the tree that unpacking them into one gives."""

import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import same_trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.image import (
    Image,
    ImageError,
    LayerMade,
    Store,
    Times,
    imitate,
    keep_snapshot,
    making,
    unpack,
    using_snapshots,
    write_layer,
)
from runtime.image.changes import Compression
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE
from runtime.image.snapshots import snapshots

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="snapshots need root; run as root")

DIR, LINK, HARD, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE

Pack = Callable[..., bytes]
Member = Callable[..., tuple[tarfile.TarInfo, bytes]]
Layers = list[list[tuple[tarfile.TarInfo, bytes]]]
MakeImage = Callable[..., Image]
Same = Callable[..., tuple[Path, ...]]


@pytest.fixture
def same(tmp_path: Path, store: Store, pack: Pack, make_image: MakeImage) -> Same:
    """same([member, ...], ...) -> the snapshots of these layers, which show what one tree has."""

    def check(*layers: list[tuple[tarfile.TarInfo, bytes]]) -> tuple[Path, ...]:
        image = make_image(*(pack(*layer) for layer in layers))
        whole = tmp_path / f"whole-{image.short_id}"
        unpack(store, image, whole)
        stack = snapshots(store, image)
        shown = same_trees.overlaid(stack, tmp_path / f"overlay-{image.short_id}")
        expected = same_trees.described(whole)
        root = shown.pop(b".")
        assert shown == {name: what for name, what in expected.items() if name != b"."}
        layers_root = same_trees.described(stack[0])[b"."]
        assert layers_root == expected[b"."]
        del root  # an overlay's own root is that of its upper directory
        return stack

    return check


def kinds(tree: Path) -> dict[str, str]:
    """What lies in a snapshot itself."""
    found = {}
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            found[str(path.relative_to(tree))] = "gone"
        elif not stat.S_ISDIR(status.st_mode):
            found[str(path.relative_to(tree))] = "file"
        else:
            is_opaque = "trusted.overlay.opaque" in os.listxattr(path)
            found[str(path.relative_to(tree))] = "opaque" if is_opaque else "dir"
    return found


def test_each_layer_lies_apart_and_deletions_are_whiteouts(same: Same, member: Member) -> None:
    top, bottom = same(
        [member("a", b"1"), member("d", kind=DIR, mode=0o750, uid=5), member("d/x", b"2")],
        [member("d/.wh.x"), member("b", b"3"), member(".wh.absent")],
    )
    assert kinds(bottom) == {"a": "file", "d": "dir", "d/x": "file"}
    assert kinds(top) == {"b": "file", "d": "dir", "d/x": "gone"}
    assert ((top / "d").stat().st_uid, (top / "d").stat().st_mode & 0o777) == (5, 0o750)


CASES: dict[str, Callable[[Member], Layers]] = {
    "a directory replaced": lambda m: [
        [m("d", kind=DIR, mode=0o700), m("d/old", b"1"), m("d/s/t", b"1")],
        [m(".wh.d"), m("d", kind=DIR, mode=0o755), m("d/new", b"2")],
    ],
    "a directory deleted after it was written": lambda m: [
        [m("d", kind=DIR, mode=0o700), m("d/old", b"1"), m("d/s/t", b"1")],
        [m("d/new", b"2"), m("d/s/u", b"2"), m(".wh.d")],
    ],
    "opaque first": lambda m: [
        [m("d", kind=DIR, mode=0o700), m("d/old", b"1"), m("d/s/t", b"1")],
        [m("d", kind=DIR, mode=0o711), m("d/.wh..wh..opq"), m("d/new", b"2")],
    ],
    "opaque last": lambda m: [
        [m("d", kind=DIR, mode=0o700), m("d/old", b"1"), m("d/s", kind=DIR, mode=0o700, uid=7)],
        [m("d/.wh.old"), m("d/new", b"2"), m("d/s/u", b"2"), m("d/.wh..wh..opq")],
    ],
    "an opaque root": lambda m: [
        [m("a", b"1")],
        [m("b", b"2"), m("d/x", b"2")],
        [m(".wh..wh..opq"), m("c", b"3")],
        [m("d/y", b"4"), m(".wh.b")],
    ],
    "parents that are not named": lambda m: [
        [m("p", kind=DIR, mode=0o2711, uid=3, gid=4, mtime=99), m("p/q", kind=DIR, mtime=98)],
        [m("p/q/r/s", b"x"), m("n/o", b"x")],
        [m("p/q/t", b"x"), m("p/.wh.q"), m("p/q/u/v", b"y")],
        [m(".wh.p"), m("p/only", b"z")],
    ],
    "files over directories and back": lambda m: [
        [m("x/y", b"1"), m("f", b"1")],
        [m("x", b"2"), m("f", kind=DIR), m("f/in", b"2")],
        [m("x", kind=DIR), m("x/z", b"3"), m("f", kind=LINK, link="x")],
        [m("x/w", b"4")],
    ],
    "one layer replaces a directory twice": lambda m: [
        [m("d/old", b"1")],
        [m("d", b"a file"), m("d", kind=DIR), m("d/new", b"2")],
    ],
    "hard links to what is below": lambda m: [
        [m("d", kind=DIR, mode=0o700), m("d/f", b"1", mode=0o4755, uid=3, mtime=5)],
        [m("h", kind=HARD, link="d/f"), m("d/g", kind=HARD, link="d/f")],
        [m("h", b"replaced")],
    ],
    "hard links to what is no file": lambda m: [
        [m("l", kind=LINK, link="x"), m("p", kind=FIFO), m("c", kind=tarfile.CHRTYPE, devmajor=1)],
        [m("l2", kind=HARD, link="l"), m("p2", kind=HARD, link="p"), m("c2", kind=HARD, link="c")],
    ],
    "whiteouts below deleted and replaced directories": lambda m: [
        [m("a/b/c", b"1"), m("a/b/d", b"1")],
        [m("a/.wh.b"), m("a/b/.wh.c"), m("a/b/e", b"2")],
        [m("a/b/.wh.c"), m("a/b/.wh.e"), m("a/b/.wh..wh..opq"), m("a/b/.wh.e")],
        [m("a/b/f", b"3")],
    ],
    "the device that is no device": lambda m: [
        [m("a", b"1"), m("d/b", b"1")],
        [m("a", kind=tarfile.CHRTYPE), m("d", kind=tarfile.CHRTYPE), m("n", kind=tarfile.CHRTYPE)],
        [m("d/e", b"2")],
    ],
    "the root directory": lambda m: [
        [m("./", kind=DIR, mode=0o750, uid=4, mtime=7), m("a", b"1")],
        [m("b", b"1")],
    ],
    "no layers": lambda _: [],
}


@pytest.mark.parametrize("case", CASES)
def test_an_overlay_of_the_layers_is_the_tree(same: Same, member: Member, case: str) -> None:
    same(*CASES[case](member))


SORTS = {"dir": DIR, "link": LINK, "hard": HARD, "fifo": FIFO}
NAMES = st.lists(st.sampled_from("ab"), min_size=1, max_size=3)
CHANGES = st.lists(
    st.tuples(NAMES, st.sampled_from(["file", "dir", "link", "hard", "gone", "opaque", "fifo"])),
    max_size=5,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layers=st.lists(CHANGES, min_size=2, max_size=4))
def test_any_layers(
    layers: list[list[tuple[list[str], str]]],
    store: Store, make_image: MakeImage, pack: Pack, member: Member, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def made(names: list[str], what: str, number: int) -> tuple[tarfile.TarInfo, bytes]:
        path, folder = "/".join(names), "/".join(names[:-1])
        rare = {"mode": 0o700 + number, "uid": number, "mtime": number}
        match what:
            case "gone":
                return member(f"{folder}/.wh.{names[-1]}".lstrip("/"))
            case "opaque":
                return member(f"{folder}/.wh..wh..opq".lstrip("/"))
            case "file":
                return member(path, bytes([number]), **rare)
            case _:
                links = {"link": "b", "hard": "a/b"}
                return member(path, kind=SORTS[what], link=links.get(what, ""), **rare)

    monkeypatch.setattr(making, "sync_file_system", lambda _: None)  # slow
    number = iter(range(1, 100))
    tars = [pack(*(made(*change, next(number)) for change in layer)) for layer in layers]
    image = make_image(*tars)
    scratch = Path(os.fsdecode(tmp_path / os.urandom(8).hex()))
    scratch.mkdir()
    try:
        unpack(store, image, scratch / "whole")
    except ImageError:
        with pytest.raises(ImageError):
            snapshots(store, image)
        return
    shown = same_trees.overlaid(snapshots(store, image), scratch)
    expected = same_trees.described(scratch / "whole")
    # A copied-up file is apart from its other names below; all else is the same.
    assert {k: v[:6] for k, v in shown.items() if k != b"."} == {
        k: v[:6] for k, v in expected.items() if k != b"."
    }


EVERYTHING = r"""
rm gone; rm -r gone-dir; rm linked-1
rm -r again; mkdir again; echo new >again/new
rm kind-file; mkdir kind-file; rm -r kind-dir; echo now a file >kind-dir
chmod 4711 mode; chown 7:8 owner; mv moved elsewhere
echo more >>appended
ln -s nowhere "link $(printf 'with\nnewline')"
printf x >"$(printf 'b\377d')"
far=deep/$(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))
mkdir -p $far; echo long >$far/$(printf 'f%.0s' $(seq 200)); mkdir $far/$(printf 'g%.0s' $(seq 9))
ln -s $(printf 'l%.0s' $(seq 200)) deep/long-link
echo one >hard-1; ln hard-1 hard-2; ln hard-1 deep/hard-3
mknod null c 1 3; mknod disk b 8 1; mkfifo -m 622 fifo
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
truncate -s 3M sparse; printf end >>sparse
cp /bin/true capable
python3 -c 'import os; os.setxattr("mode", "user.note", b"\0\xff=\n")'
python3 -c 'import os; os.setxattr("capable", "security.capability", bytes.fromhex("CAPABILITY"))'
touch -d '1969-12-31 23:59:58.25' before; touch -d '2033-01-02 03:04:05.123456789' after
touch -h -d '2001-01-01' deep/long-link; chown 3000000:4294967290 owner
chmod 1777 .
""".replace("CAPABILITY", same_trees.CAP_NET_RAW.hex())


@pytest.fixture
def base(make_image: MakeImage, pack: Pack, member: Member) -> Image:
    def files(*names: str) -> list[tuple[tarfile.TarInfo, bytes]]:
        return [member(name, name.encode(), mtime=1000) for name in names]

    linked = member("linked-2", kind=HARD, link="linked-1")
    below = files("gone", "gone-dir/a", "gone-dir/b/c", "again/old", "kind-file", "kind-dir/x")
    more = files("mode", "owner", "moved/x", "appended", "linked-1")
    return make_image(pack(*below), pack(*more, linked))


def with_layer(store: Store, image: Image, made: LayerMade, name: str = "made") -> Image:
    """*image* with one more layer."""
    config = json.loads(store.read_blob(image.manifest.config))
    config["rootfs"]["diff_ids"].append(made.diff_id)
    document = json.loads(store.read_blob(image.digest))
    document["config"] = store.write_blob(json.dumps(config).encode(), CONFIG_TYPE).to_json()
    document["layers"].append(made.descriptor.to_json())
    digest = store.write_blob(json.dumps(document).encode(), MANIFEST_TYPE).digest
    return store.tag(digest, name)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_was_changed_survives_being_a_layer(
    store: Store, base: Image, tmp_path: Path, compression: Compression
) -> None:
    (tmp_path / "upper").mkdir()
    below = snapshots(store, base)
    imitate(tmp_path / "upper", below[0])
    seen = same_trees.overlaid(below, tmp_path, EVERYTHING)
    del seen[b"socket"]
    times = Times(subsecond=True)
    made = write_layer(store, tmp_path / "upper", times=times, compression=compression)
    again = write_layer(store, tmp_path / "upper", times=times, compression=compression)
    assert again == made
    image = with_layer(store, base, made)
    top, *rest = snapshots(store, image)
    assert tuple(rest) == below
    assert kinds(top).items() >= {"gone": "gone", "gone-dir": "gone", "again": "opaque"}.items()
    unpack(store, image, tmp_path / "whole")
    assert same_trees.described(tmp_path / "whole") == seen
    shown = same_trees.overlaid((top, *rest), tmp_path / "second")
    assert {**shown, b".": ()} == {**seen, b".": ()}


def test_an_upper_directory_is_kept_as_the_snapshot_that_unpacking_would_give(
    store: Store, base: Image, home: Path
) -> None:
    directory = home / "instances/build"
    (directory / "upper").mkdir(parents=True)
    below = snapshots(store, base)
    imitate(directory / "upper", below[0])
    same_trees.overlaid(below, directory, EVERYTHING)
    times = Times(epoch_s=1_000_000_000)
    made = write_layer(store, directory / "upper", times=times)
    image = with_layer(store, base, made)
    kept = keep_snapshot(directory / "upper", image.config.diff_ids, made)
    assert not (directory / "upper").exists()
    with using_snapshots(store, image) as found:
        assert found.cached
        assert found.paths == (kept, *below)
    own = kinds(kept)
    whiteouts = {os.fsencode(name) for name, what in own.items() if what == "gone"}

    def seen() -> dict[bytes, tuple[object, ...]]:
        """What can be seen; whiteouts were made by different hands at different times."""
        return {name: w for name, w in same_trees.described(kept).items() if name not in whiteouts}

    before = seen()
    assert max(int(str(what[3])) for what in before.values()) == 10**18
    (kept.parent / "meta.json").unlink()
    assert snapshots(store, image)[0] == kept
    assert kinds(kept) == own
    assert seen() == before
