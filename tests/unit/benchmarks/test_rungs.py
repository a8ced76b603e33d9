import stat
from itertools import product
from pathlib import Path

import pytest

from benchmarks.doctor import machine, peers
from benchmarks.doctor.render import Style, render_rung, render_verdict
from benchmarks.doctor.rung import Rung
from benchmarks.doctor.verdict import BACKENDS, verdict
from runtime.image import ImageError

TERMINAL = Style(columns=60, has_signs=True, has_colours=True)


def whole(name: str, *, ok: bool = True) -> Rung:
    remedy = None if ok else f"mend {name}"
    return Rung(part=name, name=name, ok=ok, found="", remedy=remedy, costs=(name,))


def kvm(*, ok: bool | None) -> Rung:
    return Rung(part="vm", name="KVM speed", ok=ok, found="", costs=("vm[kvm]",))


@pytest.mark.parametrize("says", list(product([True, False], repeat=3)))
def test_a_backend_runs_if_it_says_so(says: tuple[bool, ...]) -> None:
    rungs = [whole(name, ok=ok) for name, ok in zip(BACKENDS, says, strict=True)]
    found = verdict(rungs)
    assert found.runs == tuple(n for n, ok in zip(BACKENDS, says, strict=True) if ok)
    assert set(found.runs) | set(found.lacking) == set(BACKENDS)
    assert (found.accelerator is None) is ("vm" not in found.runs)
    assert all(name in found.next for name in found.runs) or found.next == "./isoscope bench"
    if not any(says):
        assert found.next == "mend host"


def test_a_broken_rung_costs_its_backends_whatever_they_say() -> None:
    disk = Rung(part="machine", name="disk", ok=False, found="", remedy="tidy", costs=("vm",))
    found = verdict([disk, *(whole(name) for name in BACKENDS)])
    assert found.lacking == ("vm",)
    assert found.next == "./isoscope bench --on host,container"


def test_what_nobody_needs_costs_no_backend() -> None:
    peer = Rung(part="peers", name="runc", ok=None, found="", remedy="get it", costs=("runc",))
    assert not verdict([peer, *(whole(name) for name in BACKENDS)]).lacking


@pytest.mark.parametrize(
    ("rungs", "accelerator"),
    [
        ([kvm(ok=True)], "kvm"),
        ([kvm(ok=True), kvm(ok=False)], "tcg"),
        ([kvm(ok=False), kvm(ok=None)], "tcg"),
        ([kvm(ok=None)], "tcg"),
        ([], "tcg"),
    ],
)
def test_machines_are_labelled_by_what_they_run_under(rungs: list[Rung], accelerator: str) -> None:
    found = verdict([*(whole(name) for name in BACKENDS), *rungs])
    assert found.labels == ("host", "container", f"vm[{accelerator}]")
    line = render_verdict(found)
    assert line == f"Runs here: host, container, vm[{accelerator}]. Next: ./isoscope bench"


def test_the_last_line_names_what_does_not_run() -> None:
    found = verdict([whole("host", ok=False), whole("container", ok=False), whole("vm")])
    assert render_verdict(found) == (
        "Runs here: vm[tcg]; not host, container. Next: ./isoscope run --on vm busybox uname -r"
    )
    nothing = verdict([whole("host", ok=False)])
    assert render_verdict(nothing) == "Nothing runs here yet. Next: mend host"


def failed(found: str = "refused") -> Rung:
    return Rung(
        part="vm", name="QEMU", ok=False, found=found, remedy="install it", costs=("vm", "x")
    )


def test_what_failed_says_how_to_have_it_and_what_it_costs() -> None:
    lines = list(render_rung(failed(), Style()))
    assert [line.split(maxsplit=1)[0] for line in lines] == ["no", "to", "without"]
    assert lines[1].strip() == "to have it: install it"
    assert lines[2].strip() == "without it: no vm, x"
    column = lines[0].index("refused")
    assert all(line.index(line.strip()) == column for line in lines[1:])


def test_an_absent_peer_takes_one_line() -> None:
    rung = Rung(
        part="peers", name="crun", ok=None, found="not installed", remedy="get it", costs=("crun",)
    )
    (line,) = render_rung(rung, Style())
    assert line.endswith("not installed; for crun: get it")


@pytest.mark.parametrize("style", [Style(), Style(has_signs=True), TERMINAL])
def test_marks_differ_without_colour(style: Style) -> None:
    marks = set()
    for ok in (True, False, None):
        rung = Rung(part="vm", name="x", ok=ok, found="")
        line = next(render_rung(rung, style))
        for code in ("\x1b[32m", "\x1b[31;1m", "\x1b[2m", "\x1b[0m"):
            line = line.replace(code, "")
        assert "\x1b" not in line
        marks.add(line.split()[0])
    assert len(marks) == 3


def test_lines_fit_the_terminal_and_nothing_is_lost() -> None:
    words = [f"word{number}" for number in range(40)]
    style = Style(columns=60)
    lines = list(render_rung(failed(" ".join(words)), style))
    assert all(len(line) <= 60 for line in lines)
    text = " ".join(lines).split()
    assert [word for word in text if word.startswith("word")] == words


def test_texts_of_others_cannot_steer_the_terminal() -> None:
    hostile = Rung(part="peers", name="runc", ok=True, found="1\x1b[2J\r\n2\x07")
    lines = list(render_rung(hostile, Style()))
    assert len(lines) == 1
    assert lines[0].isprintable()


def test_there_is_room_or_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet"
    monkeypatch.setenv("ISOSCOPE_HOME", str(home))
    monkeypatch.setattr(machine, "NEEDED_BYTES", 1)
    assert machine.disk_rung().ok
    monkeypatch.setattr(machine, "NEEDED_BYTES", 1 << 80)
    full = machine.disk_rung()
    assert full.ok is False
    assert "GiB free" in full.found
    assert full.costs == BACKENDS
    assert not home.exists()
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path / "file"))
    rung = machine.disk_rung()
    assert rung.ok is False
    assert "ISOSCOPE_HOME" in str(rung.remedy)


def test_an_image_is_named_or_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "BUSYBOX", tmp_path / "absent")
    rung = machine.image_rung()
    assert rung.ok is False
    assert rung.remedy == "apt-get install busybox-static"
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_there_is_named(busybox: object) -> None:
    assert busybox is not None
    rung = machine.image_rung()
    assert rung.ok
    assert "busybox" in rung.found


def test_a_program_with_a_dynamic_linker_is_no_image(tmp_path: Path) -> None:
    script = tmp_path / "busybox"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(ImageError, match="not an ELF"):
        machine._try_busybox(script)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(directory: Path, name: str, script: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def peer(name: str) -> Rung:
    return next(rung for rung in peers.peer_rungs() if rung.name == name)


@pytest.mark.usefixtures("programs")
def test_absent_peers_name_their_packages() -> None:
    rungs = tuple(peers.peer_rungs())
    assert {rung.name for rung in rungs} == set(peers.PEERS)
    assert all(rung.ok is None for rung in rungs)
    assert peer("bwrap").remedy == "apt-get install bubblewrap"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("runc version 1.1.5+ds1", "1.1.5+ds1"),
        ("Docker version 20.10.24+dfsg1, build 297e128", "20.10.24+dfsg1"),
        ("no number", "no number"),
    ],
)
def test_an_installed_peer_tells_its_version(programs: Path, said: str, version: str) -> None:
    install(programs, "runc", f"echo '{said}'")
    rung = peer("runc")
    assert rung.ok
    assert rung.found == version


def test_a_broken_peer_says_what_it_said(programs: Path) -> None:
    install(programs, "podman", "echo first >&2; echo 'no home' >&2; exit 3")
    rung = peer("podman")
    assert rung.ok is False
    assert rung.found.endswith("fails: no home")
    assert rung.remedy


def test_docker_is_more_than_its_client(programs: Path) -> None:
    install(programs, "docker", "echo 1.2")
    rung = peer("docker")
    assert rung.ok is None
    assert rung.found == "without dockerd"
