"""What a guest gives back: half a minute, so with ``ISOSCOPE_STRESS=1``."""

import os
import time

import pytest

from vmbackend.machine import Machine, machine
from vmbackend.spec import MIB, MachineSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ISOSCOPE_STRESS" not in os.environ, reason="slow: ISOSCOPE_STRESS=1"),
]
USED = 64 * MIB
LIMIT_S = 60


def pss(guest: Machine) -> int:
    return guest.usage().readings["pss"][0]


@pytest.mark.parametrize("has_balloon", [False, True])
def test_only_a_guest_with_a_balloon_gives_memory_back(busybox: str, *, has_balloon: bool) -> None:
    with machine(MachineSpec(image=busybox, has_balloon=has_balloon)) as guest:
        idle = pss(guest)
        fill = ["sh", "-c", f"head -c {USED} /dev/zero >/dev/full.bytes"]
        assert guest.run(fill, timeout_s=LIMIT_S).exit_status == 0
        full = pss(guest)
        assert full > idle + USED // 2
        guest.run(["rm", "/dev/full.bytes"], timeout_s=LIMIT_S)
        deadline = time.monotonic() + (LIMIT_S if has_balloon else 8)  # reports come every 2 s
        while pss(guest) > full - USED // 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert (pss(guest) < full - USED // 2) == has_balloon
        assert ("guest_unused" in guest.usage().readings) == has_balloon
