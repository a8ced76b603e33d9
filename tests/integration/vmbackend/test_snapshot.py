"""Machines that go on from a snapshot: what they share, and what they must not."""

import os
import time
from pathlib import Path

import pytest

from vmbackend import snapshot as module
from vmbackend.errors import EngineError, MachineSpecError
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import Machine
from vmbackend.parts import parts_of
from vmbackend.snapshot import restored, snapshot
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
LIMIT_S = 60
SPEC = {"memory_bytes": 128 << 20}
LOOK = """
cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/boot_id
head -c 16 /dev/urandom | od -An -tx1; date +%s; cat /proc/uptime
test -e /written && echo seen; echo 1 > /written
"""


@pytest.fixture
def spec(busybox: str) -> MachineSpec:
    return MachineSpec(image=busybox, **SPEC)  # type: ignore[arg-type]  # a table


def look(guest: Machine) -> list[bytes]:
    return guest.run(["sh", "-c", LOOK], timeout_s=LIMIT_S).stdout.splitlines()


def test_two_of_one_snapshot_share_neither_numbers_nor_disk_and_know_the_time(
    spec: MachineSpec,
) -> None:
    made, _ = snapshot(spec)
    time.sleep(1.1)  # the clock that a state remembers is at least this much behind
    with restored(spec) as one, restored(spec) as two:
        saw = look(one), look(two)
        for guest_saw in saw:
            assert len(guest_saw) == 5  # nobody's file was there
            behind_s = time.clock_gettime(time.CLOCK_REALTIME) - int(guest_saw[3])
            assert -1 < behind_s < LIMIT_S
        for line in range(3):  # uuid, boot_id, random bytes
            assert saw[0][line] != saw[1][line]
    assert made.disk_bytes > 1 << 20
    assert {"engine", "init.agent", "gone"} <= set(one.phases)
    assert not {"kernel", "init"} & set(one.phases)  # it has not booted


def test_a_snapshot_is_for_one_size_and_one_disk_and_made_once(spec: MachineSpec) -> None:
    made, _ = snapshot(spec)
    assert snapshot(spec) == (made, False)
    same_but_for_the_command = MachineSpec(image=spec.image, argv=("true",), user="1", **SPEC)  # type: ignore[arg-type]  # a table
    assert snapshot(same_but_for_the_command) == (made, False)
    parts = parts_of(spec)
    known = module._digest(spec, parts)
    bigger = MachineSpec(image=spec.image, memory_bytes=160 << 20)
    assert module._digest(bigger, parts) != known
    status = parts.disk.path.stat()
    try:
        os.utime(parts.disk.path)
        assert module._digest(spec, parts) != known
    finally:
        os.utime(parts.disk.path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_machine_with_a_network_is_not_restored(spec: MachineSpec) -> None:
    networked = MachineSpec(image=spec.image, network="user")
    with pytest.raises(MachineSpecError, match="network"), restored(networked):
        pytest.fail("restored")


def test_a_damaged_state_is_said_with_its_remedy_and_leaves_nothing(spec: MachineSpec) -> None:
    made, _ = snapshot(spec)
    whole = made.state.read_bytes()
    try:
        made.state.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(EngineError, match="cannot be gone on from") as caught, restored(spec):
            pytest.fail("restored")
        assert "remove" in str(caught.value.remedy)
    finally:
        made.state.write_bytes(whole)
    assert list((hypervisor().root / "s").iterdir()) == []


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_BYTES", 10_000)
    for age, name in enumerate(("new", "used", "old", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state").write_bytes(b"x" * 4096)
        then = age * 120 * 10**9
        os.utime(tmp_path / name, ns=(0, 10**12 - then))
    module._evict(tmp_path, now_ns=10**12)
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == ["new", "used"]
    monkeypatch.setattr(module, "LIMIT_BYTES", 0)
    module._evict(tmp_path, now_ns=10**12)
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == ["new"]  # in use
