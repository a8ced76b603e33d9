"""Restart and run all: for students and with solutions, from the recording and live."""

import re
from collections.abc import Callable
from typing import Any

import leftovers
import pytest

pytestmark = pytest.mark.usefixtures("busybox")
Notebook = Any
Execute = Callable[..., Notebook]
STATUS = {"": "todo", "solutions": "pass"}
VERSIONS = pytest.mark.parametrize("version", STATUS)


@pytest.fixture(scope="module")
def capable() -> None:
    from notebooks.course import observing

    if missing := observing.unavailable():
        why = "; ".join(f"{k}: {v.reason}; {v.remedy}" for k, v in missing.items())
        pytest.skip(why)


@VERSIONS
def test_from_the_recording(execute: Execute, version: str) -> None:
    before = leftovers.seen()
    notebook = execute(version, "recorded")
    _judge(notebook, STATUS[version], badge="RECORDED: 20")
    assert not leftovers.settled(before)


def test_in_korean(execute: Execute) -> None:
    notebook = execute("solutions", "recorded", "ko")
    _judge(notebook, "통과", badge="기록: 20")
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert all(re.search("[\uac00-\ud7a3]", text) for text in texts)


@pytest.mark.slow
@pytest.mark.usefixtures("capable")
def test_live(execute: Execute) -> None:
    before = leftovers.seen()
    notebook = execute("solutions", "auto")
    _judge(notebook, "pass", badge="LIVE: this machine, now")
    (opening,) = _texts(notebook, "evidence")
    assert "0 instances failed." in opening
    assert not leftovers.settled(before)


def _judge(notebook: Notebook, status: str, *, badge: str) -> None:
    """Nothing on stderr, every check as expected, every figure with its badge and in words."""
    streams = [o for cell in _code(notebook) for o in cell.outputs if o.output_type == "stream"]
    assert not streams
    verdicts = _texts(notebook, "check")
    assert len(verdicts) == 4
    assert all(f": {status}. " in verdict for verdict in verdicts), verdicts
    figures = _texts(notebook, "figure")
    assert len(figures) == 8
    assert all(badge in figure for figure in [*figures, *_texts(notebook, "evidence")])
    for cell in _tagged(notebook, "figure"):
        markup = cell.outputs[0].data["text/html"]
        assert "<script" not in markup
        label = re.search(r'<figure aria-label="([^"]*)"', markup)
        assert label is not None
        assert label[1].strip()
        assert markup.count("<svg") == markup.count('<svg role="img" aria-label="')


def _texts(notebook: Notebook, tag: str) -> list[str]:
    return [cell.outputs[0].data["text/plain"] for cell in _tagged(notebook, tag)]


def _tagged(notebook: Notebook, tag: str) -> list[Notebook]:
    return [cell for cell in _code(notebook) if tag in cell.metadata.get("tags", ())]


def _code(notebook: Notebook) -> list[Notebook]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
