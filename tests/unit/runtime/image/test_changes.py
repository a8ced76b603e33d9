"""Layers made of upper directories, and what other tools make of them."""

import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import same_trees
from hypothesis import given
from hypothesis import strategies as st

from runtime.image import ImageError, LayerMade, Store, Times, write_layer
from runtime.image.archive import ArchiveReader, Entry, Kind
from runtime.image.archive_writer import end_of_archive, header, padding
from runtime.image.blob import CHUNK_BYTES
from runtime.image.compression import LayerStream

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")


@pytest.fixture
def upper(tmp_path: Path) -> Path:
    path = tmp_path / "upper"
    path.mkdir()
    path.chmod(0o755)
    return path


def tar_of(store: Store, made: LayerMade) -> bytes:
    """The layer's tar, which is what its descriptor and its diff_id say."""
    with store.open_blob(made.descriptor) as blob:
        limit = made.tar_bytes
        stream = LayerStream(blob, diff_id=made.diff_id, limit_bytes=limit)
        tar = stream.read(limit + 1)
        stream.drain()
    assert len(tar) == made.tar_bytes
    return tar


def members(store: Store, made: LayerMade) -> list[tarfile.TarInfo]:
    """What Python's own reader finds in it."""
    with tarfile.open(fileobj=io.BytesIO(tar_of(store, made))) as archive:
        return archive.getmembers()


@as_root
def test_whiteouts_stand_first_and_are_no_hard_links(store: Store, upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "d/a").write_text("x")
    os.mknod(upper / "d/z", 0o020000, 0)
    for name in ("d/b", "y"):  # as overlayfs does: one inode with many names
        os.link(upper / "d/z", upper / name)
    (upper / "again").mkdir()
    os.setxattr(upper / "again", "trusted.overlay.opaque", b"y")
    (upper / "again/new").write_text("x")
    found = members(store, write_layer(store, upper))
    assert [info.name for info in found] == [
        ".", ".wh.y", "again", "again/.wh..wh..opq", "again/new",
        "d", "d/.wh.b", "d/.wh.z", "d/a",
    ]  # fmt: skip
    assert all(info.isfile() and info.size == 0 for info in found if ".wh." in info.name)
    assert all("overlay" not in key for info in found for key in info.pax_headers)


@pytest.mark.parametrize("size_bytes", [512, CHUNK_BYTES, 1 << 20, (1 << 20) + 1])
def test_nothing_is_lost_after_a_file_that_needs_no_padding(
    store: Store, upper: Path, size_bytes: int
) -> None:
    for name in ("a", "b", "c"):
        (upper / name).write_bytes(name.encode() * size_bytes)
    found = members(store, write_layer(store, upper))
    assert [(info.name, info.size) for info in found[1:]] == [
        (name, size_bytes) for name in ("a", "b", "c")
    ]


def test_the_same_changes_give_the_same_layer(store: Store, tmp_path: Path) -> None:
    digests = set()
    for number, names in enumerate((("a", "b", "é"), ("é", "b", "a"))):
        directory = tmp_path / str(number)
        directory.mkdir()
        for name in names:
            (directory / name).write_text(name)
            os.utime(directory / name, (1000 + number, 1000.25))
        os.utime(directory, (0, 1000))
        directory.chmod(0o755)
        digests.add(write_layer(store, directory).descriptor.digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("times", "told_s"),
    [
        (Times(), [1.0, 100.0]),
        (Times(subsecond=True), [1.75, 100.25]),
        (Times(epoch_s=50), [1.0, 50.0]),
        (Times(epoch_s=50, subsecond=True), [1.75, 50.0]),
    ],
)
def test_times_are_told_as_asked(
    store: Store, upper: Path, times: Times, told_s: list[float]
) -> None:
    for name, time_s in (("a", 1.75), ("b", 100.25)):
        (upper / name).touch()
        os.utime(upper / name, (0, time_s))
    made = write_layer(store, upper, times=times)
    assert [info.mtime for info in members(store, made)[1:]] == told_s


def test_sockets_are_left_out(store: Store, upper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(upper)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        made = write_layer(store, upper)
    assert made.entries == 1
    assert [info.name for info in members(store, made)] == ["."]


@pytest.mark.parametrize("name", [".wh.x", "d/.wh..wh..opq"])
def test_names_that_mean_something_else_in_layers_are_refused(
    store: Store, upper: Path, name: str
) -> None:
    (upper / name).parent.mkdir(exist_ok=True)
    (upper / name).touch()
    with pytest.raises(ImageError, match="no layer can hold"):
        write_layer(store, upper)
    assert not [*(store.root / "ingest").iterdir(), *(store.root / "blobs/sha256").iterdir()]


@as_root
@pytest.mark.parametrize("name", ["redirect", "metacopy"])
def test_an_upper_directory_that_does_not_hold_all_is_refused(
    store: Store, upper: Path, name: str
) -> None:
    (upper / "d").mkdir()
    os.setxattr(upper / "d", f"trusted.overlay.{name}", b"/x")
    with pytest.raises(ImageError, match=r"only partly.*redirect_dir=off"):
        write_layer(store, upper)


def test_what_is_too_deep_to_be_unpacked_is_refused(store: Store, upper: Path) -> None:
    (upper / "/".join("d" * 256)).mkdir(parents=True)
    with pytest.raises(ImageError, match="too deep"):
        write_layer(store, upper)


def test_a_missing_directory_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        write_layer(store, tmp_path / "missing")


NAMES = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"n"))
PATHS = NAMES.filter(lambda raw: not raw.endswith(b"/"))


@given(
    entry=st.builds(
        Entry,
        name=PATHS,
        kind=st.sampled_from([Kind.FILE, Kind.SYMBOLIC_LINK, Kind.HARD_LINK]),
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, 2**32 - 2),
        gid=st.integers(0, 2**32 - 2),
        size_bytes=st.just(0),
        mtime_ns=st.integers(-(10**19), 10**20),
        link=NAMES,
        device=st.just((0, 0)),
        xattrs=st.dictionaries(
            st.text(
                st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1
            ),
            st.binary(max_size=700),
            max_size=3,
        ),
    )
)
def test_every_header_is_read_as_it_was_written(entry: Entry) -> None:
    tar = header(entry) + padding(entry.size_bytes) + end_of_archive()
    diff_id = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    stream = LayerStream(io.BytesIO(tar), diff_id=diff_id, limit_bytes=len(tar))
    assert list(ArchiveReader(stream)) == [entry]


@pytest.mark.parametrize("size_bytes", [8**11 - 1, 8**11, 1 << 40])
def test_sizes_beyond_what_a_header_holds(size_bytes: int) -> None:
    entry = Entry(
        name=b"f", kind=Kind.FILE, mode=0, uid=0, gid=0, size_bytes=size_bytes, mtime_ns=0
    )
    info = tarfile.TarInfo.frombuf(header(entry)[-512:], "utf-8", "strict")
    large = size_bytes >= 8**11
    assert info.size == (0 if large else size_bytes)
    assert (b"size=%d\n" % size_bytes in header(entry)) is large


FOREIGN = r"""
mkdir -m 1750 d; echo text >d/file; chmod 4755 d/file; ln d/file d/hard; ln -s ../x d/link
mkfifo -m 622 d/fifo; chown 7:8 d/file; touch -d '2001-02-03 04:05:06.789' d/file
long=d/$(printf 'l%.0s' $(seq 200)); mkdir $long; echo x >$long/$(printf 'm%.0s' $(seq 200))
printf x >"d/$(printf 'b\377d')"; mknod d/null c 1 3; truncate -s 1M d/sparse; echo x >>d/sparse
cp /bin/true d/capable
touch -h -d 2001-01-01 d/link; chown 3000000:3000001 d/sparse
"""


@pytest.fixture
def foreign(upper: Path) -> Path:
    subprocess.run(["sh", "-euc", FOREIGN], cwd=upper, check=True)
    os.setxattr(upper / "d/capable", "security.capability", same_trees.CAP_NET_RAW)
    return upper


Unpack = Callable[[Store, LayerMade, Path], Path]


def _by_tar(store: Store, made: LayerMade, target: Path) -> Path:
    target.mkdir()
    options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-p"]
    subprocess.run(
        ["tar", "-C", target, *options, "-xf", "-"], input=tar_of(store, made), check=True
    )
    return target


def _by_umoci(store: Store, made: LayerMade, target: Path) -> Path:
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed: apt-get install umoci")
    layout = f"{target}-layout"

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], check=True, capture_output=True)

    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:x")
    plain = Path(f"{target}.tar")
    plain.write_bytes(tar_of(store, made))
    umoci("raw", "add-layer", "--image", f"{layout}:x", str(plain))
    umoci("raw", "unpack", "--image", f"{layout}:x", str(target))
    return target


@as_root
@pytest.mark.parametrize("unpack_by", [_by_tar, _by_umoci])
def test_others_unpack_it_to_the_same(
    store: Store, foreign: Path, tmp_path: Path, unpack_by: Unpack
) -> None:
    times = Times(subsecond=True)
    theirs = unpack_by(store, write_layer(store, foreign, times=times), tmp_path / "theirs")
    assert same_trees.described(theirs) == same_trees.described(foreign)


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    opened = Path("/proc/self/fd")
    before = {path.name for path in opened.iterdir()}
    yield
    assert {path.name for path in opened.iterdir()} == before
