import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from notebooks.course.cli import lab_main, main

ROOT = Path(__file__).parent.parent.parent
LESSON = "01-one-image-three-ways.ipynb"
STUDENT = ROOT / "notebooks" / LESSON


def test_a_copy_is_made_and_the_course_is_not_touched(tmp_path: Path) -> None:
    before = STUDENT.stat().st_mtime_ns
    assert lab_main(["--to", str(tmp_path / "new" / "lab"), "--copy-only"]) == 0
    copy = tmp_path / "new" / "lab" / LESSON
    assert copy.read_bytes() == STUDENT.read_bytes()
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
    solution = tmp_path / "01-one-image-three-ways.solution.ipynb"
    assert solution.read_bytes() == (STUDENT.parent / "solutions" / LESSON).read_bytes()


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


def test_jupyterlab_is_opened_on_the_copies(tmp_path: Path) -> None:
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own = {name: str(tmp_path / "own") for name in names} | {"PYTHONPATH": str(ROOT)}
    code = (
        "import sys; from notebooks.course.cli import lab_main; sys.exit(lab_main(sys.argv[1:]))"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--no-browser", f"--ServerApp.port={port}", "--IdentityProvider.token=abc")
    with (tmp_path / "log").open("w") as log, subprocess.Popen(
        [sys.executable, "-c", code, "--to", "lab", "--", *options],
        cwd=tmp_path, env=os.environ | own, stderr=log,
    ) as server:  # fmt: skip
        try:
            served = _answer(f"http://127.0.0.1:{port}/api/contents?token=abc")
        finally:
            server.terminate()
    assert [each["name"] for each in served["content"]] == [LESSON]
    assert (tmp_path / "lab" / LESSON).read_bytes() == STUDENT.read_bytes()


def _answer(url: str) -> Any:
    """What the server says, as soon as it listens."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while True:
        try:
            with direct.open(url, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_authors_are_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unknown"]) == 2
    assert "build | record LESSON" in capsys.readouterr().err
