"""Real builds on the busybox image: by the library where speed counts, else by the front door."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from integration.build.workplace import MARK, Workplace, isoscope, processes

from runtime.image import Image, state_dir


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        skip = pytest.mark.skip(reason="builds need root; run as root")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture
def workplace(tmp_path: Path, busybox: Image) -> Workplace:
    context = tmp_path / "context"
    context.mkdir()
    assert busybox.references
    return Workplace(context)


@pytest.fixture(scope="module", autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    """No mount, no file, no process: of this home, for others work on this machine too."""
    assert busybox.digest
    yield
    assert str(state_dir()) not in Path("/proc/self/mountinfo").read_text()
    assert not list((state_dir() / "instances").glob("*"))
    assert not processes(MARK)


@pytest.fixture
def command(workplace: Workplace) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``isoscope image build …`` with the workplace's context as its last word."""

    def run(*words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Any:
        return subprocess.run(
            [*isoscope("image", "build"), *words, str(workplace.context)],
            input=stdin, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **(env or {})},
        )  # fmt: skip

    return run
