"""``isoscope lab``: the notebooks, in JupyterLab, on copies that belong to the student.

Also ``python -m notebooks.course.cli build|record LESSON``, for those who write lessons. Imports
nothing heavy: the front door may import this.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.commandline import Parser

FAILED = 125
_ROOT = Path(__file__).parent.parent.parent
_NOTEBOOKS = Path(__file__).parent.parent
_REMEDY = "./isoscope setup --notebooks"
_NEEDED = ("jupyterlab", "ipykernel", "numpy")

_TO_ITSELF = (
    "--ServerApp.ip=127.0.0.1",
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
)
"""The server listens to this machine only and asks nobody for updates, extensions or news."""


def lab_main(argv: Sequence[str]) -> int:
    """Put the lessons into a folder and open JupyterLab on it; only returns if that fails.

    A file that is there already is the student's and stays as it is.
    """
    options = lab_parser().parse_args(argv)
    folder = options.folder.absolute()
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        print(f"isoscope: {', '.join(missing)} not installed; {_REMEDY}", file=sys.stderr)
        return FAILED
    try:
        for line in copy_lessons(folder, solutions=options.solutions):
            print(line, file=sys.stderr)
    except OSError as error:
        print(f"isoscope: {error.filename}: {error.strerror}; name another folder with --to",
              file=sys.stderr)  # fmt: skip
        return FAILED
    if options.copy_only:
        return 0
    _become_jupyter(folder, options.mode, options.jupyter)
    return FAILED


def copy_lessons(folder: Path, *, solutions: bool) -> list[str]:
    """Copy what is not there yet into *folder*; a line for each lesson. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [(path, folder / path.name) for path in sorted(_NOTEBOOKS.glob("[0-9]*.ipynb"))]
    if solutions:
        sources += [
            (path, folder / f"{path.stem}.solution.ipynb")
            for path in sorted((_NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
        ]
    told = []
    for source, target in sources:
        try:
            with target.open("xb") as file:  # never over a student's work
                file.write(source.read_bytes())
            told.append(f"isoscope: {target} is new")
        except FileExistsError:
            told.append(f"isoscope: {target} is kept as you left it")
    return told


def lab_parser() -> Parser:
    """The options of ``lab``."""
    parser = Parser(
        prog="isoscope lab", description="the lessons, in JupyterLab, on copies of your own"
    )
    parser.add_argument(
        "--to",
        dest="folder",
        type=Path,
        default=Path("isoscope-lab"),
        metavar="DIR",
        help="where your copies are (default: ./isoscope-lab)",
    )
    parser.add_argument(
        "--mode",
        choices=("auto", "live", "recorded"),
        default="auto",
        help="measure here, or show what was recorded (default: what works)",
    )
    parser.add_argument("--solutions", action="store_true", help="copy the solutions too")
    parser.add_argument("--copy-only", action="store_true", help="copy, open nothing")
    parser.add_argument("jupyter", nargs="*", metavar="-- OPTION", help="for jupyter lab")
    return parser


def _become_jupyter(folder: Path, mode: str, further: Sequence[str]) -> None:
    """Replace this process, so that signals and the exit status are JupyterLab's own."""
    words = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", *_TO_ITSELF]
    if os.geteuid() == 0:
        words.append("--allow-root")  # containers need root; the server listens to this host only
    path = os.pathsep.join(p for p in (str(_ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = os.environ | {"PYTHONPATH": path, "ISOSCOPE_LAB_MODE": mode}
    try:
        os.execve(words[0], [*words, *further], environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        print(f"isoscope: {words[0]} cannot be run: {error.strerror}; {_REMEDY}", file=sys.stderr)


def main(argv: Sequence[str]) -> int:
    """What authors of lessons need: ``build`` all notebooks, or ``record`` one lesson here."""
    match list(argv):
        case ["build"]:
            from notebooks.course import building  # noqa: PLC0415 - jupytext

            for path in building.build():
                print(path)
            return 0
        case ["record", lesson]:
            return _record(lesson)
        case _:
            print("usage: python -m notebooks.course.cli build | record LESSON", file=sys.stderr)
            return 2


def _record(lesson: str) -> int:
    from benchmarks.errors import BenchmarkError  # noqa: PLC0415 - as above: the engines
    from notebooks.course import recording  # noqa: PLC0415

    try:
        print(recording.write(lesson, recording.anonymous(recording.gather(lesson, "live"))))
    except BenchmarkError as error:
        print(f"isoscope: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
