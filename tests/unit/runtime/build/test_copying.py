"""Where COPY puts things, by table; and that no link of a tree leads it out."""

import os
import stat
from pathlib import Path

import pytest

from runtime.build.copying import Copying, Manner, Owner
from runtime.build.rootfs import Rootfs
from runtime.build.sources import SourceTree
from runtime.errors import BuildError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners are given; run as root")
EPOCH_NS = 1_000_000_000 * 10**9


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("file", "d/inner", "d/sub/deep"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "d/sub").chmod(0o700)
    (root / "link").symlink_to("file")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    (root / "usr/lib").mkdir(parents=True)
    (root / "there").mkdir(mode=0o711)
    (root / "lib").symlink_to("usr/lib")
    (root / "full").write_text("old")
    (tmp_path / "outside").mkdir()
    return root


def copy(
    context: Path, target: Path, patterns: str, to: str, *, keep_from: int | None = None,
    owner: Owner | None = None, mode: int | None = None, owned: bool = False,
) -> list[str]:  # fmt: skip
    """Copy, and tell what is there that was not there before."""
    before = {*_names(target)}
    manner = Manner(owner=owner, mode=mode, epoch_ns=EPOCH_NS)
    with SourceTree(root=context, owned=owned) as tree, Rootfs(target) as rootfs:
        chosen = [each for pattern in patterns.split() for each in tree.choose(pattern)]
        Copying(tree, rootfs, manner).copy(chosen, to, keep_from=keep_from)
    return sorted({*_names(target)} - before)


def _names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in root.rglob("*")]


@pytest.mark.parametrize(
    ("patterns", "to", "made"),
    [
        ("file", "/new", ["new"]),
        ("file", "/new/", ["new", "new/file"]),
        ("file", "/there", ["there/file"]),
        ("file", "/a/b/c", ["a", "a/b", "a/b/c"]),
        ("file", "/lib/x", ["usr/lib/x"]),
        ("file", "/lib", ["usr/lib/file"]),
        ("link", "/there/", ["there/link"]),
        ("file link", "/there/", ["there/file", "there/link"]),
        ("d", "/there", ["there/inner", "there/sub", "there/sub/deep"]),
        ("d", "/new", ["new", "new/inner", "new/sub", "new/sub/deep"]),
        ("d/*", "/there/", ["there/deep", "there/inner"]),
        ("d", "/lib", ["usr/lib/inner", "usr/lib/sub", "usr/lib/sub/deep"]),
    ],
)
def test_where_things_go(
    context: Path, target: Path, patterns: str, to: str, made: list[str]
) -> None:
    assert copy(context, target, patterns, to) == made


def test_parents_keeps_the_path_from_the_pivot_on(context: Path, target: Path) -> None:
    assert copy(context, target, "d/sub/deep", "/p/", keep_from=0) == [
        "p", "p/d", "p/d/sub", "p/d/sub/deep",
    ]  # fmt: skip
    assert copy(context, target, "d/sub/deep", "/q", keep_from=1) == ["q", "q/sub", "q/sub/deep"]


@pytest.mark.parametrize(
    ("patterns", "to", "why"),
    [
        ("file", "/full/x", "/full/x: Not a directory"),
        ("d", "/full", "/full is no directory"),
        ("file", "/round/x", "Too many levels|more than 40 links"),
        ("tops", "/", "/lib is no directory and would be replaced by one"),
    ],
)
def test_what_does_not_fit_is_refused(
    context: Path, target: Path, patterns: str, to: str, why: str
) -> None:
    (target / "round").symlink_to("round")
    (context / "tops/lib").mkdir(parents=True)
    with pytest.raises(BuildError, match=why):
        copy(context, target, patterns, to)
    assert (target / "full").read_text() == "old"
    assert (target / "lib").is_symlink()


def test_a_file_does_not_replace_a_directory(context: Path, target: Path) -> None:
    (target / "there/file").mkdir()
    with pytest.raises(BuildError, match="there/file is a directory"):
        copy(context, target, "file", "/there")


@pytest.mark.parametrize("way", ["../outside", "/../../outside", "/outside/../../outside"])
def test_links_of_the_tree_lead_nowhere_outside(
    context: Path, target: Path, tmp_path: Path, way: str
) -> None:
    (target / "out").symlink_to(way)
    copy(context, target, "file", "/out/x/y")
    copy(context, target, "d", "/out/z")
    assert list((tmp_path / "outside").iterdir()) == []
    assert (target / "outside/x/y").read_text() == "file"


def test_a_link_to_nothing_is_where_it_leads(context: Path, target: Path) -> None:
    (target / "dangling").symlink_to("/made/later")
    assert copy(context, target, "file", "/dangling") == ["made", "made/later"]
    assert (target / "dangling").is_symlink()


def test_a_file_is_replaced_and_a_link_of_that_name_followed(context: Path, target: Path) -> None:
    copy(context, target, "file", "/full")
    assert (target / "full").read_text() == "file"
    (target / "alias").symlink_to("full")
    copy(context, target, "d/inner", "/alias")
    assert (target / "full").read_text() == "d/inner"
    (target / "there/inner").symlink_to("../full")
    copy(context, target, "d", "/there")
    assert not (target / "there/inner").is_symlink()


def test_owners_modes_and_times(context: Path, target: Path) -> None:
    (context / "file").chmod(0o4640)
    copy(context, target, "file d", "/x/")
    status = (target / "x/file").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (
        0,
        0o4640,
        EPOCH_NS,
    )
    assert stat.S_IMODE((target / "x/sub").stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "there").stat().st_mode) == 0o711
    copy(context, target, "file", "/y/z", owner=Owner(uid=3, gid=4), mode=0o600)
    assert [(target / name).stat().st_gid for name in ("y", "y/z")] == [4, 4]
    assert stat.S_IMODE((target / "y/z").stat().st_mode) == 0o600


def test_names_of_one_file_of_a_stage_stay_so(context: Path, target: Path) -> None:
    (context / "d/twin").hardlink_to(context / "d/inner")
    os.setxattr(context / "d/inner", "user.word", b"kept")
    os.utime(context / "d/inner", ns=(5, 5))
    os.chown(context / "d/inner", 7, 8)
    copy(context, target, "d", "/new", owned=True)
    inner, twin = (target / "new/inner").stat(), (target / "new/twin").stat()
    assert inner.st_ino == twin.st_ino
    assert (inner.st_uid, inner.st_gid, inner.st_mtime_ns) == (7, 8, 5)
    assert os.getxattr(target / "new/twin", "user.word") == b"kept"
    copy(context, target, "d", "/plain")
    assert (target / "plain/inner").stat().st_nlink == 1
    assert os.listxattr(target / "plain/inner") == []


def test_what_changes_meanwhile_is_not_copied_as_if_it_had_not(
    context: Path, target: Path
) -> None:
    manner = Manner(owner=None, mode=None, epoch_ns=EPOCH_NS)
    with SourceTree(root=context) as tree, Rootfs(target) as rootfs:
        chosen = tree.choose("file")
        (context / "file").write_text("else")
        with pytest.raises(BuildError, match="'file' in the build context changed"):
            Copying(tree, rootfs, manner).copy(chosen, "/new")
