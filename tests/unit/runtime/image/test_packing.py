import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image, Store
from runtime.image.contents import contents
from runtime.image.difference import compare
from runtime.image.packing import Packed, is_left_out, write_layer_of

Pack = Callable[..., bytes]
MakeImage = Callable[..., Image]
Member = Callable[..., Any]
EPOCH_S = 1_700_000_000


@pytest.fixture
def packed(store: Store, tmp_path: Path) -> Callable[..., tuple[Packed, bytes]]:
    """packed(tar, below=) -> the layer made of it, and its uncompressed tar."""

    def make(tar: bytes, below: Any = None) -> tuple[Packed, bytes]:
        path = tmp_path / "tree.tar"
        path.write_bytes(tar)
        with store.writing():
            made = write_layer_of(store, path, tmp_path, epoch_s=EPOCH_S, below=below or {})
        raw = store.read_blob(made.layer, limit_bytes=1 << 30)
        inner = gzip.decompress(raw)
        assert made.diff_id == f"sha256:{hashlib.sha256(inner).hexdigest()}"
        return made, inner

    return make


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [member.name for member in archive]


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("dev", False), ("dev/console", True), ("devil", False),
        ("etc/hostname", True), ("etc/hosts", True), ("etc/resolv.conf", True),
        ("etc/hosts.allow", False), ("etc/apt/sources.list", True),
        ("etc/apt/sources.list.d", False), ("etc/apt/sources.list.d/0000s.list", True),
        ("etc/apt/auth.conf.d/ours", True), ("etc/apt/apt.conf.d/99mmdebstrap", True),
        ("etc/apt/apt.conf.d/70debconf", False), ("etc/ssh/ssh_host_rsa_key", True),
        ("etc/ssh/sshd_config", False), ("tmp/x", True), ("tmp", False),
        ("var/cache/ldconfig/aux-cache", True), ("var/cache/apt/pkgcache.bin", True),
        ("var/cache/apt/archives/a.deb", True), ("var/lib/apt/lists/x_InRelease", True),
        ("var/lib/dbus/machine-id", True), ("var/lib/dpkg/status", False),
        ("var/lib/dpkg/status-old", True), ("var/lib/dpkg/info/libc6:amd64.list", False),
        ("var/lib/systemd/random-seed", True),
    ],
)  # fmt: skip
def test_what_says_something_of_this_machine_stays_out(name: str, out: bool) -> None:  # noqa: FBT001
    assert is_left_out(name) is out


def test_order_times_and_owners_are_not_chance(
    packed: Callable[..., tuple[Packed, bytes]], pack: Pack, member: Member
) -> None:
    members = [
        member("./", kind=tarfile.DIRTYPE, mode=0o755, mtime=EPOCH_S + 5),
        member("./b", b"2", mtime=EPOCH_S + 9, uname="builder", gname="staff", uid=3, gid=4),
        member("./a", b"1", mtime=7, mode=0o4755),
        member("./a-b", b"3"),
        member("./a.d", kind=tarfile.DIRTYPE),
        member("./a.d/x", kind=tarfile.SYMTYPE, link="/etc/x"),
    ]
    one, tar = packed(pack(*members))
    two, _ = packed(pack(*members[:1], *members[:0:-1]))
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        found = {m.name: m for m in archive}
    assert list(found) == [".", "a", "a-b", "a.d", "a.d/x", "b"]
    assert {m.mtime for m in found.values()} == {EPOCH_S, 7, 0}
    assert (found["b"].uname, found["b"].gname, found["b"].uid, found["b"].gid) == ("", "", 3, 4)
    assert found["a"].mode == 0o4755


def test_logs_go_but_not_their_directories_and_machines_have_no_name(
    packed: Callable[..., tuple[Packed, bytes]], pack: Pack, member: Member
) -> None:
    _, tar = packed(
        pack(
            member("./var/log", kind=tarfile.DIRTYPE),
            member("./var/log/apt", kind=tarfile.DIRTYPE),
            member("./var/log/apt/term.log", b"host"),
            member("./run/x.pid", b"1"),
            member("./run/lock", kind=tarfile.DIRTYPE), member("./etc/machine-id", b"0123\n"),
        )
    )  # fmt: skip
    assert names(tar) == ["etc/machine-id", "run/lock", "var/log", "var/log/apt"]
    assert b"0123" not in tar


def test_a_file_with_several_names_is_there_once(
    packed: Callable[..., tuple[Packed, bytes]], pack: Pack, member: Member
) -> None:
    tar = pack(
        member("./usr/z", b"content"), member("./bin/a", kind=tarfile.LNKTYPE, link="./usr/z")
    )
    _, layer = packed(tar)
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        first, second = archive
        assert (first.name, first.isreg(), first.size) == ("bin/a", True, 7)
        assert (second.name, second.linkname) == ("usr/z", "bin/a")
        assert b"".join(archive.extractfile(first) or ()) == b"content"


def test_a_second_layer_holds_what_is_different(
    packed: Callable[..., tuple[Packed, bytes]],
    store: Store,
    make_image: MakeImage,
    pack: Pack,
    member: Member,
) -> None:
    directory = tarfile.DIRTYPE
    cap = {"pax_headers": {"SCHILY.xattr.security.capability": "\x01\0\0\x02"}}
    shared = [
        member("./", kind=directory, mode=0o755, mtime=5),
        member("./etc", kind=directory, mode=0o755, mtime=5),
        member("./etc/same", b"same", mtime=5),
        member("./ping", b"ping", mtime=5, **cap),
        member("./one", b"linked", mtime=5),
        member("./two", kind=tarfile.LNKTYPE, link="./one"),
    ]
    _, base = packed(
        pack(
            *shared, member("./etc/before", b"b"), member("./gone", kind=directory),
            member("./gone/x", b"x"), member("./becomes", kind=directory),
            member("./becomes/x", b"x"), member("./linked", b"l"),
        )
    )  # fmt: skip
    lower = make_image(base, name="lower")
    full = pack(
        *shared, member("./etc/before", b"after"), member("./etc/new", b"n", mtime=EPOCH_S + 1),
        member("./three", kind=tarfile.LNKTYPE, link="./one"), member("./becomes", b"file"),
        member("./linked", b"l", mode=0o600),
    )  # fmt: skip
    _, top = packed(full, contents(store, lower))
    assert names(top) == [
        ".wh.gone", ".", "becomes", "etc", "etc/before", "etc/new", "linked", "one", "three",
        "two",
    ]  # fmt: skip
    upper = make_image(base, top, name="upper")
    _, whole = packed(full)
    wanted = contents(store, make_image(whole, name="whole"))
    assert compare(contents(store, upper), wanted) == ()
    assert contents(store, upper) == wanted  # times too
    _, nothing = packed(full, wanted)
    assert names(nothing) == ["."]
