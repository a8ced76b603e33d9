import gzip
import hashlib
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.image import Image, ImageError, Store, unpack
from runtime.image.layer import Limits

CHECKED_ZSTD = zstandard.ZstdCompressor(write_checksum=True)
DIR, LINK, HARD, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE

Pack = Callable[..., bytes]
Member = Callable[..., tuple[tarfile.TarInfo, bytes]]
MakeImage = Callable[..., Image]
Apply = Callable[..., Path]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture
def apply(tmp_path: Path, store: Store, pack: Pack, make_image: MakeImage) -> Apply:
    """apply([member, ...], ...) -> the tree of an image with these layers."""

    def run(*layers: list[tuple[tarfile.TarInfo, bytes]], limits: Limits | None = None) -> Path:
        target = tmp_path / "tree"
        unpack(store, make_image(*(pack(*layer) for layer in layers)), target, limits=limits)
        return target

    return run


def listing(root: Path) -> dict[str, str]:
    """Every path below *root*, with a word for what it is."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            word = f"-> {path.readlink()}"
        else:
            word = "dir" if path.is_dir() else path.read_text()
        found[str(path.relative_to(root))] = word
    return found


def test_files_directories_and_links(apply: Apply, member: Member) -> None:
    tree = apply([
        member("./", kind=DIR, mode=0o750),
        member("./d/", kind=DIR, mode=0o700),
        member("d/f", b"text", mode=0o4755, mtime=12345),
        member("d/h", kind=HARD, link="d/f"),
        member("s", kind=LINK, link="/d/f", mtime=77),
        member("p", kind=FIFO, mode=0o622),
        member("no/parents/named", b"x"),
        member("empty"),
    ])  # fmt: skip
    assert stat.S_IMODE(tree.stat().st_mode) == 0o750
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o700
    assert (tree / "d/f").read_bytes() == b"text"
    assert stat.S_IMODE((tree / "d/f").stat().st_mode) == 0o4755
    assert (tree / "d/f").stat().st_mtime == 12345
    assert (tree / "d/h").samefile(tree / "d/f")
    assert (tree / "s").readlink() == Path("/d/f")
    assert (tree / "s").lstat().st_mtime == 77
    assert stat.S_ISFIFO((tree / "p").stat().st_mode)
    assert stat.S_IMODE((tree / "p").stat().st_mode) == 0o622
    assert stat.S_IMODE((tree / "no/parents").stat().st_mode) == 0o755
    assert (tree / "empty").read_bytes() == b""


def test_directory_times_and_modes_survive_later_writing(apply: Apply, member: Member) -> None:
    tree = apply(
        [
            member("d", kind=DIR, mode=0o555, mtime=1000),
            member("d/e", kind=DIR, mode=0o755, mtime=2000),
            member("other", b"x"),
            member("d/late", b"x"),
            member("d/e/late", b"x"),
        ],
        [member("d/upper", b"x"), member("d/e/.wh.late")],
    )
    for name, mode, mtime in (("d", 0o555, 1000), ("d/e", 0o755, 2000)):
        status = (tree / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (mode, mtime)
    assert not (tree / "d/e/late").exists()


@as_root
def test_owners_devices_and_capabilities(apply: Apply, member: Member) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + b"\x00" * 12  # cap_net_raw, version 2
    info, data = member("ping", b"x", mode=0o755, uid=5, gid=6)
    info.pax_headers = {
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.trusted.overlay.opaque": "y",
    }
    tree = apply([
        (info, data),
        member("su", b"x", mode=0o6755, uid=7, gid=8),
        member("l", kind=LINK, link="x", uid=9, gid=10),
        member("null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
    ])  # fmt: skip
    assert os.getxattr(tree / "ping", "security.capability") == capability
    assert os.listxattr(tree / "ping") == ["security.capability"]
    assert ((tree / "ping").stat().st_uid, (tree / "ping").stat().st_gid) == (5, 6)
    assert stat.S_IMODE((tree / "su").stat().st_mode) == 0o6755
    assert ((tree / "l").lstat().st_uid, (tree / "l").lstat().st_gid) == (9, 10)
    null = (tree / "null").stat()
    assert stat.S_ISCHR(null.st_mode)
    assert null.st_rdev == os.makedev(1, 3)


def test_user_attributes_but_not_those_of_overlayfs(
    apply: Apply, member: Member, tmp_path: Path
) -> None:
    try:
        os.setxattr(tmp_path, "user.probe", b"x")
    except OSError:
        pytest.skip("the file system of tmp_path has no user attributes")
    info, data = member("f", b"x", mode=0o444)
    info.pax_headers = {"SCHILY.xattr.user.k": "v", "SCHILY.xattr.user.overlay.opaque": "y"}
    tree = apply([(info, data)])
    assert os.listxattr(tree / "f") == ["user.k"]


HOSTILE = [
    (("/etc/x", b"x"), "absolute"),
    (("../x", b"x"), "leads upwards"),
    (("a/../../x", b"x"), "leads upwards"),
    (("..", b"", DIR), "leads upwards"),
    (("x", b"", HARD, "../outside"), "target leads upwards"),
    (("x", b"", HARD, "/etc/passwd"), "target is absolute"),
    (("x", b"", HARD, "escape/secret"), "leads through the symbolic link"),
    (("x", b"", HARD, "missing"), "not there"),
    (("x", b"", HARD, "missing/deeper"), "not there"),
    (("file", b"", HARD, "file"), "hard link to itself"),
    (("x", b"", HARD, "dir"), "directory"),
    (("x", b"", HARD, ""), "hard link"),
    (("escape/x", b"x"), "leads through the symbolic link b'escape'"),
    (("escape/d", b"", DIR), "leads through the symbolic link"),
    (("inner/x", b"x"), "leads through the symbolic link b'inner'"),
    (("file/x", b"x"), "which is no directory"),
    (("", b"x"), "replace the root"),
    (("./", b"", LINK, "/"), "replace the root"),
    (("x", b"", LINK, ""), "nothing that could be a path"),
    ((".wh.",), "whiteout of no name"),
    ((".wh...",), "whiteout of no name"),
    (("a/.wh...",), "whiteout of no name"),
    ((".wh.d/x", b"x"), "named as a whiteout"),
    (("/".join("d" * 256) + "/f", b"x"), "directories deep"),
    (("n" * 256, b"x"), "File name too long"),
    (("/".join("d" * 2050), b"x"), "longer than 4096"),
]


@pytest.mark.parametrize(("evil", "why"), HOSTILE)
@pytest.mark.parametrize("same_layer", [True, False])
def test_hostile_entries_are_refused_and_write_nothing(
    apply: Apply,
    member: Member,
    tmp_path: Path,
    evil: tuple[str, ...],
    why: str,
    same_layer: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("kept")
    good = [
        member("escape", kind=LINK, link=str(outside)),
        member("inner", kind=LINK, link="dir"),
        member("dir", kind=DIR),
        member("file", b"x"),
    ]
    bad = member(*evil)
    with pytest.raises(ImageError) as caught:
        apply([*good, bad]) if same_layer else apply(good, [bad])
    assert why in caught.value.message
    assert caught.value.message.startswith("layer sha256:")
    assert caught.value.message.isprintable()
    assert listing(outside) == {"secret": "kept"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "outside"]


def test_a_whiteout_does_not_reach_through_a_link(
    apply: Apply, member: Member, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("kept")
    escape = member("escape", kind=LINK, link=str(outside))
    with pytest.raises(ImageError, match="leads through the symbolic link b'escape'"):
        apply([escape], [member("escape/.wh.secret")])
    assert listing(outside) == {"secret": "kept"}


def test_a_directory_in_place_of_a_link_may_say_that_it_is_opaque(
    apply: Apply, member: Member, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("kept")
    tree = apply(
        [member("was", kind=LINK, link=str(tmp_path / "outside")), member("file")],
        [
            *(member(name, kind=DIR) for name in ("was", "file")),
            *(member(f"{name}/.wh..wh..opq") for name in ("was", "file")),
        ],
    )
    assert listing(tree) == {"was": "dir", "file": "dir"}
    assert listing(tmp_path / "outside") == {"secret": "kept"}


@pytest.mark.parametrize("field", ["path", "linkpath", "SCHILY.xattr.user.a\0b"])
def test_nul_is_refused(apply: Apply, member: Member, field: str, tmp_path: Path) -> None:
    info, data = member("a", kind=LINK, link="b")
    info.pax_headers = {field: "x\0y"}
    with pytest.raises(ImageError, match=r"NUL|could be a path|impossible"):
        apply([(info, data)])
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"uid": (1 << 32) - 1}, "impossible owner"),
        ({"gid": 1 << 40}, "impossible owner"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1 << 13}, "impossible numbers"),
    ],
)
def test_numbers_the_kernel_could_not_take(
    apply: Apply, member: Member, fields: dict[str, int], why: str
) -> None:
    with pytest.raises(ImageError, match=why):
        apply([member("a", **fields)])


def test_whiteouts_hide_lower_layers_only(apply: Apply, member: Member) -> None:
    tree = apply(
        [
            member("a", b"lower"),
            member("b", b"lower"),
            member("c/deep/er", b"lower"),
            member("keep", b"lower"),
        ],
        [
            member(".wh.a"),
            member("b", b"upper"),
            member(".wh.b"),
            member(".wh.c"),
            member("c", b"now a file"),
            member(".wh.absent"),
            member("absent/.wh.too"),
            member(".wh..wh.plnk", kind=DIR),
        ],
    )
    assert listing(tree) == {"b": "upper", "c": "now a file", "keep": "lower"}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_opaque_spares_its_own_layer_wherever_it_stands(
    apply: Apply, member: Member, position: int
) -> None:
    upper = [member("d/new", b"upper"), member("d/both", b"upper")]
    upper.insert(position, member("d/.wh..wh..opq"))
    tree = apply(
        [member("d/old", b"lower"), member("d/both", b"lower"), member("d/s/x", b"lower")],
        upper,
    )
    assert listing(tree) == {"d": "dir", "d/both": "upper", "d/new": "upper"}


def test_an_opaque_root_hides_everything_below(apply: Apply, member: Member) -> None:
    tree = apply([member("a/b", b"x")], [member("c", b"y"), member(".wh..wh..opq")])
    assert listing(tree) == {"c": "y"}


def test_whiteouts_in_the_lowest_layer_do_nothing(apply: Apply, member: Member) -> None:
    assert listing(apply([member("a", b"x"), member(".wh.a")])) == {"a": "x"}


@pytest.mark.parametrize("before", ["file", "dir", "link"])
@pytest.mark.parametrize("after", ["file", "dir", "link", "hard", "fifo"])
@pytest.mark.parametrize("same_layer", [True, False])
def test_anything_replaces_anything(
    apply: Apply,
    member: Member,
    before: str,
    after: str,
    same_layer: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    made = {
        "file": [member("x", b"old")],
        "dir": [member("x", kind=DIR), member("x/child", b"old")],
        "link": [member("x", kind=LINK, link="target")],
        "hard": [member("x", kind=HARD, link="other")],
        "fifo": [member("x", kind=FIFO)],
    }
    base = [member("other", b"other"), member("target/inside", b"safe"), *made[before]]
    tree = apply([*base, *made[after]]) if same_layer else apply(base, made[after])
    mode = (tree / "x").lstat().st_mode
    tests = {"dir": stat.S_ISDIR, "link": stat.S_ISLNK, "fifo": stat.S_ISFIFO}
    assert tests.get(after, stat.S_ISREG)(mode)
    assert (tree / "target/inside").read_text() == "safe"


def test_a_directory_over_a_directory_keeps_what_is_in_it(apply: Apply, member: Member) -> None:
    tree = apply([member("d/x", b"lower")], [member("d", kind=DIR, mode=0o711)])
    assert listing(tree) == {"d": "dir", "d/x": "lower"}
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o711


def test_a_link_replaced_by_a_directory_is_no_detour_any_more(
    apply: Apply, member: Member, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    tree = apply([
        member("d", kind=LINK, link=str(tmp_path / "outside")),
        member("d", kind=DIR),
        member("d/x", b"in"),
    ])  # fmt: skip
    assert listing(tree) == {"d": "dir", "d/x": "in"}
    assert listing(tmp_path / "outside") == {}


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", "OUT"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
WILD = st.tuples(
    PATHS,
    st.sampled_from([tarfile.REGTYPE, DIR, LINK, HARD, FIFO]),
    PATHS | st.sampled_from(["/", "..", "../..", "OUT", "OUT/secret", "."]),
    st.sampled_from([0o755, 0o644, 0, 0o4777]),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=150,
)
@given(st.lists(st.lists(WILD, max_size=5), min_size=1, max_size=3))
def test_no_archive_touches_anything_outside(
    store: Store,
    pack: Pack,
    member: Member,
    make_image: MakeImage,
    tmp_path_factory: pytest.TempPathFactory,
    layers: list[list[tuple[str, bytes, str, int]]],
) -> None:
    base = tmp_path_factory.mktemp("wild")
    outside = base / "outside"
    (outside / "a").mkdir(parents=True)
    (outside / "secret").write_text("kept")
    before = (outside.stat(), (outside / "secret").stat())

    def real(path: str) -> str:
        return path.replace("OUT", str(outside))

    tars = []
    for layer in layers:
        content = b"x"
        entries = [
            member(real(name), content if kind == tarfile.REGTYPE else b"", kind, real(link), mode)
            for name, kind, link, mode in layer
        ]
        tars.append(pack(*entries))
    image = make_image(*tars)
    try:
        unpack(store, image, base / "target")
    except ImageError:
        assert not (base / "target").exists()
    assert (outside.stat(), (outside / "secret").stat()) == before
    assert listing(outside) == {"a": "dir", "secret": "kept"}
    assert {path.name for path in base.iterdir()} <= {"outside", "target"}


def test_limits_of_bytes_and_entries(apply: Apply, member: Member, tmp_path: Path) -> None:
    many = [member(f"f{number}") for number in range(4)]
    with pytest.raises(ImageError, match="too many entries"):
        apply(many, [member("one-more")], limits=Limits(entries=4))
    with pytest.raises(ImageError, match="more than 100000 bytes"):
        apply([member("bomb", bytes(200_000))], limits=Limits(total_bytes=100_000))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_bomb_is_stopped_before_it_is_inflated(
    store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    image = make_image(b"", blobs=(bomb,))
    with pytest.raises(ImageError, match="more than 1000000 bytes"):
        unpack(store, image, tmp_path / "tree", limits=Limits(total_bytes=1_000_000))


def test_the_tar_must_hash_to_its_diff_id(
    store: Store, pack: Pack, member: Member, make_image: MakeImage, tmp_path: Path
) -> None:
    wrong = "sha256:" + "0" * 64
    image = make_image(pack(member("a", b"x")), diff_ids=(wrong,))
    with pytest.raises(ImageError, match=f"not to its diff_id {wrong}"):
        unpack(store, image, tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_what_follows_the_end_of_the_tar_counts_for_the_hash(
    store: Store, pack: Pack, member: Member, make_image: MakeImage, tmp_path: Path
) -> None:
    tar = pack(member("a", b"x"))
    honest = f"sha256:{hashlib.sha256(tar).hexdigest()}"
    image = make_image(tar, blobs=(gzip.compress(tar + b"smuggled"),), diff_ids=(honest,))
    with pytest.raises(ImageError, match="not to its diff_id"):
        unpack(store, image, tmp_path / "tree")


@pytest.mark.parametrize(
    "squeeze",
    [
        lambda tar: tar,
        lambda tar: gzip.compress(tar, 1),
        lambda tar: gzip.compress(tar[:700]) + gzip.compress(tar[700:]),
        lambda tar: gzip.compress(tar[:700]) + b"\0" * 99 + gzip.compress(tar[700:]) + b"\0" * 512,
        lambda tar: gzip.compress(b"") + gzip.compress(tar),
    ],
)
def test_plain_gzip_and_several_members(
    store: Store,
    pack: Pack,
    member: Member,
    make_image: MakeImage,
    tmp_path: Path,
    squeeze: Callable[[bytes], bytes],
) -> None:
    content = os.urandom(600_000)
    tar = pack(member("a", content))
    unpack(store, make_image(tar, blobs=(squeeze(tar),)), tmp_path / "tree")
    assert (tmp_path / "tree/a").read_bytes() == content


@pytest.mark.parametrize(
    ("squeeze", "why"),
    [
        (lambda tar: gzip.compress(tar)[:-1], "ends too early"),
        (lambda tar: gzip.compress(tar)[:30], "ends too early"),
        (lambda tar: gzip.compress(tar) + b"some kind of junk", "damaged"),
        (lambda tar: gzip.compress(tar)[:-8] + bytes(8), "damaged"),
        (lambda tar: b"\x1f\x8b" + bytes(len(tar)), "damaged"),
        (lambda tar: CHECKED_ZSTD.compress(tar)[:-1] + b"\0", "zstd stream is damaged"),
        (lambda tar: CHECKED_ZSTD.compress(tar) + b"some kind of junk", "zstd stream is damaged"),
        (lambda _: b"\x28\xb5\x2f\xfd" + bytes(20), "hashes to"),
    ],
)
def test_damaged_compression(
    store: Store,
    pack: Pack,
    member: Member,
    make_image: MakeImage,
    tmp_path: Path,
    squeeze: Callable[[bytes], bytes],
    why: str,
) -> None:
    tar = pack(member("a", b"x"))
    with pytest.raises(ImageError, match=why):
        unpack(store, make_image(tar, blobs=(squeeze(tar),)), tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from runtime.image.tree import Attributes, Tree
from runtime.image.removal import remove_tree

def attributes(mode):
    return Attributes(mode=mode, uid=5, gid=6, mtime_ns=10**9, xattrs={})

assert os.geteuid() != 0
target = Path("target")
target.mkdir()
with Tree(target) as tree:
    tree.directory((b"d",), attributes(0o500))
    tree.directory((b"d", b"e"), attributes(0o000))
    for parts in ((b"other",), (b"d", b"e", b"f"), (b"d", b"g")):
        descriptor = tree.new_file(parts)
        tree.finish_file(descriptor, attributes(0o400))
        os.close(descriptor)
    tree.special((b"null",), 0o020000, os.makedev(1, 3), attributes(0o666))
status = os.stat("target/d")
assert status.st_mode & 0o7777 == 0o500, oct(status.st_mode)
assert status.st_mtime == 1 and status.st_uid == os.geteuid()
assert os.stat("target/d/e").st_mode & 0o7777 == 0
assert not os.path.exists("target/null")
with Tree(target) as tree:
    tree.remove((b"d", b"e", b"f"))
    tree.clear((b"d",))
assert os.stat("target/d").st_mode & 0o7777 == 0o500
os.chmod("target", 0)
remove_tree(target)
assert not target.exists()
print("done")
"""


@as_root
def test_an_ordinary_user_writes_into_directories_that_end_up_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    ran = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED],
        cwd=tmp_path,  # by descriptor: the parents of tmp_path are closed to others
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "done\n", "")
