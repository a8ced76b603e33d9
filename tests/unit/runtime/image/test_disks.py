import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image, ImageError, Store
from runtime.image.disks import (
    LIMIT,
    disk_bytes,
    disk_slot,
    disks_bytes,
    remove_disk,
    shrink_disks,
)

DIGESTS = tuple(f"sha256:{digit * 64}" for digit in "123")
SIZE_BYTES = 1 << 16


def make(digest: str, *, age_s: float = 3600) -> Path:
    slot = disk_slot(digest)
    slot.mkdir(parents=True)
    (slot / "disk.ext4").write_bytes(os.urandom(SIZE_BYTES))
    used_ns = time.time_ns() - round(age_s * 10**9)
    os.utime(slot, ns=(used_ns, used_ns))
    return slot


def test_the_least_recently_used_go_until_the_rest_is_small_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ages = {DIGESTS[0]: 500, DIGESTS[1]: 900, DIGESTS[2]: 700}
    slots = {digest: make(digest, age_s=age) for digest, age in ages.items()}
    assert disks_bytes() == 3 * SIZE_BYTES
    assert shrink_disks() == ()
    monkeypatch.setenv(LIMIT, "100k")
    assert shrink_disks() == (slots[DIGESTS[1]].name, slots[DIGESTS[2]].name)
    assert disk_bytes(DIGESTS[0]) == {slots[DIGESTS[0]].name: SIZE_BYTES}
    assert disk_bytes(DIGESTS[1]) == {}


def test_what_may_be_needed_at_once_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "0")
    make(DIGESTS[0], age_s=5)
    kept = make(DIGESTS[1])
    assert shrink_disks(keep=kept) == ()
    assert shrink_disks() == (kept.name,)


@pytest.mark.timeout(30)
@pytest.mark.skipif(shutil.which("qemu-io") is None, reason="apt-get install qemu-utils")
def test_a_disk_that_qemu_has_is_never_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "0")
    slot = make(DIGESTS[0])
    with subprocess.Popen(
        ["stdbuf", "-oL", "qemu-io", "-r", "-f", "raw", str(slot / "disk.ext4")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"read 0 512\n")
        process.stdin.flush()
        assert b"read 512/512" in process.stdout.readline()  # it has it now
        assert shrink_disks() == ()
        assert not remove_disk(DIGESTS[0])
        assert (slot / "disk.ext4").exists()
        process.stdin.close()
    assert remove_disk(DIGESTS[0])
    assert not slot.exists()


def test_a_disk_goes_with_its_image(
    store: Store, make_image: Callable[..., Image], pack: Callable[..., bytes], member: Any
) -> None:
    image = make_image(pack(member("a")), name="one")
    slot = make(image.digest, age_s=0)
    other = make(DIGESTS[0])
    store.tag(image.digest, "two")
    store.remove("one")
    assert slot.exists()
    store.remove("two")
    assert not slot.exists()
    assert other.exists()


def test_a_limit_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(ImageError, match="ISOSCOPE_VM_DISKS: 'much' is not a size"):
        shrink_disks()
