"""What every test shares: a home of its own, and the image."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import syscalls
from runtime.image import Image, Store, bootstrap_busybox, state_dir
from runtime.network import links
from runtime.network.netlink import Line


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images and instances of the tests' own; the guest kernel's cache is the machine's."""
    cache = state_dir() / "vm"
    directory = tmp_path_factory.mktemp("home")
    cache.mkdir(parents=True, exist_ok=True)
    (directory / "vm").symlink_to(cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOSCOPE_HOME", str(directory))
        patch.setenv("ISOSCOPE_LOCK", str(directory / "bench.lock"))  # others may test here too
        yield directory


@pytest.fixture(scope="session")
def busybox(home: Path) -> Image:
    assert os.environ["ISOSCOPE_HOME"] == str(home)
    return bootstrap_busybox(Store())


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """In a network namespace of the test's own, workers included: the machine's stays as it is."""
    if os.geteuid() != 0:
        yield
        return
    own = "/proc/thread-self/ns/net"
    before = os.open(own, os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    try:
        with Line() as line:
            links.bring_up(line, 1)
        yield
    finally:
        syscalls.setns(before, syscalls.CLONE_NEWNET)
        os.close(before)
