"""``./isoscope uninstall`` on a copy of the checkout that set-up has been at work in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The front door and its packages, with a small ``.venv`` that borrows this one's modules."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("isoscope", "isoscope.py"):
        shutil.copy2(ROOT / name, copy)
    for name in ("runtime", "vmbackend", "benchmarks"):
        (copy / name).symlink_to(ROOT / name)
    (copy / ".venv/bin").mkdir(parents=True)
    (copy / ".venv/bin/python").symlink_to(sys.executable)
    return copy


def uninstall(checkout: Path, home: Path) -> str:
    done = subprocess.run(
        [checkout / "isoscope", "uninstall", "--yes"],
        env=os.environ | {"ISOSCOPE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_we_made_goes_and_no_more(checkout: Path, tmp_path: Path) -> None:
    home = tmp_path / "state"
    subprocess.run(
        [sys.executable, ROOT / "isoscope.py", "image", "bootstrap", "busybox"],
        env=os.environ | {"ISOSCOPE_HOME": str(home)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    said = uninstall(checkout, home)
    assert not home.exists()
    assert not (checkout / ".venv").exists()
    assert (checkout / "isoscope.py").exists()
    assert "results stay" in said


def test_a_strangers_file_in_the_state_directory_stays(checkout: Path, tmp_path: Path) -> None:
    home = tmp_path / "state"
    (home / "images").mkdir(parents=True)
    (home / "thesis.tex").write_text("years of work")
    assert "holds other files too" in uninstall(checkout, home)
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


def test_every_name_in_the_state_directory_is_known(home: Path) -> None:
    listed = re.search(r"^state_names='([^']*)'", (ROOT / "isoscope").read_text(), re.MULTILINE)
    assert listed
    of_users = {"certs.d", "registries.toml"}
    assert {path.name for path in home.iterdir()} - of_users <= set(listed[1].split())
