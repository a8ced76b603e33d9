import os
import stat
from pathlib import Path

import pytest

from vmbackend import account as module
from vmbackend.account import (
    Account,
    check_passable,
    check_readable,
    give_to_emulator,
    open_to_emulator,
)
from vmbackend.errors import MachineUnavailable

QEMU = Account(uid=64055, gid=64055, started_as=108, groups=frozenset({64055, 108}))
READ, ENTER = 4, 1


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 0, 0, 0, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "wanted", "granted"),
    [
        (0o400, 64055, 0, READ, True),
        (0o077, 64055, 108, READ, False),  # the owner's bits decide, though others have more
        (0o040, 0, 108, READ, True),
        (0o040, 0, 64055, READ, True),
        (0o703, 0, 108, ENTER, False),
        (0o701, 0, 0, ENTER, True),
        (0o700, 0, 0, ENTER, False),
        (0o660, 0, 108, READ | 2, True),
        (0o640, 0, 108, READ | 2, False),
    ],
)
def test_permissions_are_as_the_kernel_grants_them(
    mode: int, uid: int, gid: int, wanted: int, *, granted: bool
) -> None:
    assert QEMU.may(status(mode, uid, gid), wanted) is granted


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setattr(module, "emulator_account", lambda: QEMU)
    return QEMU


def test_a_closed_folder_on_the_way_is_named_with_its_remedy(
    qemu: Account, tmp_path: Path
) -> None:
    assert qemu.uid
    tmp_path.chmod(0o700)
    with pytest.raises(MachineUnavailable, match="may not pass through") as caught:
        check_passable(tmp_path)
    assert str(caught.value.remedy).startswith("chmod o+x /")


def test_a_closed_file_is_named_with_its_remedy(qemu: Account) -> None:
    assert qemu.uid
    check_readable(Path("/etc/passwd"))
    with pytest.raises(MachineUnavailable, match="may not read /etc/shadow"):
        check_readable(Path("/etc/shadow"))


@pytest.mark.skipif(os.geteuid() != 0, reason="ownership is given by root")
def test_what_is_opened_is_opened_to_the_account_alone(qemu: Account, tmp_path: Path) -> None:
    file, foreign = tmp_path / "f", tmp_path / "g"
    file.touch(mode=0o644)
    foreign.touch(mode=0o600)
    os.chown(foreign, 65534, 65534)
    open_to_emulator(file, 0o640)
    open_to_emulator(foreign, 0o640)
    assert (file.stat().st_uid, file.stat().st_gid) == (0, qemu.gid)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert (foreign.stat().st_gid, stat.S_IMODE(foreign.stat().st_mode)) == (65534, 0o600)
    give_to_emulator(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (qemu.uid, qemu.gid)
