"""Real machines: one libvirt driver for the whole session, and nothing left after each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.image import Image
from vmbackend.hypervisor import hypervisor
from vmbackend.probe import probe


@pytest.fixture(scope="session")
def busybox(busybox: Image) -> str:
    """The digest of the image, where machines can run; elsewhere the tests are skipped."""
    why = probe()
    if why is not None:
        pytest.skip("; ".join(why))
    return busybox.digest


@pytest.fixture(autouse=True)
def _nothing_left(busybox: str) -> Iterator[None]:
    """After each test: no QEMU of ours, no overlay, no socket."""
    assert busybox
    yield
    engine = hypervisor()
    assert list(engine.instances.iterdir()) == []
    assert list((engine.root / "s").iterdir()) == []
    assert _emulators(str(engine.root)) == []


@pytest.fixture
def emulators() -> Callable[[str], list[int]]:
    """The function that finds the QEMUs whose command line holds a string."""
    return _emulators


def _emulators(needle: str) -> list[int]:
    """The processes, zombies excluded, whose command line is a QEMU's and holds *needle*."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"qemu-system" in line.partition(b"\0")[0] and needle.encode() in line:
            found.append(int(entry.name))
    return found


@pytest.fixture
def status() -> Callable[[int], dict[str, str]]:
    """The function that reads /proc/PID/status."""

    def read(pid: int) -> dict[str, str]:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    return read
