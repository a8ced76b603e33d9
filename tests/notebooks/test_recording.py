import os
import pwd
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.errors import ResultsError
from notebooks.course import lesson01, recording
from notebooks.course.evidence import SUBJECTS, Evidence
from notebooks.course.recording import NotHere

LESSON = lesson01.begin()
FILE = recording.RECORDED / f"{lesson01.NAME}.json"


def test_the_recording_is_small_real_and_whole(evidence: Evidence) -> None:
    assert FILE.stat().st_size <= 100_000
    assert evidence.recorded is not None
    assert not evidence.failures
    assert "changed" not in evidence.versions["isoscope"]
    for name in ("container", "vm"):
        assert len(evidence.pss_by_limit(name)) == 3
    for name in SUBJECTS:
        assert len(evidence.of(name)) == 3
        assert len(evidence.pair_of(name)) == 2
        for look in evidence.of(name):
            assert look.phases["request"] == 0
            assert max(look.phases.values()) == look.phases["output"]
            assert look.memory_bytes["uss"] <= look.memory_bytes["pss"] <= look.memory_bytes["rss"]
    assert evidence.accelerator


def test_the_recorded_image_is_what_its_digest_says(evidence: Evidence) -> None:
    image = evidence.image.image
    assert image.references == ("busybox:latest",)
    assert re.fullmatch("sha256:[0-9a-f]{64}", image.digest)
    forged = replace(evidence.image, manifest=evidence.image.manifest.replace("1", "2", 1))
    assert forged.image.digest != image.digest


def test_the_recording_names_no_one() -> None:
    text = FILE.read_text()
    user = pwd.getpwuid(os.getuid()).pw_name
    private = {user, os.uname().nodename} - {"root", "localhost", *SUBJECTS}
    assert not [word for word in private if re.search(rf"\b{re.escape(word)}\b", text)]
    assert str(Path(__file__).parent.parent.parent) not in text
    assert not re.search(r"/(home|root|var|work)/", text)
    assert not re.search(r"\b\d{1,3}(\.\d{1,3}){3}\b", text.replace('"qemu"', ""))


def test_what_is_written_is_read_again(evidence: Evidence, tmp_path: Path) -> None:
    recording.write("x", evidence, directory=tmp_path)
    assert recording.read("x", directory=tmp_path) == evidence


def test_a_changed_number_is_noticed(evidence: Evidence, tmp_path: Path) -> None:
    path = recording.write("x", evidence, directory=tmp_path)
    output = evidence.of("vm")[0].phases["output"]
    path.write_text(path.read_text().replace(str(output), "1", 1))
    with pytest.raises(ResultsError, match="not what was recorded; git checkout"):
        recording.read("x", directory=tmp_path)


def test_a_missing_recording_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="git checkout"):
        recording.read("x", directory=tmp_path)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(NotHere, match="auto, live, recorded"):
        LESSON.gather("sometimes")


def test_paths_of_this_machine_are_taken_out(
    evidence: Evidence, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_private", lambda: {"state directory": str(home)})
    group = "/sys/fs/cgroup/memory/some/service/isoscope-000000000000"
    plan = f'    0  mkdir("{group}", 0o755)  # x\n    1  chdir("{home}/instances/0")  # y\n'
    told = recording.anonymous(replace(evidence, recorded=None, plan=plan)).plan
    assert '"/sys/fs/cgroup/memory/isoscope-000000000000"' in told
    assert '"$ISOSCOPE_HOME/instances/0"' in told


def test_evidence_that_names_the_host_is_not_recorded(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_private", lambda: {"host name": "ada-laptop"})
    named = replace(evidence, versions={"busybox": "built on ada-laptop"})
    with pytest.raises(ResultsError, match="host name"):
        recording.anonymous(named)


def test_a_machine_that_cannot_says_why_and_shows_the_recording(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Without any programs there is no QEMU: real probes find that out.
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    evidence = LESSON.gather("auto")
    assert evidence.recorded is not None
    assert evidence.note is not None
    assert evidence.note.startswith("This is a recording, because vm: ")
    with pytest.raises(NotHere, match="cannot run the lesson live"):
        LESSON.gather("live")
