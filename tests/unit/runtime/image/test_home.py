import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.image import ImageError, cache_dir, state_dir


def test_the_variable_wins_and_nothing_is_made(home: Path) -> None:
    assert state_dir() == home
    assert not home.exists()


def test_a_relative_variable_is_taken_from_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOSCOPE_HOME", "here")
    assert state_dir() == tmp_path / "here"


def test_root_and_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_dir() == Path("/var/lib/isoscope")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for data, expected in (
        ("/data", "/data/isoscope"),
        ("", "/home/someone/.local/share/isoscope"),
        ("relative", "/home/someone/.local/share/isoscope"),
    ):
        monkeypatch.setenv("XDG_DATA_HOME", data)
        assert state_dir() == Path(expected)


def test_cache_dir_is_made_and_may_be_passed_through(home: Path) -> None:
    assert cache_dir("kernels") == home / "kernels"
    assert cache_dir("kernels").is_dir()
    for path in (home, home / "kernels"):
        assert path.stat().st_mode & 0o022 == 0
        assert path.stat().st_mode & 0o044 == 0


def test_a_home_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "file"))
    with pytest.raises(ImageError, match="cannot make") as caught:
        cache_dir("x")
    assert "ISOSCOPE_HOME" in (caught.value.remedy or "")


def test_importing_the_package_stays_light() -> None:
    heavy = ["tarfile", "subprocess", "tempfile", "shutil", "ctypes", "argparse", "bz2"]
    code = f"import sys, runtime.image; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "[]\n"
