"""From a lesson's text to its notebooks: one for students, one with solutions.

Each is stored in both languages; ``languages`` takes one of them out. The text is Python in
jupytext's percent format, so that it can be read, linted and compared. What stands between
``# BEGIN SOLUTION`` and ``# END SOLUTION`` (markers that nbgrader and otter-grader read too)
becomes ``...`` in the student's notebook. No outputs are stored.
"""

import re
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import nbformat
from notebooks.course.languages import drifted

NOTEBOOKS = Path(__file__).parent.parent
SOURCE = NOTEBOOKS / "source"
SOLUTIONS = NOTEBOOKS / "solutions"

_SOLUTION = re.compile(
    r"^(?P<indent> *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION\n", re.DOTALL | re.MULTILINE
)
_MARKER = re.compile(r"^ *# (?:BEGIN|END) SOLUTION\n", re.MULTILINE)
_STUB = r"\g<indent>return ...  # replace this line" + "\n"
_KEPT = ("lang", "tags")
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def lessons() -> tuple[str, ...]:
    """The names of all lessons, in order."""
    return tuple(sorted(path.stem for path in SOURCE.glob("[0-9]*.py")))


def built(name: str) -> dict[Path, str]:
    """The notebooks of the lesson *name*: where each belongs, and its bytes as text."""
    text = (SOURCE / f"{name}.py").read_text()
    return {
        NOTEBOOKS / f"{name}.ipynb": notebook(student(text)),
        SOLUTIONS / f"{name}.ipynb": notebook(solved(text)),
    }


def student(text: str) -> str:
    """A lesson's text with a stub in place of each solution."""
    return _SOLUTION.sub(_STUB, text)


def solved(text: str) -> str:
    """A lesson's text with its solutions, and without the marks around them."""
    return _MARKER.sub("", text)


def drift(name: str) -> list[str]:
    """What of the lesson *name* is not there in both languages, or no longer says the same."""
    text = (SOURCE / f"{name}.py").read_text()
    return list(drifted(jupytext.reads(text, fmt="py:percent").cells))


def build() -> list[Path]:
    """Write the notebooks of every lesson; the files written."""
    written = []
    for name in lessons():
        for path, content in built(name).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            written.append(path)
    return written


def notebook(text: str) -> str:
    """The notebook of a percent-format *text*: the same text gives the same bytes."""
    read: Any = jupytext.reads(text, fmt="py:percent")
    read.metadata = nbformat.from_dict(_METADATA)  # type: ignore[no-untyped-call]
    for number, cell in enumerate(read.cells, start=1):
        cell["id"] = f"cell-{number:02}"  # nbformat would draw one by chance
        kept = {name: cell.metadata[name] for name in _KEPT if name in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)  # type: ignore[no-untyped-call]
    read.nbformat, read.nbformat_minor = 4, 5
    nbformat.validate(read)
    return str(nbformat.writes(read)).rstrip("\n") + "\n"  # type: ignore[no-untyped-call]
