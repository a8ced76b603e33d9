import struct
from pathlib import Path

import pytest

from vmbackend import accelerator as module
from vmbackend.accelerator import Accelerator, accelerator, judge
from vmbackend.errors import MachineUnavailable
from vmbackend.probe_rom import ROM_BYTES, Climb, read_climb, rom


def climbed(ticks: int) -> bytes:
    return b"RPLT" + struct.pack("<Q", ticks) + b"X"


@pytest.mark.parametrize(
    ("output", "stage", "ticks"),
    [
        (b"", "", None),
        (b"garbage", "", None),
        (b"R", "R", None),
        (b"RP", "P", None),
        (b"RPL", "L", None),
        (b"RPLT\1\2", "L", None),
        (climbed(5)[:-1], "T", 5),
        (climbed(2**63), "X", 2**63),
    ],
)
def test_the_last_letter_is_the_stage(output: bytes, stage: str, ticks: int | None) -> None:
    assert read_climb(output) == Climb(stage=stage, ticks=ticks)


def test_the_rom_begins_at_the_reset_vector_and_jumps_to_its_start() -> None:
    image = rom()
    assert len(image) == ROM_BYTES
    (distance,) = struct.unpack_from("<H", image, 0xFFF1)
    assert image[0xFFF0] == 0xE9
    assert (0xFFF3 + distance) & 0xFFFF == 0
    assert image[0] == 0xFA


@pytest.mark.parametrize(
    ("kvm", "tcg", "name", "says"),
    [
        (Climb(stage="X", ticks=100), Climb(stage="X", ticks=1000), "kvm", "KVM works"),
        (Climb(stage="X", ticks=2000), Climb(stage="X", ticks=1000), "kvm", "KVM works"),
        (Climb(stage="X", ticks=2001), Climb(stage="X", ticks=1000), "tcg", "2 times slower"),
        (Climb(stage="X", ticks=9**9), Climb(stage="X", ticks=9**5), "tcg", "7,000 times slower"),
        (Climb(stage="", ticks=None), Climb(stage="X", ticks=1000), "tcg", "printed nothing"),
        (Climb(stage="P", ticks=None), Climb(stage="X", ticks=1000), "tcg", "protected mode"),
        (Climb(stage="L", ticks=None), Climb(stage="X", ticks=1000), "tcg", "did not end"),
        (Climb(stage="X", ticks=100), Climb(stage="", ticks=None), "kvm", "not compared"),
    ],
)
def test_kvm_is_taken_only_if_it_is_not_slower_than_emulation(
    kvm: Climb, tcg: Climb, name: str, says: str
) -> None:
    verdict = judge(tcg, kvm)
    assert verdict.name == name
    assert says in verdict.sentence
    assert (verdict.tsc_kvm, verdict.tsc_tcg) == (kvm.ticks, tcg.ticks)


def test_without_the_device_there_is_no_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "KVM_DEVICE", tmp_path / "kvm")
    found = accelerator()
    assert found.name == "tcg"
    assert found.sentence.startswith("no ")
    with pytest.raises(MachineUnavailable, match="no ") as caught:
        accelerator("kvm")
    assert "tcg" in str(caught.value.remedy)


def test_emulation_that_was_asked_for_needs_no_probe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert accelerator("tcg").name == "tcg"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "xen", "sentence": ""}', '{"a": 1}'])
def test_a_damaged_record_is_probed_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(module, "KVM_DEVICE", Path("/dev/null"))
    monkeypatch.setattr(module, "_circumstances", lambda: "here")
    monkeypatch.setattr(module, "_climb", lambda name: read_climb(climbed(len(name))))
    record = tmp_path / "vm" / "accelerator" / "here.json"
    record.parent.mkdir(parents=True)
    record.write_text(text)
    expected = judge(Climb(stage="X", ticks=3), Climb(stage="X", ticks=3))
    assert accelerator() == expected
    monkeypatch.setattr(module, "_climb", lambda _: pytest.fail("probed twice"))
    assert accelerator() == expected
    assert isinstance(expected, Accelerator)
