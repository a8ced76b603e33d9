"""``isoscope lab``: the notebooks, in JupyterLab, on copies that belong to the student.

Also ``python -m notebooks.course.cli build|record LESSON``, for those who write lessons. Imports
nothing heavy: the front door may import this.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from notebooks.course.languages import BOTH, LANGUAGES, preferred, spoken
from runtime.commandline import Parser

FAILED = 125
_ROOT = Path(__file__).parent.parent.parent
_NOTEBOOKS = Path(__file__).parent.parent
_REMEDY = "./isoscope setup --notebooks"
_SETTINGS = Path(__file__).parent / "jupyter"
"""JupyterLab's settings for the course: it does not ask for news in the middle of a lesson."""
_NEEDED = ("jupyterlab", "ipykernel", "numpy")

_SERVER = (
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.answer_yes=True",
    "--ServerApp.log_level=ERROR",
    "--LabApp.extension_manager=readonly",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
)
"""The server listens to this machine only and asks nobody for updates, extensions or news; one
Ctrl-C ends it, kernels included. It prints its address, with the token that opens it, and errors.
"""


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
        copies = copy_lessons(folder, options.lang, solutions=options.solutions)
        for path, is_new in copies.items():
            told = "is new" if is_new else "is kept as you left it"
            print(f"isoscope: {path} {told}", file=sys.stderr)
    except OSError as error:
        print(f"isoscope: {error.filename}: {error.strerror}; name another folder with --to",
              file=sys.stderr)  # fmt: skip
        return FAILED
    if options.copy_only:
        return 0
    _become_jupyter(folder, next(iter(copies)).name, options.mode, options.jupyter)
    return FAILED


def copy_lessons(folder: Path, language: str, *, solutions: bool) -> dict[Path, bool]:
    """Copy what is not there yet into *folder*: each copy, and whether it is new. Raises OSError.

    A lesson in one language has that language in its name, so work in another one is kept too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "" if language == BOTH else f".{language}"
    sources = [
        (path, folder / f"{path.stem}{suffix}.ipynb")
        for path in sorted(_NOTEBOOKS.glob("[0-9]*.ipynb"))
    ]
    if solutions:
        sources += [
            (path, folder / f"{path.stem}{suffix}.solution.ipynb")
            for path in sorted((_NOTEBOOKS / "solutions").glob("[0-9]*.ipynb"))
        ]
    copies = {}
    for source, target in sources:
        content = spoken(source.read_text(encoding="utf-8"), language)
        try:
            with target.open("x", encoding="utf-8") as file:  # never over a student's work
                file.write(content)
            copies[target] = True
        except FileExistsError:
            copies[target] = False
    return copies


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
    parser.add_argument(
        "--lang",
        choices=(*LANGUAGES, BOTH),
        default=preferred(os.environ),
        help="the language of the lessons (default: that of the locale)",
    )
    parser.add_argument("--solutions", action="store_true", help="copy the solutions too")
    parser.add_argument("--copy-only", action="store_true", help="copy, open nothing")
    parser.add_argument("jupyter", nargs="*", metavar="-- OPTION", help="for jupyter lab")
    return parser


def _become_jupyter(folder: Path, lesson: str, mode: str, further: Sequence[str]) -> None:
    """Replace this process, so that signals and the exit status are JupyterLab's own."""
    words = [
        sys.executable, "-m", "jupyterlab", *_SERVER, f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{lesson}",
    ]  # fmt: skip
    is_root = os.geteuid() == 0
    if is_root:
        words.append("--allow-root")  # containers need root; the server listens to this host only
    if is_root or not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        words.append("--no-browser")  # a browser does not run as root, nor in a terminal
    environment = os.environ | {
        "PYTHONPATH": _before(str(_ROOT), "PYTHONPATH"),
        "JUPYTER_CONFIG_PATH": _before(str(_SETTINGS), "JUPYTER_CONFIG_PATH"),
        "ISOSCOPE_LAB_MODE": mode,
    }
    try:
        os.execve(words[0], [*words, *further], environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        print(f"isoscope: {words[0]} cannot be run: {error.strerror}; {_REMEDY}", file=sys.stderr)


def _before(path: str, variable: str) -> str:
    """*path*, and what *variable* holds already."""
    return os.pathsep.join(each for each in (path, os.environ.get(variable)) if each)


def main(argv: Sequence[str]) -> int:
    """What authors of lessons need: ``build`` all notebooks, or ``record`` one lesson here."""
    match list(argv):
        case ["build"]:
            return _build()
        case ["record", lesson]:
            return _record(lesson)
        case _:
            print("usage: python -m notebooks.course.cli build | record LESSON", file=sys.stderr)
            return 2


def _build() -> int:
    from notebooks.course import building  # noqa: PLC0415 - jupytext

    wrong = [f"{name}: {each}" for name in building.lessons() for each in building.drift(name)]
    for sentence in wrong:
        print(f"isoscope: {sentence}", file=sys.stderr)
    for path in building.build():
        print(path)
    return FAILED if wrong else 0


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
