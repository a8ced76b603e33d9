import os
from pathlib import Path

from runtime.image.removal import remove_tree


def test_a_missing_tree_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing")
    remove_tree(tmp_path / "missing" / "deeper")


def test_files_and_links_go_but_not_what_links_lead_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    for name in ("link", "tree"):
        (tmp_path / name).mkdir()
    (tmp_path / "tree/a/b/c").mkdir(parents=True)
    (tmp_path / "tree/a/link").symlink_to(outside)
    (tmp_path / "tree/a/b/link").symlink_to(outside / "kept")
    os.mkfifo(tmp_path / "tree/a/fifo")
    (tmp_path / "link").rmdir()
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "outside"]


def test_trees_deeper_than_any_path_or_stack(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    descriptor = os.open(tmp_path / "tree", os.O_RDONLY)
    for number in range(3000):
        os.mkdir("directory", dir_fd=descriptor)
        os.close(os.open(f"file{number}", os.O_CREAT, dir_fd=descriptor))
        below = os.open("directory", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_holds_the_names_removal_uses(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"tree/a/b{number}/c").mkdir(parents=True)
        (tmp_path / f"tree/.removed-{number}").write_text("in the way")
        (tmp_path / f"tree/a/.removed-{number}/full").mkdir(parents=True)
        (tmp_path / f"tree/.removed-{number + 9}/full").mkdir(parents=True)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []
