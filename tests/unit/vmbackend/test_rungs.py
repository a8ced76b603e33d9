import os
import platform
import subprocess
from pathlib import Path

import pytest

from vmbackend import rungs as module
from vmbackend.accelerator import Accelerator, judge
from vmbackend.probe_rom import Climb
from vmbackend.rungs import Rung, accelerator_rungs, judged

QEMU = Rung(name="QEMU", ok=True, found="9.9")
NO_QEMU = Rung(name="QEMU", ok=False, found="missing", remedy="get it")


@pytest.mark.parametrize(
    ("kvm", "tcg", "guest", "speed", "says"),
    [
        (Climb(stage="X", ticks=250), 1000, True, True, "0.25 times as many"),
        (Climb(stage="X", ticks=2000), 1000, True, True, "2.00 times as many"),
        (Climb(stage="X", ticks=357_000), 1000, True, False, "357 times slower"),
        (Climb(stage="X", ticks=250), None, True, True, "nothing to compare"),
        (Climb(stage="", ticks=None), 1000, False, None, "printed nothing"),
        (Climb(stage="R", ticks=None), 1000, False, None, "real mode"),
        (Climb(stage="P", ticks=None), 1000, False, None, "protected mode"),
        (Climb(stage="L", ticks=None), 1000, False, None, "not the end of a short loop"),
        (Climb(stage="T", ticks=None), 1000, False, None, "did not end"),
    ],
)
def test_kvm_is_judged_by_how_far_and_how_fast(
    kvm: Climb, tcg: int | None, guest: object, speed: object, says: str
) -> None:
    found = judge(Climb(stage="X" if tcg else "L", ticks=tcg), kvm)
    first, second = judged(found)
    assert (first.ok, second.ok) == (guest, speed)
    assert says in first.found + second.found
    assert first.costs == second.costs == ("vm[kvm]",)
    assert (found.name == "kvm") is (second.ok is True)
    for rung in (first, second):
        assert (rung.remedy is not None) is (rung.ok is False)


def test_without_the_device_no_guest_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "KVM_DEVICE", tmp_path / "kvm")
    monkeypatch.setattr(module, "accelerator", lambda: pytest.fail("started one"))
    device, guest, speed = accelerator_rungs(QEMU)
    assert (device.ok, guest.ok, speed.ok) == (False, None, None)
    assert device.found == "missing"
    assert "modprobe" in str(device.remedy)
    assert str(tmp_path / "kvm") in guest.found


def test_without_qemu_no_guest_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KVM_DEVICE", Path(os.devnull))
    monkeypatch.setattr(module, "accelerator", lambda: pytest.fail("started one"))
    device, guest, speed = accelerator_rungs(NO_QEMU)
    assert (device.ok, guest.ok, speed.ok) == (True, None, None)
    assert guest.found == "not tried: QEMU failed"


def test_a_device_that_does_not_open_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "KVM_DEVICE", tmp_path)
    device, *above = accelerator_rungs(QEMU)
    assert device.ok is False
    assert "Is a directory" in device.found
    assert [rung.ok for rung in above] == [None, None]


def test_a_probe_that_fails_is_a_rung_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Accelerator:
        raise OSError(28, "No space left on device", "/state/record")

    monkeypatch.setattr(module, "KVM_DEVICE", Path(os.devnull))
    monkeypatch.setattr(module, "accelerator", full)
    _, guest, speed = accelerator_rungs(QEMU)
    assert (guest.ok, speed.ok) == (False, None)
    assert guest.found == "/state/record: No space left on device"


def test_another_processor_ends_the_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    (only,) = module.rungs()
    assert only.ok is False
    assert "riscv64" in only.found
    assert only.remedy == "use --on container here"


def test_an_absent_emulator_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    rung = module._tried("QEMU", module._emulator)
    assert rung.ok is False
    assert rung.remedy == "apt-get install qemu-system-x86"


def test_an_emulator_that_does_not_start_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    rung = module._tried("QEMU", module._emulator)
    assert rung.ok is False
    assert "does not start" in rung.found


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n", "7.2.22"),
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright\n", "12.2.0"),
        ("nothing of the kind\n", "nothing of the kind"),
    ],
)
def test_a_version_is_found_in_what_a_program_says(
    tmp_path: Path, said: str, version: str
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\n")
    program.chmod(0o755)
    assert module._version([str(program)]) == version
    assert module._version([str(tmp_path / "absent")]) is None


def test_a_small_disk_is_made_in_memory_or_its_maker_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rung = module._tried("mkfs.ext4", module._disk)
    assert rung.ok is True or "apt-get install e2fsprogs" in str(rung.remedy)
    assert not list(tmp_path.iterdir())


def test_a_disk_maker_that_writes_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def idle(*_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(subprocess, "run", idle)
    rung = module._tried("mkfs.ext4", module._disk)
    assert rung.ok is False
