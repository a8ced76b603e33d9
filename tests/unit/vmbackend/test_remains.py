import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmbackend.remains import owned, sweep

ROOT = Path(__file__).parents[3]
SLEEPER = "import sys; sys.stdin.read()"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / f"isoscope-{secrets.token_hex(4)}"
    path.mkdir()
    return path


@pytest.fixture
def emulator(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What ``sweep`` takes for a QEMU of *root*, by its command line."""
    words = [sys.executable, "-c", SLEEPER, "qemu-system-test", f"{root}/s/console"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


DIES = """
import os, sys
from pathlib import Path
from vmbackend.remains import owned
with owned(Path(sys.argv[1])) as instances:
    instances.mkdir()
    os._exit(0)
"""


def left_by_a_dead_owner(root: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES, root], cwd=ROOT, check=True)


def test_what_a_dead_owner_left_is_removed_with_its_machines(
    state: Path, root: Path, emulator: subprocess.Popen[bytes]
) -> None:
    left_by_a_dead_owner(root)
    assert sweep() == (root.name,)
    assert emulator.wait(10) == -9
    assert not root.exists()
    assert list((state / "vm" / "instances").iterdir()) == []


def test_a_copy_of_the_state_does_not_lead_to_the_machines_of_the_original(
    state: Path,
    root: Path,
    emulator: subprocess.Popen[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with owned(root) as instances:
        instances.mkdir()
        shutil.copytree(state, tmp_path / "copy")
        monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "copy"))
        assert sweep() == (root.name,)
        assert emulator.poll() is None
        assert root.exists()
        assert instances.exists()
        assert list((tmp_path / "copy" / "vm" / "instances").iterdir()) == []


def test_an_owner_that_lives_is_left_alone_even_if_its_lock_was_lost(
    state: Path, root: Path, emulator: subprocess.Popen[bytes]
) -> None:
    """A lock does not cross every file system; who wrote the file is known besides."""
    with owned(root) as instances:
        lock = instances.with_suffix(".lock")
        holding = next(
            int(entry.name)
            for entry in Path("/proc/self/fd").iterdir()
            if entry.is_symlink() and entry.readlink() == lock
        )
        fcntl.flock(holding, fcntl.LOCK_UN)
        sweep()
        assert emulator.poll() is None
        assert root.exists()
    assert state.exists()


@pytest.mark.parametrize("damage", ["{", "[]", "3", '{"root": 1}', '{"root": "/etc"}', "[" * 4000])
def test_a_damaged_record_touches_nothing_but_itself(
    state: Path, root: Path, emulator: subprocess.Popen[bytes], damage: str
) -> None:
    left_by_a_dead_owner(root)
    lock = state / "vm" / "instances" / f"{root.name}.lock"
    lock.write_text(damage)
    assert sweep() == (root.name,)
    assert emulator.poll() is None
    assert root.exists()
    assert not lock.exists()


def test_a_record_that_names_another_directory_touches_nothing(
    state: Path, root: Path, emulator: subprocess.Popen[bytes]
) -> None:
    left_by_a_dead_owner(root)
    lock = state / "vm" / "instances" / f"{root.name}.lock"
    record = json.loads(lock.read_text())
    with lock.open("r+") as file:  # the same file: only the path is wrong
        file.write(json.dumps(record | {"root": os.fspath(root.parent)}))
        file.truncate()
    sweep()
    assert emulator.poll() is None
    assert root.exists()
