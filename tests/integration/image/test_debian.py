"""Debian images from this machine's own sources: one whole base, the rest without scripts."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from runtime.errors import RuntimeFault
from runtime.image import ImageError, Store, apt, unpacked, workplace
from runtime.image.debian import DebianRecipe, bootstrap_debian
from runtime.image.history import history

TOOLS = ("mmdebstrap", "setpriv", "unshare", "apt-get")
SMALL = DebianRecipe(variant="extract", include=("busybox-static",))


def obstacle() -> str | None:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{missing[0]} is not installed: apt-get install mmdebstrap"
    if os.geteuid() != 0:
        return "installing packages into a directory needs root"
    try:
        apt.packages(apt.read_sources(), ["busybox-static"])
    except RuntimeFault as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def able() -> None:
    if (why := obstacle()) is not None:
        pytest.skip(why)


@pytest.fixture
def home(able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    del able
    path = tmp_path / "home"
    monkeypatch.setenv("ISOSCOPE_HOME", str(path))
    yield path
    assert not (path / "bootstrap/work").exists()


def archive_names() -> set[str]:
    """The hosts that this machine's sources name."""
    found = (re.match(r"deb \[[^]]*\] \w+://([^/:]+)", line) for line in apt.read_sources().lines)
    return {match[1] for match in found if match is not None}


def unshipped(tree: Path) -> Iterator[Path]:
    """The files of *tree* that are in no package, so were written by what ran here."""
    records = tree / "var/lib/dpkg"  # texts of the packages
    lists = (path.read_text().splitlines() for path in (records / "info").glob("*.list"))
    shipped = {line.removeprefix("/usr") for lines in lists for line in lines}
    for path in tree.rglob("*"):
        name = f"/{path.relative_to(tree)}".removeprefix("/usr")
        told = name in shipped or path.is_relative_to(records)
        if path.is_file() and not path.is_symlink() and not told:
            yield path


@pytest.mark.slow
def test_a_base_with_nothing_of_this_machine(home: Path) -> None:
    store, told = Store(), list[str]()
    made = bootstrap_debian(store, "debian", DebianRecipe(), say=told.append)
    assert told[0] == "downloading packages"
    assert not made.cached
    tree = unpacked(store, made.image, purpose="test").path
    forbidden = archive_names() | {socket.gethostname(), str(home)}
    # A host may be called as a word is: it must stand alone, not inside of a longer one.
    pattern = re.compile(
        b"|".join(rb"(?<![\w.-])" + re.escape(f.encode()) + rb"(?![\w.-])" for f in forbidden)
    )
    made_here = list(unshipped(tree))
    assert tree / "etc/passwd" in made_here
    assert tree / "etc/ld.so.cache" in made_here
    assert [path for path in made_here if pattern.search(path.read_bytes())] == []
    status = (tree / "var/lib/dpkg/status").read_text()
    installed = re.findall(r"^Status: install ok installed$", status, re.MULTILINE)
    assert len(installed) == made.packages
    for absent in ("etc/hostname", "etc/resolv.conf", "etc/apt/sources.list", "var/log/dpkg.log"):
        assert not (tree / absent).exists()
    for empty in ("etc/apt/sources.list.d", "var/lib/apt/lists", "dev", "tmp"):
        assert os.listdir(tree / empty) == []  # noqa: PTH208 - names
    assert not any(path.is_file() for path in (tree / "var/log").rglob("*"))
    ran = subprocess.run(
        ["chroot", tree, "dpkg", "--audit"], capture_output=True, check=True, text=True
    )
    assert ran.stdout == ""
    again = bootstrap_debian(store, "again", DebianRecipe(), say=told.append)
    assert again.cached
    assert again.image.references == ("again:latest", "debian:latest")


def test_two_makings_give_the_same_bytes(home: Path) -> None:
    one, two = (
        bootstrap_debian(Store(home / name), name, SMALL, say=lambda _: None)
        for name in ("one", "two")
    )
    assert one.image.digest == two.image.digest
    assert (one.cached, two.cached) == (False, False)
    store = Store(home / "one")
    raw = store.read_blob(one.image.manifest.layers[0], limit_bytes=1 << 30)
    with tarfile.open(fileobj=BytesIO(raw)) as archive:
        members = archive.getmembers()
    assert "bin/busybox" in {member.name for member in members}
    epoch_s = apt.read_sources().epoch_s
    assert max(member.mtime for member in members) <= epoch_s
    assert [step.created_by for step in history(store, one.image)] == [
        "isoscope image bootstrap debian --include busybox-static"
    ]


KILLED = """
import os, sys
from runtime.image import Store
from runtime.image.debian import DebianRecipe, bootstrap_debian
def say(step):
    print(step, flush=True)
    sys.stdin.read(1)
bootstrap_debian(Store(), "x", DebianRecipe(), say=say)
"""


def descendants(pid: int) -> set[int]:
    """The processes below *pid*, from the kernel's own lists (proc(5), children)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return set()
    return {int(child) for child in children}.union(*(descendants(int(c)) for c in children))


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_us(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "downloading packages\n"
        below = descendants(maker.pid)
        assert len(below) >= 2
        handles = [os.pidfd_open(pid) for pid in below if Path(f"/proc/{pid}").exists()]
        maker.send_signal(number)
    for handle in handles:  # a pidfd can be read when its process has ended
        assert select.select([handle], [], [], 60)[0]
        os.close(handle)
    left = ("unfinished bootstrap of an image",) if number is signal.SIGKILL else ()
    assert workplace.sweep() == left
    assert workplace.sweep() == ()


@pytest.mark.usefixtures("home")
def test_an_unknown_package_is_named() -> None:
    recipe = DebianRecipe(variant="extract", include=("no-such-package",))
    with pytest.raises(ImageError, match="Unable to locate package no-such-package"):
        bootstrap_debian(Store(), "x", recipe, say=lambda _: None)


@pytest.mark.parametrize("name", ["", "Upper", "-o", "a b", "a;b", "a\nb", "a=1"])
def test_a_package_has_a_plain_name(name: str) -> None:
    with pytest.raises(ImageError, match="no package's name"):
        DebianRecipe(include=(name,))
