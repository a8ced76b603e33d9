"""Completion as people get it: keys pressed in real shells on a terminal of their own."""

import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import isoscope
from benchmarks.backends import VARIANTS
from runtime.container.container import Options
from runtime.container.kept.record import Record, write_record
from runtime.container.state import instances_dir
from runtime.image import Image

ROOT = Path(__file__).parent.parent.parent
RUN = "20261123T100000Z-boot-00ff"
_DEADLINE_S = 30.0
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(./isoscope completion bash)"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; source <(./isoscope completion zsh)",
    ),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, busybox: Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert busybox.references
    command = tmp_path / "isoscope"
    command.write_text(f"""#!/bin/sh
case $1 in completion | __complete) exec {ROOT}/isoscope "$@" ;; esac
printf 'got'; printf ' [%s]' "$@"; echo
""")
    command.chmod(0o755)
    (tmp_path / "results" / RUN).mkdir(parents=True)
    (tmp_path / "results" / RUN / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Asking:
    """The flags and the words that the hidden verb answers with."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[str, list[str]]:
        assert isoscope.main(["__complete", *words]) == 0
        said = self._capsys.readouterr()
        assert said.err == ""
        flags, *lines = said.out.splitlines()
        return flags, [line.partition("\t")[0] for line in lines]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Asking:
    return Asking(capsys)


class Terminal:
    """A shell on a terminal, that types and reads what is shown."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = ""

    def types(self, keys: str) -> None:
        """Press *keys*; what was shown before no longer counts."""
        self._seen = ""
        os.write(self._descriptor, keys.encode())

    def shows(self, text: str) -> bool:
        """Whether *text* appears before the deadline."""
        deadline = time.monotonic() + _DEADLINE_S
        while text not in self._seen and time.monotonic() < deadline:
            if select.select([self._descriptor], (), (), 0.5)[0]:
                self._seen += os.read(self._descriptor, 65536).decode(errors="replace")
        return text in self._seen

    @property
    def seen(self) -> str:
        return self._seen


@contextmanager
def terminal(shell: str) -> Iterator[Terminal]:
    """*shell*, ready to complete."""
    argv, setup = SHELLS[shell]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{shell} is not installed; apt-get install {shell}")
    ours, theirs = pty.openpty()
    environment = os.environ | {"PS1": "%% ", "TERM": "dumb", "COLUMNS": "200", "HISTFILE": ""}
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment
    ) as process:
        os.close(theirs)
        try:
            keyboard = Terminal(ours)
            keyboard.types(f"{setup}; echo rea''dy\n")
            assert keyboard.shows("\nready"), keyboard.seen
            yield keyboard
        finally:
            process.kill()
            os.close(ours)


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes(shell: str) -> None:
    with terminal(shell) as keyboard:
        for typed, becomes in [
            ("./isoscope ben\t", "[bench]"),
            ("./isoscope run busybox:\t", "[run] [busybox:latest]"),
            ("./isoscope bench --on host,v\t,con\t", "[bench] [--on] [host,vm,container]"),
            ("./isoscope run --on=po\t", "[run] [--on=podman]"),
            ("./isoscope report results/2\t", f"[report] [results/{RUN}"),
        ]:
            keyboard.types(f"{typed}\n")
            assert keyboard.shows(f"got {becomes}"), keyboard.seen


def test_fish_completes() -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed; apt-get install fish")
    lines = ("./isoscope ben", "./isoscope run b", "./isoscope bench --on vm,c", "./isoscope gc -")
    asked = "; ".join(f"complete -C {json.dumps(line)}" for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"./isoscope completion fish | source; {asked}"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {line.partition("\t")[0] for line in done.stdout.splitlines()}
    assert {"bench", "busybox:latest", "vm,container", "vm,crun", "--json", "--help"} <= found
    assert "vm,vm" not in found


@pytest.mark.parametrize(
    ("words", "flags", "offered"),
    [
        (("comp",), "none", ["compare", "completion"]),
        (("run", "--on", "v"), "none", ["vm"]),
        (("run", "--on", "vm", "--acc"), "none", ["--accel"]),
        (("run", "--on", "vm", "--accel", ""), "none", ["auto", "kvm", "tcg"]),
        (("run", "--on", "host", "--m"), "none", []),  # what it cannot honour is not offered
        (("run", "-e", ""), "none", []),
        (("run", "-eA=b", "busy"), "none", ["busybox:latest"]),
        (("run", "busybox", "--"), "none", []),  # no longer ours
        (("run", "--", "-"), "none", []),
        (
            ("bench", "--on", "host,vm"),
            "none nospace",
            ["host,vm", *(f"host,{variant}" for variant in VARIANTS if variant[:2] == "vm")],
        ),
        (("bench", "qui"), "none", ["quick"]),
        (("bench", "--resume", ""), "folders", [f"results/{RUN}"]),
        (("bench", "--resume", "2026"), "folders", [RUN]),
        (("bench", "--out="), "folders", []),
        (("compare", "x", "res"), "folders", [f"results/{RUN}"]),
        (("compare", "x", "y", "re"), "none", []),
        (("report", "--format", ""), "none", ["html", "md", "json", "csv"]),
        (("report", "--out", ""), "files", []),
        (("image", "in"), "none", ["inspect"]),
        (("image", "rm", "a", "busy"), "none", ["busybox:latest"]),
        (("image", "nope", ""), "none", []),
        (
            ("run", "--on", "vm", "--connect", "qemu:///s"),
            "none",
            ["qemu:///session", "qemu:///system"],
        ),
        (("bench", "--connect", "qemu:///e"), "none", ["qemu:///embed"]),
        (("vm", "m"), "none", ["min-memory"]),
        (("vm", "min-memory", "busy"), "none", ["busybox:latest"]),
        (("doctor", ""), "none", ["-h", "--help", "--json"]),
        (("nope", ""), "none", []),
        (("completion", "z"), "none", ["zsh"]),
        (("stop", "a", "kept-fo"), "none", ["kept-for-keys"]),
        (("exec", "-u", ""), "none", []),
        (("exec", "kept-for-keys", "kept"), "none", []),  # no longer ours
        (("commit", "kept-for"), "none", ["kept-for-keys"]),
    ],
)
@pytest.mark.usefixtures("container")
def test_what_is_offered(
    answer: Asking, words: tuple[str, ...], flags: str, offered: list[str]
) -> None:
    assert answer("fish", *words) == (flags, offered)


@pytest.fixture
def container() -> Iterator[None]:
    """A container called kept-for-keys, as far as completion looks."""
    record = Record(
        id="0123456789ab", name="kept-for-keys", backend="container", image="", image_name="",
        argv=(), options=Options(), created="", is_kept=True,
    )  # fmt: skip
    directory = instances_dir() / record.id
    directory.mkdir(parents=True)
    write_record(directory, record)
    yield
    shutil.rmtree(directory)


@pytest.mark.parametrize("line", ["", "./isoscope", "./isoscope 'ru", './isoscope "', "a\\"])
def test_a_broken_line_is_no_error(answer: Asking, line: str) -> None:
    answer("bash", " =:", line)


def test_a_broken_or_hostile_store_offers_nothing_harmful(
    answer: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "home"))
    index = tmp_path / "home" / "images" / "index.json"
    index.parent.mkdir(parents=True)
    descriptor = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": "sha256:" + "0" * 64,
        "size": 2,
    }
    names = ["good:1", "x$(touch evil)", "y\tz", "\x1b[2J", "a b"]
    manifests = [
        descriptor | {"annotations": {"org.opencontainers.image.ref.name": name}} for name in names
    ]
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))
    assert answer("fish", "run", "")[1] == ["good:1", "busybox"]
    for content in ("", "[" * 50_000, '{"schemaVersion": 2}'):
        index.write_text(content)
        assert answer("fish", "run", "")[1] == ["busybox"]


def test_asking_loads_nothing_heavy() -> None:

    for words in (
        ["bench", "--on", ""],
        ["report", ""],
        ["run", "--on", "vm", ""],
        ["doctor", ""],
    ):
        code = (
            f"import sys, isoscope; isoscope.main(['__complete', 'fish', *{words!r}]);"
            "print(*sys.modules, file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        loaded = set(done.stderr.split())
        assert not loaded & {"numpy", "rich", "libvirt", "jinja2", "matplotlib"}, words


def test_every_verb_is_offered_and_told_and_reached() -> None:
    verbs = isoscope._VERBS.keys() - {"__complete"}
    assert verbs <= isoscope._told_verbs().keys()
    assert verbs == isoscope._PARSERS.keys() | {"run", *isoscope._KEPT}
    for verb in verbs:
        assert isoscope.main(["__knows", verb]) == 0
