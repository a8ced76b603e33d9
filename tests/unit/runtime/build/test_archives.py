"""ADD of archives that were made to do harm, and of those that are none."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from runtime.build.archives import TarStream, Unpacking, is_archive
from runtime.build.copying import Manner
from runtime.build.rootfs import Rootfs
from runtime.errors import BuildError, ImageError
from runtime.image.archive import ArchiveReader

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="owners are given; run as root")
Make = Callable[[bytes], bytes]
PACKERS: list[Make] = [
    bytes,
    gzip.compress,
    lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
    bz2.compress,
    lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
    lzma.compress,
    zstandard.compress,
]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


@pytest.mark.parametrize("pack", PACKERS)
def test_every_packing_is_known_and_read_to_its_end(pack: Make) -> None:
    whole = tar(member("a", b"x" * 3000))
    assert is_archive(io.BytesIO(pack(whole)))
    assert TarStream(io.BytesIO(pack(whole))).read(1 << 20) == whole


def drain(stream: TarStream) -> None:
    for _ in ArchiveReader(stream):
        pass


@pytest.mark.parametrize("pack", PACKERS[1:])
def test_what_is_cut_off_is_damaged(pack: Make) -> None:
    packed = pack(tar(*(member(str(n), os.urandom(3000)) for n in range(100))))
    with pytest.raises((BuildError, ImageError), match=r"it is damaged"):
        drain(TarStream(io.BytesIO(packed[:-1200])))


@pytest.mark.parametrize("pack", PACKERS[1:])
def test_a_bomb_is_stopped(pack: Make) -> None:
    bomb = member("zeros", bytes(8 << 20))
    with pytest.raises(BuildError, match="more than 1048576 bytes"):
        drain(TarStream(io.BytesIO(pack(bomb)), limit_bytes=1 << 20))


@given(st.binary(max_size=2000))
def test_anything_is_an_archive_or_none(data: bytes) -> None:
    assert is_archive(io.BytesIO(data)) in {True, False}


def unpack(archive: bytes, root: Path, base: str = "in") -> None:
    with Rootfs(root) as rootfs:
        manner = Manner(owner=None, mode=None, epoch_ns=10**18)
        Unpacking(rootfs, base, manner).unpack(io.BytesIO(archive), "pack.tar")


@root_only
@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("../escaped", b"x")], "leads upwards"),
        ([member("a/../../escaped", b"x")], "leads upwards"),
        ([member("hard", b"", tarfile.LNKTYPE, "../../escaped")], "leads upwards"),
        ([member("hard", b"", tarfile.LNKTYPE, "none")], "hard link to what is no file"),
        ([member("hard", b"", tarfile.LNKTYPE, "hard")], "hard link to what is no file"),
        ([member("d", b"", tarfile.DIRTYPE), member("d", b"x")], "is a directory"),
        ([member("f", b"x"), member("f/below", b"x")], "no directory"),
        ([b"\1" * 512], "checksum"),
        ([member("a", b"x")[:600]], "ends in the middle"),
    ],
)
def test_what_does_harm_is_refused_by_name(tmp_path: Path, members: list[bytes], why: str) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    with pytest.raises(BuildError, match=rf"pack.tar.*{why}"):
        unpack(b"".join(members), root)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@root_only
def test_links_of_archive_and_tree_lead_where_they_lead_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    unpack(
        tar(
            member("lib", b"", tarfile.DIRTYPE),
            member("lib/one", b"1"),
            member("out", b"", tarfile.SYMTYPE, "../../.."),
            member("out/two", b"2"),
            member("/absolute", b"3"),
            member("four", b"", tarfile.LNKTYPE, "lib/one"),
        ),
        root,
        base="",
    )
    assert (root / "lib").is_symlink()
    assert (root / "usr/lib/one").read_bytes() == b"1"
    assert (root / "two").read_bytes() == b"2"
    assert (root / "absolute").read_bytes() == b"3"
    assert (root / "four").samefile(root / "usr/lib/one")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
