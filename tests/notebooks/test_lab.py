import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import leftovers
import pytest

from benchmarks.meters import descendants
from notebooks.course.cli import lab_main, main
from notebooks.course.languages import spoken
from runtime.image import Image, state_dir

ROOT = Path(__file__).parent.parent.parent
NAME = "01-one-image-three-ways"
LESSON = f"{NAME}.en.ipynb"
STUDENT = ROOT / "notebooks" / f"{NAME}.ipynb"
SOLUTION = ROOT / "notebooks" / "solutions" / f"{NAME}.ipynb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A server that runs, the address that it printed, where its kernels' sockets are told."""

    server: subprocess.Popen[bytes]
    address: str
    runtime: Path


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def english_of(path: Path) -> str:
    return spoken(path.read_text(), "en")


def test_a_copy_is_made_and_the_course_is_not_touched(tmp_path: Path) -> None:
    before = STUDENT.stat().st_mtime_ns
    assert lab_main(["--to", str(tmp_path / "new" / "lab"), "--copy-only"]) == 0
    copy = tmp_path / "new" / "lab" / LESSON
    assert copy.read_text() == english_of(STUDENT)
    assert not copy.samefile(STUDENT)
    assert [path.name for path in copy.parent.iterdir()] == [LESSON]
    assert STUDENT.stat().st_mtime_ns == before


def test_a_students_file_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LESSON).write_text("mine")
    assert lab_main(["--to", str(tmp_path), "--copy-only", "--solutions"]) == 0
    assert (tmp_path / LESSON).read_text() == "mine"
    assert "is kept as you left it" in capsys.readouterr().err
    assert (tmp_path / f"{NAME}.en.solution.ipynb").read_text() == english_of(SOLUTION)


def test_not_even_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / LESSON).symlink_to(victim)
    assert lab_main(["--to", str(tmp_path), "--copy-only"]) == 0
    assert not victim.exists()


def test_a_folder_that_cannot_be_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert lab_main(["--to", str(tmp_path / "file"), "--copy-only"]) == 125
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("name another folder with --to")


def test_without_jupyter_there_is_a_remedy(tmp_path: Path) -> None:
    # -S leaves out what is installed; nothing but the standard library and this checkout is left.
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from notebooks.course.cli import lab_main; sys.exit(lab_main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT), "--to", str(tmp_path / "lab")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("isoscope: jupyterlab, ")
    assert line.endswith("./isoscope setup --notebooks")
    assert not (tmp_path / "lab").exists()


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import sys, notebooks.course.cli; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    heavy = {"jupyterlab", "nbformat", "numpy", "benchmarks", "reports", "matplotlib"}
    heavy |= {"runtime.image", "runtime.container"}
    assert not set(done.stdout.split()) & heavy


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """``isoscope lab`` as on a terminal without a screen, from a folder of one's own."""
    own = tmp_path / "own"
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(own))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONPATH", "JUPYTER_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    terminal, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "isoscope.py"), "lab", "--mode", "live"]
    server = subprocess.Popen(
        [*command, "--", f"--ServerApp.port={port}"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        address = _printed(
            terminal, rb"http://127\.0\.0\.1:\d+/lab/tree/\S+\?token=\w+(?=\s)"
        ).decode()
        _until_listening(port)
        yield Opened(server=server, address=address, runtime=own)
    finally:
        server.kill()
        server.wait()
        os.close(terminal)


def test_jupyterlab_is_opened_on_the_copies(tmp_path: Path, opened: Opened) -> None:
    assert f"/lab/tree/{LESSON}?token=" in opened.address
    assert b"<title>JupyterLab" in _asked(opened.address)
    served = json.loads(_asked(opened.address, "api/contents"))
    assert [each["name"] for each in served["content"]] == [LESSON]
    assert (tmp_path / "isoscope-lab" / LESSON).read_text() == english_of(STUDENT)
    disabled = "@jupyterlab/apputils-extension:announcements"
    assert disabled in _asked(opened.address).decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")
def test_one_interrupt_ends_it_with_all_that_a_lesson_runs(busybox: Image, opened: Opened) -> None:
    from jupyter_client.blocking.client import BlockingKernelClient

    kernel = json.loads(_asked(opened.address, "api/kernels", data=b"{}"))["id"]
    client = BlockingKernelClient()
    client.load_connection_file(str(opened.runtime / f"kernel-{kernel}.json"))
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute(
            "import os, signal, notebooks.course.observing as o; from runtime.image import Store\n"
            f"with o.started('container', Store().resolve('{busybox.digest}')):\n"
            "    print('runs', os.environ['ISOSCOPE_LAB_MODE'], flush=True)\n"
            "    signal.pause()"
        )
        while (message := client.get_iopub_msg(timeout=60))["msg_type"] != "stream":
            assert message["msg_type"] != "error", message["content"]
        assert message["content"]["text"] == "runs live\n"
        processes = descendants(opened.server.pid)
        owned = [*(state_dir() / "instances").iterdir()]
        assert any(each.name in group for each in owned for group in leftovers.groups())
    finally:
        client.stop_channels()
    opened.server.send_signal(signal.SIGINT)
    assert opened.server.wait(timeout=60) == 0
    assert len(processes) >= len({"kernel", "worker", "container"})
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    assert not [each for each in owned if each.exists()]
    assert not [g for g in leftovers.groups() if any(each.name in g for each in owned)]
    assert not list(opened.runtime.glob("kernel-*.json"))


def _printed(terminal: int, pattern: bytes) -> bytes:
    """What of the terminal's text matches *pattern*, as soon as it stands there."""
    text = b""
    while (found := re.search(pattern, text)) is None:
        ready, _, _ = select.select([terminal], [], [], 120)
        assert ready, text.decode(errors="replace")
        text += os.read(terminal, 1 << 16)
    return found[0]


def _until_listening(port: int) -> None:
    """Jupyter prints its address a moment before it listens there."""
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=60).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def _asked(address: str, path: str = "", data: bytes | None = None) -> bytes:
    """What the server at *address* says about *path*; without one, the page itself."""
    base, _, token = address.partition("/lab/tree/")
    url = f"{base}/{path}" if path else address
    headers = {"Authorization": f"token {token.partition('token=')[2]}"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(urllib.request.Request(url, data, headers), timeout=60) as answer:  # noqa: S310
        said: bytes = answer.read()
    return said


def test_each_language_is_a_copy_of_its_own(tmp_path: Path) -> None:
    for language in ("ko", "both"):
        assert lab_main(["--to", str(tmp_path), "--copy-only", "--lang", language]) == 0
    korean, both = tmp_path / f"{NAME}.ko.ipynb", tmp_path / f"{NAME}.ipynb"
    assert {*tmp_path.iterdir()} == {korean, both}
    assert both.read_bytes() == STUDENT.read_bytes()
    assert korean.read_text() == spoken(STUDENT.read_text(), "ko")


def test_the_locale_chooses_the_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert lab_main(["--to", str(tmp_path), "--copy-only"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.ko.ipynb"]


def test_authors_are_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unknown"]) == 2
    assert "build | record LESSON" in capsys.readouterr().err
