"""What every test shares: a home of its own, and the image."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.image import Image, Store, bootstrap_busybox, state_dir


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
