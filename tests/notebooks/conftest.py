"""The lesson's evidence from its recording, and a way to run a notebook as a student would."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notebooks.course import lesson01, recording
from notebooks.course.building import NOTEBOOKS
from notebooks.course.evidence import Evidence
from notebooks.course.languages import spoken

ROOT = Path(__file__).parent.parent.parent
BUDGET_S = 180
Notebook = Any
Execute = Callable[..., Notebook]


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return recording.read(lesson01.NAME)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Execute]:
    """Restart and run all, in a kernel that keeps its files to itself and speaks over a socket."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    own = Path(tempfile.mkdtemp(prefix="nb"))  # short: a socket's path has 107 bytes at most
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(own))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(version: str, mode: str, language: str = "en") -> Notebook:
        monkeypatch.setenv(recording.MODE_VARIABLE, mode)
        stored = (NOTEBOOKS / version / f"{lesson01.NAME}.ipynb").read_text()
        notebook = nbformat.reads(spoken(stored, language), as_version=4)  # type: ignore[no-untyped-call]
        NotebookClient(
            notebook,
            timeout=BUDGET_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(own)}},
            config=Config({"KernelManager": {"transport": "ipc", "ip": str(own / "k")}}),
        ).execute()
        return notebook

    yield run
    shutil.rmtree(own)
