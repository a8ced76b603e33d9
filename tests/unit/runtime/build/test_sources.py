"""Choosing files: patterns, links, what is hidden, and trees made to do harm."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.build.ignore import read_ignore
from runtime.build.sources import SourceTree, digest_of
from runtime.errors import BuildError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("not to be read")
    root = tmp_path / "context"
    for name in ("a.txt", "b.txt", ".dot", "d/one", "d/two", "d/sub/three", "e/one", "a*b"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


@pytest.fixture
def tree(context: Path) -> Iterator[SourceTree]:
    with SourceTree(root=context) as opened:
        yield opened


def _paths(tree: SourceTree, pattern: str) -> list[str]:
    return [item.node.path for each in tree.choose(pattern) for item in each.items]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("./d/../a.txt", ["a.txt"]),
        ("../../a.txt", ["a.txt"]),
        ("*.txt", ["a.txt", "b.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("[^b].txt", ["a.txt"]),
        (r"a\*b", ["a*b"]),
        ("*/one", ["d/one", "e/one"]),
        ("d/*/three", ["d/sub/three"]),
        ("d", ["d", "d/one", "d/sub", "d/sub/three", "d/two"]),
        ("*.none", []),
        ("a.txt/*", []),
    ],
)
def test_patterns(tree: SourceTree, pattern: str, found: list[str]) -> None:
    assert _paths(tree, pattern) == found


def test_dot_is_everything(tree: SourceTree) -> None:
    assert len(_paths(tree, ".")) == 12
    assert ".dot" in _paths(tree, "*")


@pytest.mark.parametrize("pattern", ["none", "a.txt/below", "d/none", "[a.txt", "a" * 5000])
def test_what_is_not_there_or_malformed_is_an_error(tree: SourceTree, pattern: str) -> None:
    with pytest.raises(BuildError):
        tree.choose(pattern)


@pytest.mark.parametrize("target", ["../outside", "/../outside", "../context/../outside"])
def test_links_lead_nowhere_outside(context: Path, tree: SourceTree, target: str) -> None:
    (context / "link").symlink_to(target)
    with pytest.raises(BuildError, match="'link' is not in the build context"):
        tree.choose("link")
    (context / "up").symlink_to("..")
    with pytest.raises(BuildError):
        tree.choose("up/outside")


def test_absolute_links_begin_at_the_context(context: Path, tree: SourceTree) -> None:
    (context / "absolute").symlink_to("/d/one")
    (context / "directory").symlink_to("d/sub")
    assert _paths(tree, "absolute") == ["d/one"]
    assert _paths(tree, "direct*") == ["d/sub", "d/sub/three"]
    assert [item.node.link for each in tree.choose(".") for item in each.items][1] in {
        "",
        "/d/one",
    }


def test_links_in_circles_end(context: Path, tree: SourceTree) -> None:
    (context / "x").symlink_to("y")
    (context / "y").symlink_to("x")
    with pytest.raises(BuildError, match="Too many levels"):
        tree.choose("x")


def test_fifos_are_never_opened_sockets_left_out_devices_refused(
    context: Path, tree: SourceTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(context / "d/fifo")
    monkeypatch.chdir(context / "d")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    kinds = {item.node.path: item.node.kind for item in tree.choose("d")[0].items}
    assert kinds["d/fifo"] == "fifo"
    assert "d/socket" not in kinds
    if os.geteuid() == 0:
        os.mknod(context / "d/device", 0o20600, os.makedev(1, 3))
        with pytest.raises(BuildError, match=r"device; name it in \.dockerignore"):
            tree.choose("d")


def test_a_tree_too_deep_is_refused(context: Path, tree: SourceTree) -> None:
    here = os.open(context, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("n", dir_fd=here)
        below = os.open("n", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(BuildError, match="deeper than 255"):
        tree.choose(".")


def test_a_file_swapped_for_a_fifo_does_not_stop_us(context: Path, tree: SourceTree) -> None:
    node = tree.choose("a.txt")[0].top
    (context / "a.txt").unlink()
    os.mkfifo(context / "a.txt")
    with pytest.raises(BuildError, match="changed during the build"):
        tree.open_file(node)
    (context / "a.txt").unlink()
    (context / "a.txt").symlink_to("/etc/passwd")
    with pytest.raises(BuildError, match="cannot be read"):
        tree.open_file(node)


def test_what_is_hidden_is_not_there(context: Path) -> None:
    rules = read_ignore(b"d\n!d/sub\n*.txt\n")
    with SourceTree(root=context, hiding=rules) as tree:
        assert _paths(tree, "d") == ["d", "d/sub", "d/sub/three"]
        assert _paths(tree, "*") == [
            ".dot", "a*b", "d", "d/sub", "d/sub/three", "e", "e/one",
        ]  # fmt: skip
        with pytest.raises(BuildError, match=r"'a\.txt' is not in .*dockerignore hides it"):
            tree.choose("a.txt")
        (context / "way").symlink_to("a.txt")
        with pytest.raises(BuildError, match="dockerignore hides it"):
            tree.choose("way")


def test_names_that_are_no_text_are_names(context: Path, tree: SourceTree) -> None:
    odd = os.fsdecode(b"caf\xe9\n")
    (context / "d" / odd).write_text("x")
    assert f"d/{odd}" in _paths(tree, "d")
    assert len(digest_of(tree.choose("d"), owned=False)) == 64


def test_a_digest_tells_a_link_from_a_copy_only_where_it_is_taken(context: Path) -> None:
    def digests() -> tuple[str, str]:
        with SourceTree(root=context) as plain, SourceTree(root=context, owned=True) as owned:
            return (
                digest_of(plain.choose("."), owned=False),
                digest_of(owned.choose("."), owned=True),
            )

    (context / "copy").write_text("a.txt")
    copied = digests()
    (context / "copy").unlink()
    (context / "copy").hardlink_to(context / "a.txt")
    linked = digests()
    assert linked[0] == copied[0]
    assert linked[1] != copied[1]


def test_a_root_that_is_none(tmp_path: Path) -> None:
    with (
        pytest.raises(BuildError, match="cannot be read: No such file"),
        SourceTree(root=tmp_path / "none"),
    ):
        pass
