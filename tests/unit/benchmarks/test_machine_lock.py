"""One run at a time: whoever holds the machine, however they end, whatever lies in the way."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.errors import Busy, JournalError
from benchmarks.machine_lock import lock_path, machine_lock

HOLDER = """
import sys
from pathlib import Path
from benchmarks.machine_lock import machine_lock
{first}
with machine_lock() as held:
    held.tells(Path("/results/a run"))
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOSCOPE_LOCK", str(tmp_path / "lock"))
    return tmp_path / "lock"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@contextmanager
def holding(first: str = "") -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(first=first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    with holding() as process:
        yield process


def refusal() -> Busy:
    with pytest.raises(Busy) as caught, machine_lock():
        pass
    return caught.value


def test_a_held_machine_says_who_holds_it_and_how_to_go_on(
    holder: subprocess.Popen[bytes],
) -> None:
    assert str(refusal()) == (
        f"process {holder.pid} is measuring on this machine, into /results/a run; "
        f"wait until it ends, or end it with: kill {holder.pid}"
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_dead_holder_holds_nothing(
    path: Path, holder: subprocess.Popen[bytes], how: signal.Signals
) -> None:
    holder.send_signal(how)
    holder.wait()
    with machine_lock():
        assert json.loads(path.read_text()) == {"pid": os.getpid(), "folder": None}
    assert not path.exists()


def test_the_lock_is_free_again_after_an_exception(path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), machine_lock():
        raise RuntimeError("inside")
    with machine_lock():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x1b[2J", b'{"pid": 1, "folder": "/x"}', b'{"pid": "1"}', b"[" * 8000]
)
def test_only_the_kernel_says_who_holds_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        busy = refusal()
    assert busy.message == f"process {os.getpid()} is measuring on this machine"
    assert path.read_bytes() == content


def test_what_is_not_ours_is_not_written_to(path: Path) -> None:
    path.write_bytes(b"somebody's")
    with machine_lock() as held, path.open("rb") as file:
        held.tells(Path("/results"))
        assert file.read() == b"somebody's"


def test_a_trick_is_an_error_and_touches_nothing(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    for make in (path.symlink_to, path.hardlink_to):
        make(victim)
        with pytest.raises(JournalError, match=r"lock .* (cannot be made|no plain file)"):
            machine_lock().__enter__()
        path.unlink()
    os.mkfifo(path)
    with pytest.raises(JournalError, match="no plain file"):
        machine_lock().__enter__()
    assert victim.read_bytes() == b""


def test_a_lock_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOSCOPE_LOCK", str(tmp_path / "absent" / "lock"))
    with pytest.raises(JournalError, match="cannot be made"):
        machine_lock().__enter__()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_users_and_root_share_one_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as shared:
        Path(shared).chmod(0o1777)
        monkeypatch.setenv("ISOSCOPE_LOCK", f"{shared}/lock")
        with holding("import os; os.setuid(65534)") as user:
            assert f"process {user.pid} is measuring" in str(refusal())
            assert Path(shared, "lock").stat().st_uid == 65534
        with machine_lock() as held:  # root takes what the user left
            assert os.fstat(held.descriptor).st_uid == 65534
            code = HOLDER.format(first="import os; os.setuid(65534)")
            user_too = subprocess.run(
                [sys.executable, "-c", code], env=environment(), capture_output=True, check=False
            )
        assert f"process {os.getpid()} is measuring" in user_too.stderr.decode()


def test_the_usual_place_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISOSCOPE_LOCK")
    folder = lock_path().parent
    assert folder.stat().st_mode & (stat.S_ISVTX | stat.S_IWOTH) == stat.S_ISVTX | stat.S_IWOTH
