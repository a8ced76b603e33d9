"""Golden files: plain text beside the tests, rewritten with ISOSCOPE_UPDATE_GOLDEN=1."""

import os
from pathlib import Path

_GOLDEN = Path(__file__).parent / "golden"


def check(name: str, actual: str) -> None:
    """Compare *actual* with tests/golden/*name*, or write it when asked to."""
    path = _GOLDEN / name
    if os.environ.get("ISOSCOPE_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(actual)
    assert path.exists(), f"no golden file {name}; make it with ISOSCOPE_UPDATE_GOLDEN=1"
    assert actual == path.read_text()
