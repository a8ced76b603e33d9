"""A directory of this computer in a guest: written from both sides, unless it is read-only."""

from pathlib import Path

import pytest

from vmbackend.errors import MachineSpecError, MachineUnavailable
from vmbackend.machine import machine
from vmbackend.share import Share, virtiofsd
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
LIMIT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    try:
        virtiofsd()
    except MachineUnavailable as why:
        pytest.skip(str(why))
    (tmp_path / "from-here").write_text("hello\n")
    return tmp_path


def test_both_sides_see_what_the_other_wrote_and_read_only_is_not_the_guests_to_change(
    busybox: str, folder: Path
) -> None:
    shares = (
        Share(source=folder, target="/srv/both"),
        Share(source=folder, target="/srv/read", is_readonly=True),
    )
    with machine(MachineSpec(image=busybox, shares=shares)) as guest:

        def ask(script: str) -> tuple[int, bytes]:
            done = guest.run(["sh", "-c", script], timeout_s=LIMIT_S)
            return done.exit_status, done.stdout

        assert ask("cat /srv/both/from-here") == (0, b"hello\n")
        assert ask("echo back > /srv/both/from-there; chown 7 /srv/both/from-there")[0] == 0
        assert (folder / "from-there").read_text() == "back\n"
        assert (folder / "from-there").stat().st_uid == 7
        assert ask("cat /srv/read/from-there") == (0, b"back\n")
        status, _ = ask("mount -o remount,rw /srv/read; echo x > /srv/read/refused")
        assert status != 0
        assert not (folder / "refused").exists()
    leftover = [p for p in Path("/proc").glob("[0-9]*/cmdline") if _names(p, str(folder))]
    assert leftover == []


def _names(cmdline: Path, needle: str) -> bool:
    try:
        line = cmdline.read_text()
    except OSError:
        return False
    return "virtiofsd" in line and needle in line


def test_a_file_cannot_be_shared(busybox: str, folder: Path) -> None:
    shares = (Share(source=folder / "from-here", target="/x"),)
    with (
        pytest.raises(MachineSpecError, match="is no directory"),
        machine(MachineSpec(image=busybox, shares=shares)),
    ):
        pytest.fail("it started")
