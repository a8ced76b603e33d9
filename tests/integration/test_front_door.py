"""The command line as people type it, in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

from runtime.image import Image, Store, state_dir
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE

ROOT = Path(__file__).parent.parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")


def isoscope(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, str(ROOT / "isoscope.py"), *words]
    return subprocess.run(argv, capture_output=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0]


@needs_root
@pytest.mark.usefixtures("busybox")
@pytest.mark.parametrize("backend", ["container", "host"])
def test_output_and_status_are_the_workloads(backend: str) -> None:
    before = leftovers.seen()
    done = isoscope(
        "run", "--on", backend, "busybox", "sh", "-c", "id -u; cat; exit 7", input=b"in"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"0\nin", b"")
    assert not leftovers.settled(before)


@pytest.fixture
def empty() -> Iterator[Image]:
    """An image without layers, command and name."""
    store = Store()
    about = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers"}}
    config = store.write_blob(json.dumps(about).encode(), CONFIG_TYPE)
    manifest = {"schemaVersion": 2, "config": config.to_json(), "layers": []}
    image = store.keep(store.write_blob(json.dumps(manifest).encode(), MANIFEST_TYPE).digest)
    yield image
    store.remove(image.digest)


@needs_root
@pytest.mark.parametrize("backend", ["container", "host", "runc"])
def test_an_image_without_a_command_is_not_waited_for(backend: str, empty: Image) -> None:
    done = isoscope("run", "--on", backend, empty.digest)
    assert done.returncode == 125
    assert "names no command; give one" in one_line(done)


@needs_root
@pytest.mark.usefixtures("busybox")
def test_a_place_without_room_is_told_with_a_remedy() -> None:
    home = state_dir()
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
    argv = [sys.executable, str(ROOT / "isoscope.py"), "run", "busybox", "true"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(home), *argv],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    said = one_line(done)
    assert "Read-only file system; " in said
    assert "set ISOSCOPE_HOME" in said


@needs_root
@pytest.mark.usefixtures("busybox")
def test_options_reach_the_workload() -> None:
    done = isoscope(
        "run", "-e", "A=b", "-w", "/new/dir", "-u", "7:8", "-m", "32m", "--cpus", "0.5",
        "busybox", "sh", "-c", "echo $A; pwd; id -u",
    )  # fmt: skip
    lines = done.stdout.decode().split()
    assert lines[:3] == ["b", "/new/dir", "7"]


@needs_root
@pytest.mark.usefixtures("busybox")
def test_explain_prints_the_plan_and_runs_nothing() -> None:
    before = leftovers.seen()
    done = isoscope("run", "--explain", "-m", "32m", "busybox", "touch", "/x")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "pivot_root" in text
    assert "33554432" in text
    assert not leftovers.settled(before)


@needs_root
@pytest.mark.usefixtures("busybox")
def test_a_deadline_is_ours() -> None:
    before = leftovers.seen()
    done = isoscope("run", "--timeout", "0.5", "busybox", "sleep", "1000")
    assert done.returncode == 125
    assert "killed" in one_line(done)
    assert not leftovers.settled(before)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("run", "no-such-image"), 125, "image bootstrap busybox"),
        (("run", "--on", "moon", "busybox"), 2, "unknown backend 'moon'"),
        (("run", "-m", "lots", "busybox"), 2, "'lots' is not a size"),
        (("run",), 2, "isoscope run: IMAGE is missing; try 'isoscope run --help'"),
        (("run", "--on"), 2, "--on names no backend"),
        (("image",), 2, "VERB is missing; try 'isoscope image --help'"),
        (("image", "ls", "--nope"), 2, "try 'isoscope image --help'"),
        (("compare", "one"), 2, "LATER is missing; try 'isoscope compare --help'"),
        (("report", "--format", "pdf", "x"), 2, "try 'isoscope report --help'"),
        (("gc", "--nope"), 2, "try 'isoscope gc --help'"),
        (("doctor", "--nope"), 2, "try 'isoscope doctor --help'"),
        (("lab", "--nope"), 2, "try 'isoscope lab --help'"),
        (("completion", "csh"), 2, "try 'isoscope completion --help'"),
        (("bench", "--blocks", "0"), 2, "give 1 or more"),
        (("bench", "--on", "host,moon"), 2, "unknown backend 'moon'"),
        (("bench", "slow"), 2, "--help"),
        (("bench", "--image", "no-such-image"), 125, "no image named"),
        (("report", "no-such-run"), 125, "no-such-run"),
        (("fly",), 2, "isoscope --help"),
        (("image", "inspect", "no-such-image"), 125, "no image named"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], status: int, says: str) -> None:
    before = leftovers.seen()
    done = isoscope(*words)
    assert done.returncode == status
    assert says in one_line(done)
    assert not leftovers.settled(before)


@needs_root
def test_a_corrupt_blob_is_one_clear_line(
    busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    assert isoscope("image", "bootstrap", "busybox").returncode == 0
    layer = busybox.manifest.layers[0].digest
    blob = tmp_path / "images" / "blobs" / "sha256" / layer.removeprefix("sha256:")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    done = isoscope("run", "busybox", "true")
    assert done.returncode == 125
    assert layer in one_line(done)
    assert not any(path.name == "tree" for path in (tmp_path / "rootfs").rglob("*"))


def test_images_are_listed_and_inspected(busybox: Image) -> None:
    listed = json.loads(isoscope("image", "ls", "--json").stdout)
    assert any(busybox.digest in json.dumps(entry) for entry in listed)
    seen = isoscope("image", "inspect", "busybox")
    assert busybox.digest in seen.stdout.decode()
    assert Store().resolve("busybox").digest == busybox.digest
    assert state_dir().is_dir()


def test_nothing_is_set_up_for_a_misspelt_verb(tmp_path: Path) -> None:
    for name in ("isoscope", "isoscope.py", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    argv = [str(tmp_path / "isoscope"), "bensh"]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 2
    assert "no verb 'bensh'" in one_line(done)
    assert not (tmp_path / ".venv").exists()


def test_every_verb_is_reached_by_the_script() -> None:
    done = subprocess.run(
        [str(ROOT / "isoscope"), "results", "--help"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_help_names_the_verbs() -> None:
    done = isoscope("--help")
    assert done.returncode == 0
    for verb in ("bench", "report", "run", "image"):
        assert verb in done.stdout.decode()
    assert isoscope().returncode == 2


@pytest.mark.parametrize("on", [[], ["--on", "host"]])
def test_debug_among_the_words_of_the_command_is_not_ours(on: list[str]) -> None:
    done = isoscope("run", *on, "no-such-image", "echo", "--debug")
    assert done.returncode == 125
    assert len(done.stderr.splitlines()) == 1
