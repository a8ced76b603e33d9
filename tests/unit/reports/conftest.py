from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from unit.reports.synthetic import write_synthetic_run


@pytest.fixture
def write_synthetic(tmp_path: Path) -> Callable[..., Path]:
    """Writes a made-up run and returns its folder; keyword arguments replace fields of Run."""
    return partial(write_synthetic_run, tmp_path / "results")
