"""The machine that ours is compared with: ten seconds to boot, so with ``ISOSCOPE_STRESS=1``."""

import os

import pytest

from vmbackend.distribution import missing_initrd_tool
from vmbackend.machine import machine
from vmbackend.spec import MachineSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ISOSCOPE_STRESS" not in os.environ, reason="slow: ISOSCOPE_STRESS=1"),
]


def test_the_same_command_runs_in_the_same_image_on_another_machine(busybox: str) -> None:
    if (why := missing_initrd_tool()) is not None:
        pytest.skip(str(why))
    script = "cat /proc/1/comm; ls -d /isoscope-init; grep -c vda /proc/partitions; exit 4"
    spec = MachineSpec(image=busybox, argv=("sh", "-c", script), profile="ordinary")
    with machine(spec) as guest:
        done = guest.wait(timeout_s=120)
    assert (done.exit_status, done.stdout) == (4, b"isoscope-init\n1\n"), done.stderr
    assert list(guest.phases)[:6] == [
        "request", "prepared", "engine", "engine.created", "kernel", "init",
    ]  # fmt: skip
