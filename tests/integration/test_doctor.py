"""The doctor as people call it, in processes of its own: is it right, does it leave nothing?"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import leftovers
import pytest

from runtime.container.state import sweep
from runtime.image import Image

ROOT = Path(__file__).parent.parent.parent
DOCTOR = (sys.executable, str(ROOT / "isoscope.py"), "doctor")
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
_ROOTS = "isoscope-????????"
"""The private directories of libvirt's driver."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")


def doctor(
    *words: str, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, *DOCTOR, *words], cwd=ROOT, env={**os.environ, **(env or {})},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert not done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rung(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    (only,) = [rung for rung in found["rungs"] if rung["name"] == name]
    assert isinstance(only, dict)
    return only


def test_json_and_text_say_the_same_and_nothing_is_left() -> None:
    before = leftovers.seen()
    mounts = Path("/proc/self/mountinfo").read_text()
    as_json, as_text = doctor("--json"), doctor()
    found = document(as_json)
    assert found["schema"] == 1
    assert as_json.returncode == as_text.returncode == (1 if found["lacking"] else 0)
    lines = as_text.stdout.splitlines()
    assert lines[-1].endswith(f"Next: {found['next']}")
    for entry in found["rungs"]:
        assert any(line.lstrip().startswith(f"{_mark(entry)} {entry['name']}") for line in lines)
        assert entry["found"]
        assert entry["ok"] is not False or entry["remedy"], entry
    assert "\x1b" not in as_text.stdout
    assert not as_text.stderr
    assert not leftovers.settled(before)
    assert Path("/proc/self/mountinfo").read_text() == mounts


def _mark(entry: Mapping[str, Any]) -> str:
    return {True: "ok", False: "no", None: "--"}[entry["ok"]]


@pytest.mark.slow
@pytest.mark.usefixtures("busybox")
def test_a_backend_runs_if_and_only_if_the_doctor_says_so() -> None:
    before = leftovers.seen()
    found = document(doctor("--json"))
    for backend in ("host", "container", "vm"):
        command = [sys.executable, str(ROOT / "isoscope.py"), "run", "--on", backend]
        ran = subprocess.run(
            [*command, "busybox", "sh", "-c", "exit 7"],
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert (ran.returncode == 7) is (backend in found["runs"]), ran.stderr
    assert not leftovers.settled(before)


@needs_root
def test_an_ordinary_user_is_told_the_truth(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp().parent.parent
    with _home_of_nobody(base) as home:
        done = doctor("--json", before=NOBODY, env={"ISOSCOPE_HOME": str(home)})
    found = document(done)
    assert done.returncode == 1
    assert found["lacking"][0] == "host"
    assert ("container" in found["runs"]) is rung(found, "container")["ok"]
    root = rung(found, "root")
    assert (root["ok"], root["found"]) == (False, "user 65534")
    for name in ("capabilities", "namespaces", "overlay", "device files", "network"):
        assert rung(found, name)["ok"] is None
        assert "only root" in rung(found, name)["found"]
    assert rung(found, "disk space")["ok"]
    if found["runs"] == ["container", "vm"]:
        assert found["next"] == "./isoscope bench --on container,vm"
    if "vm" in found["runs"]:
        assert rung(found, "user namespaces")["ok"], "its disk could not be made"


class _home_of_nobody:  # noqa: N801 - reads as a function
    """A directory of the ordinary user, where that user can reach it."""

    def __init__(self, base: Path) -> None:
        self._path = base / f"doctor-nobody-{os.getpid()}"

    def __enter__(self) -> Path:
        self._path.mkdir()
        os.chown(self._path, 65534, 65534)
        return self._path

    def __exit__(self, *_: object) -> None:
        subprocess.run(["rm", "-r", str(self._path)], check=True)


def test_what_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    done = doctor("--json", env={"PATH": str(tmp_path)})
    found = document(done)
    assert done.returncode == 1
    assert "vm" in found["lacking"]
    assert found["accelerator"] is None
    emulator = rung(found, "QEMU")
    assert (emulator["ok"], emulator["costs"]) == (False, ["vm"])
    assert emulator["remedy"] == "apt-get install qemu-system-x86"
    for name in ("libvirt driver", "KVM guest", "KVM speed"):
        assert rung(found, name)["ok"] is None
    for name in ("runc", "docker"):
        assert rung(found, name)["ok"] is None
        assert rung(found, name)["remedy"].startswith("apt-get install")


def test_a_home_that_cannot_be_costs_everything_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = doctor(env={"ISOSCOPE_HOME": str(tmp_path / "file" / "home")})
    assert done.returncode == 1
    assert not done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Nothing runs here yet. Next: set ISOSCOPE_HOME")


def test_wrong_words_are_one_line() -> None:
    done = doctor("--cure")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "isoscope doctor: unrecognized arguments: --cure; try 'isoscope doctor --help'"
    ]


def test_a_reader_that_leaves_early_is_no_failure() -> None:
    with subprocess.Popen(
        DOCTOR, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_signs_and_colours_and_lines_that_fit(no_color: object) -> None:
    env = {"TERM": "xterm", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    said = _on_a_terminal({**os.environ, **env, **({"NO_COLOR": "1"} if no_color else {})})
    assert "✓" in said
    assert ("\x1b[" in said) is not no_color
    assert said.rstrip().splitlines()[-1].startswith(("Runs here", "Nothing runs"))


def _on_a_terminal(env: Mapping[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        DOCTOR, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:  # EIO: the last writer has closed it
                break
        process.wait(60)
    os.close(ours)
    return said.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after", ["root", "namespaces", "device files", "seccomp", "QEMU"])
def test_stopped_anywhere_it_leaves_nothing(
    after: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the line *after* the next rung is being tried. A home of its own: nothing is known."""
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    before, roots = leftovers.seen(), set(Path("/tmp").glob(_ROOTS))
    with subprocess.Popen(
        DOCTOR, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.decode()[5:].startswith(f"{after} "):
                break
        else:
            pytest.skip(f"this machine's ladder ends below {after!r}")
        process.send_signal(number)
        process.stdout.read()
        assert process.stderr.read() == b""
        assert process.wait(60) in {128 + number, -number, 0, 1}
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("instances/d-*"))
    assert not _left_after_a_sweep(before, roots)


def _left_after_a_sweep(before: frozenset[str], roots: set[Path]) -> set[str]:
    """Every start sweeps; what was never recorded it takes for dead when it is old enough.

    The directories of machines are removed by their watchdog.
    """
    deadline, left = time.monotonic() + 15, {"not looked yet"}
    while left and time.monotonic() < deadline:
        sweep()
        left = {*(leftovers.seen() - before), *map(str, set(Path("/tmp").glob(_ROOTS)) - roots)}
        time.sleep(0.05)
    return left


def test_an_image_that_is_here_is_found(busybox: Image) -> None:
    found = document(doctor("--json"))
    assert any(name in rung(found, "an image")["found"] for name in busybox.references)
