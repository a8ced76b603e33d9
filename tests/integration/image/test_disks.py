"""Disks that are full, and homes that can only be read: real ones, in a mount namespace each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.image import Image, Store
from runtime.image.bootstrap import bootstrap_busybox

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root; run as root")


def isoscope_on(
    mount: str, words: list[str], home: Path, *, before: str = "true", after: str = "true"
) -> tuple[int, str, str]:
    """Status, output and errors of ``isoscope WORDS``, where *mount* makes its home a disk."""
    script = f'{mount} && {before} && {{ "$@"; status=$?; {after}; exit $status; }}'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable]
    done = subprocess.run(
        [*command, str(ROOT / "isoscope.py"), *words],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "ISOSCOPE_HOME": str(home)},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def archive(busybox: Image, tmp_path: Path) -> Path:
    """An image of a megabyte, in a file."""
    target = tmp_path / "busybox.tar"
    status, _, errors = isoscope_on(
        "true", ["image", "save", busybox.digest, "-o", str(target)], Store().root.parent
    )
    assert (status, errors) == (0, "")
    return target


def test_too_small_a_disk_is_refused_with_the_missing_room(archive: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    status, _, errors = isoscope_on(
        f"mount -t tmpfs -o size=256k none {home}",
        ["image", "load", "-i", str(archive)],
        home,
        after=f"find {home} -type f -size +8k",
    )
    assert status == 125
    assert f"there is too little room in {home}/scratch: the archive needs " in errors
    assert " kB are missing; free some with" in errors
    assert "isoscope image prune" in errors
    assert len(errors.splitlines()) == 1


def test_a_disk_that_gets_full_while_it_is_unpacked_onto_keeps_nothing(
    tmp_path: Path, archive: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # The compressed image fits, twice; what it unpacks to does not.
    status, output, errors = isoscope_on(
        f"mount -t tmpfs -o size=2500k none {home}",
        ["run", "busybox", "true"],
        home,
        before=f"{sys.executable} {ROOT / 'isoscope.py'} image load -i {archive}",
        after=f"find {home}/layers -type f",
    )
    assert status == 125
    assert "is full: the unpacked image has no room there" in errors
    assert "isoscope image prune" in errors
    assert "layers" not in output.partition("\n")[2]


def test_saving_onto_too_small_a_disk_leaves_no_file(busybox: Image, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    status, output, errors = isoscope_on(
        f"mount -t tmpfs -o size=256k none {small}",
        ["image", "save", busybox.digest, "-o", str(small / "image.tar")],
        Store().root.parent,
        after=f"ls -A {small}",
    )
    assert (status, output) == (125, "")
    assert f"there is too little room in {small}: the archive needs " in errors


def test_usage_of_a_home_that_can_only_be_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bootstrap_busybox(Store(home / "images"), "busybox")
    status, output, errors = isoscope_on(
        f"mount --bind {home} {home} && mount -o remount,bind,ro {home}",
        ["image", "df", "--json"],
        home,
    )
    assert (status, errors) == (0, "")
    assert json.loads(output)["stored_bytes"] > 0
