import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vmbackend.disk import allocated_bytes, instance_overlay
from vmbackend.qcow2 import overlay


class Base:
    def __init__(self, path: Path, virtual_bytes: int) -> None:
        self.path = path
        self.virtual_bytes = virtual_bytes


@pytest.mark.parametrize("virtual_bytes", [4096, 256 << 20, (512 << 20) + 4096, 5 << 40])
def test_qemu_img_accepts_the_overlay(tmp_path: Path, virtual_bytes: int) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("no qemu-img here: apt-get install qemu-utils")
    base = tmp_path / "base.raw"
    with base.open("wb") as file:
        file.truncate(virtual_bytes)
    target = tmp_path / "overlay.qcow2"
    with instance_overlay(Base(base, virtual_bytes), target):  # type: ignore[arg-type]  # two fields
        subprocess.run(["qemu-img", "check", "-q", target], check=True)
        told = subprocess.run(
            ["qemu-img", "info", "--output=json", target], check=True, capture_output=True
        )
        info = json.loads(told.stdout)
        assert info["virtual-size"] == virtual_bytes
        assert info["full-backing-filename"] == str(base)
        assert info["backing-filename-format"] == "raw"
        assert allocated_bytes(target) <= 64 << 10
    assert not target.exists()


def test_the_overlay_goes_with_an_exception(tmp_path: Path) -> None:
    target = tmp_path / "overlay.qcow2"
    with pytest.raises(RuntimeError), instance_overlay(Base(Path("/b"), 4096), target):  # type: ignore[arg-type]  # two fields
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("backing", "size"), [("", 1), ("/x" * 600, 1), ("/b", 0)])
def test_what_the_format_cannot_hold_is_refused(backing: str, size: int) -> None:
    with pytest.raises(ValueError, match="no overlay"):
        overlay(backing, size)
