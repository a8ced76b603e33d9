import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.image import Identity, ImageError, identity, lookup

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
broken:x:zero:0::/broken:/bin/sh
short:x:1
huge:x:4294967294:1::/huge:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
twin:x:1000:7::/twin:/bin/sh
77:x:5:5::/named-like-a-number:/bin/sh
nohome:x:8:8:::/bin/sh
"""  # noqa: S105 - a passwd(5) file without passwords
GROUP = """\
root:x:0:root
wheel:x:10:root,app
app:x:1001:app
video:x:44:app,other
broken:x:many:app
88:x:6:
"""


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        (None, 0, 0, (0, 10), "/root"),
        ("", 0, 0, (0, 10), "/root"),
        ("root", 0, 0, (0, 10), "/root"),
        ("0", 0, 0, (0, 10), "/root"),
        ("app", 1000, 1001, (1001, 10, 44), "/home/app"),
        ("1000", 1000, 1001, (1001, 10, 44), "/home/app"),
        ("app:video", 1000, 44, (44,), "/home/app"),
        ("app:9", 1000, 9, (9,), "/home/app"),
        ("app:", 1000, 1001, (1001, 10, 44), "/home/app"),
        (":video", 0, 44, (44,), "/root"),
        ("4242", 4242, 0, (0,), "/"),
        ("4242:4343", 4242, 4343, (4343,), "/"),
        ("77", 77, 0, (0,), "/"),
        ("app:88", 1000, 88, (88,), "/home/app"),
        ("nohome", 8, 8, (8,), "/"),
        ("2147483647", 2147483647, 0, (0,), "/"),
    ],
)
def test_docker_rules(
    user: str | None, uid: int, gid: int, groups: tuple[int, ...], home: str
) -> None:
    expected = Identity(uid=uid, gid=gid, groups=groups, home=home)
    assert lookup(user, passwd=PASSWD, group=GROUP) == expected


@pytest.mark.parametrize(
    "user", ["nobody", "broken", "short", "huge", "-1", "+1", "1_0", "\uff11"]
)
def test_a_name_must_stand_in_passwd(user: str) -> None:
    with pytest.raises(ImageError, match="has no user"):
        lookup(user, passwd=PASSWD, group=GROUP)


def test_a_group_must_exist_and_ids_have_an_end() -> None:
    with pytest.raises(ImageError, match="has no group 'staff'"):
        lookup("app:staff", passwd=PASSWD, group=GROUP)
    for user in ("2147483648", "0:4294967295", "9" * 5000):
        with pytest.raises(ImageError, match="above 2147483647"):
            lookup(user, passwd=PASSWD, group=GROUP)


@given(st.text("a:0\n\0,é", max_size=60), st.text("a:0\n\0,é", max_size=60))
def test_any_file_gives_an_identity(passwd: str, group: str) -> None:
    found = lookup(None, passwd=passwd, group=group)
    assert found.uid == 0
    assert "\0" not in found.home


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_files_missing_in_the_tree_are_empty(tmp_path: Path) -> None:
    assert identity(tmp_path, None) == Identity(uid=0, gid=0, groups=(0,), home="/")
    write(tmp_path, "etc", "a file")
    assert identity(tmp_path, "5:6").uid == 5


@pytest.mark.parametrize(
    "link", ["/data/passwd", "../data/passwd", "../../../../data/passwd", "/etc/../data/./passwd"]
)
def test_links_are_followed_as_if_the_tree_were_the_root(tmp_path: Path, link: str) -> None:
    root = tmp_path / "tree"
    write(root, "data/passwd", PASSWD)
    write(tmp_path, "data/passwd", "app:x:666:666::/outside:/bin/sh\n")
    (root / "etc").mkdir()
    (root / "etc/passwd").symlink_to(link)
    assert identity(root, "app").uid == 1000


def test_a_link_out_of_the_tree_leads_nowhere(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    write(tmp_path, "outside/passwd", PASSWD)
    root.mkdir()
    (root / "etc").symlink_to(tmp_path / "outside")
    with pytest.raises(ImageError, match="has no user 'app'"):
        identity(root, "app")


def test_links_in_circles_devices_and_giants_are_errors(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    passwd = tmp_path / "etc/passwd"
    passwd.symlink_to("passwd")
    with pytest.raises(ImageError, match="more than 40 links"):
        identity(tmp_path, None)
    passwd.unlink()
    os.mkfifo(passwd)
    with pytest.raises(ImageError, match="not a regular file"):
        identity(tmp_path, None)
    passwd.unlink()
    with passwd.open("wb") as file:
        file.truncate((4 << 20) + 1)
    with pytest.raises(ImageError, match="larger than"):
        identity(tmp_path, None)
