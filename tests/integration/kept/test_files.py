"""Files in and out of containers, and what became of their images': links lead nowhere else."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from kept_containers import leaving_nothing, refused

import runtime
from runtime.build.commit import commit
from runtime.container.container import Options
from runtime.container.kept.copying import Manner, Side, copy, inside
from runtime.container.kept.differing import changes
from runtime.container.kept.kept import Kept
from runtime.errors import RuntimeFault
from runtime.image import Image, Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
PLAIN = Manner(keeps_owners=False, drops_set_ids=True)
HOSTILE = """
ln -s /etc /link; ln -s ../../../../../../etc/passwd /up; ln -s /proc/self/exe /exe
mkdir -p /tree/sub; echo in > /tree/sub/file; ln -s /etc/shadow /tree/shadow; mkfifo /tree/fifo
echo x > /tree/su; chmod 4755 /tree/su; mkdir /full; echo a > /full/a
rm -r /var; mkdir /var; touch /var/new; rm /bin/ls; echo said; exec sleep 100
"""


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    with leaving_nothing():
        yield


@pytest.fixture(params=["running", "stopped"])
def hostile(busybox: Image, request: pytest.FixtureRequest) -> Iterator[Kept]:
    kept, _ = Kept.run(busybox, ("sh", "-c", HOSTILE), Options())
    with kept:
        assert next(iter(kept.frames(follow=True))).data == b"said\n"
        if request.param == "stopped":
            kept.stop(0)
        yield kept


def out(kept: Kept, path: str, target: Path) -> tuple[str, ...]:
    with inside(kept) as root:
        source = Side(root=root, path=path, told=path)
        return copy(source, Side(root=None, path=str(target), told=str(target)), PLAIN)


def into(kept: Kept, source: Path, path: str) -> None:
    with inside(kept) as root:
        target = Side(root=root, path=path, told=path)
        copy(Side(root=None, path=str(source), told=str(source)), target, PLAIN)


def test_links_of_a_container_lead_nowhere_else(hostile: Kept, tmp_path: Path) -> None:
    here = Path.cwd()
    out(hostile, "/link/passwd", tmp_path / "passwd")  # a link on the way leads inside
    assert (tmp_path / "passwd").read_text() != Path("/etc/passwd").read_text()
    out(hostile, "/up", tmp_path / "up")  # one that is copied stays what it is
    assert (tmp_path / "up").readlink() == Path("../../../../../../etc/passwd")
    (tmp_path / "evil").write_text("evil")
    before = Path("/etc/passwd").read_bytes()
    into(hostile, tmp_path / "evil", "/up")
    into(hostile, tmp_path / "evil", "/link/made")
    assert Path("/etc/passwd").read_bytes() == before
    assert not Path("/etc/made").exists()
    with pytest.raises(RuntimeFault):
        out(hostile, "/exe/x", tmp_path / "no")
    assert Path.cwd() == here
    assert str(hostile.directory) not in Path("/proc/self/mountinfo").read_text()


def test_a_tree_arrives_without_what_is_dangerous(hostile: Kept, tmp_path: Path) -> None:
    (left_out,) = out(hostile, "/tree", tmp_path)
    assert "/tree/fifo is neither" in left_out
    tree = tmp_path / "tree"
    assert sorted(each.name for each in tree.iterdir()) == ["shadow", "su", "sub"]
    assert (tree / "sub" / "file").read_text() == "in\n"
    assert tree.joinpath("shadow").is_symlink()
    assert stat.S_IMODE((tree / "su").stat().st_mode) == 0o755
    (tree / "sub").rename(tmp_path / "elsewhere")
    (tree / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RuntimeFault):  # a link in the way is not followed on this side either
        out(hostile, "/tree", tmp_path)
    out(hostile, "/full/.", tmp_path / "fresh")
    assert [each.name for each in (tmp_path / "fresh").iterdir()] == ["a"]
    assert not list(tmp_path.glob("**/.isoscope-*"))


def test_what_was_changed_is_told_and_becomes_an_image(hostile: Kept) -> None:
    told = {change.path: change.kind for change in changes(hostile)}
    assert told["/bin"] == "C"
    assert told["/bin/ls"] == "D"
    assert told["/tree/sub/file"] == "A"
    assert told["/var"] == "C"
    assert told["/var/new"] == "A"
    state = hostile.standing.state
    made = commit(hostile, "committed:1", message="as it is")
    try:
        assert hostile.standing.state == state
        assert made.config.diff_ids[:-1] == Store().resolve("busybox").config.diff_ids
        done = runtime.run("committed:1", ["sh", "-c", "cat /tree/sub/file; test ! -e /bin/ls"])
        assert (done.exit_status, done.stdout) == (0, b"in\n")
    finally:
        Store().remove("committed:1")


def test_copying_wants_one_side_in_a_container() -> None:
    assert "CONTAINER:PATH" in refused("cp", "/a", "/b")
    assert "exec -i" in refused("cp", "any:/a", "-")
