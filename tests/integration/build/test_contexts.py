"""Contexts that are no directory: archives and repositories, from strangers too."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from integration.build.workplace import Workplace, isoscope

from runtime.image import state_dir

needs_git = pytest.mark.skipif(
    shutil.which("git") is None, reason="git is not installed: apt-get install git"
)

DOCKERFILE = "FROM scratch\nCOPY data other /\n"


def build(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        isoscope("image", "build", "--progress", "plain", *words),
        input=stdin, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def built(workplace: Workplace, done: subprocess.CompletedProcess[bytes]) -> Path:
    assert done.returncode == 0, done.stderr.decode()
    return workplace.tree(workplace.store.resolve(done.stdout.decode().strip()))


def archive(form: str = "w", **files: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=form) as tar:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(text), 4711
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.mark.parametrize("form", ["w", "w:gz"])
def test_a_tar_on_standard_input_or_in_a_file(workplace: Workplace, form: str) -> None:
    files = {"data": "1", "other": "2", "hidden": "3", ".dockerignore": "hidden"}
    tar = archive(form, Dockerfile="FROM scratch\nCOPY . /\n", **files)
    root = built(workplace, build("-", stdin=tar))
    assert sorted(path.name for path in root.iterdir()) == [
        ".dockerignore",
        "Dockerfile",
        "data",
        "other",
    ]
    assert (root / "data").stat().st_uid == 0
    path = workplace.context / "context.tar"
    path.write_bytes(tar)
    assert built(workplace, build(str(path))) == root


def test_a_context_gives_the_same_image_however_it_comes(workplace: Workplace) -> None:
    files = {"data": "1", "other": "2", "Dockerfile": DOCKERFILE}
    for name, text in files.items():
        workplace.write(name, text)
    plain = build(str(workplace.context))
    assert plain.stdout == build("-", stdin=archive(**files)).stdout != b""


@pytest.mark.parametrize(
    ("make", "words", "why"),
    [
        (lambda: b"no tar" * 200, ["-"], "standard input is no tar archive"),
        (lambda: archive(Dockerfile="FROM scratch\n")[:700], ["-"], "Dockerfile"),
        (lambda: archive(other="x"), ["-"], "the context has no 'Dockerfile'"),
        (lambda: archive(Dockerfile=""), ["-f", "../../etc/passwd", "-"], "has no '../../etc"),
        (lambda: archive(**{"../up": "x"}), ["-"], "leads upwards"),
        (lambda: b"", ["-f", "-", "-"], "cannot both be standard input"),
        (lambda: b"", ["/no/such"], "no directory, archive or repository '/no/such'"),
    ],
)
def test_what_is_no_context_is_told_in_one_line(
    make: Callable[[], bytes], words: list[str], why: str
) -> None:
    done = build(*words, stdin=make())
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 125
    assert why in last
    assert "Traceback" not in done.stderr.decode()


def test_a_link_in_an_archive_leads_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("FROM never-to-be-read\n")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(info)
    done = build("-", stdin=packed.getvalue())
    assert done.returncode == 125
    assert b"the context has no 'Dockerfile'" in done.stderr
    assert b"never-to-be-read" not in done.stderr
    assert not list((state_dir() / "instances").glob("b-*"))


@needs_git
def test_a_commit_of_a_repository_and_a_folder_of_it(workplace: Workplace) -> None:
    repository = workplace.context

    def git(*words: str) -> None:
        who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        subprocess.run(["git", "-C", str(repository), *who, *words], check=True)

    git("init", "-q", "-b", "main")
    workplace.write("sub/Dockerfile", DOCKERFILE)
    workplace.write("sub/data", "first")
    workplace.write("sub/other")
    (repository / "out").symlink_to("/etc")
    git("add", ".")
    git("commit", "-qm", "first")
    git("tag", "v1")
    workplace.write("sub/data", "second")
    git("commit", "-qam", "second")
    workplace.write("sub/data", "not committed")

    def data(context: str) -> str:
        return (built(workplace, build(context)) / "data").read_text()

    assert data(f"{repository}#v1:sub") == "first"
    assert data(f"file://{repository}#main:/sub") == "second"
    for context, why in (
        (f"{repository}#v1:out", "no directory 'out'"),
        (f"{repository}#v9", "cannot be fetched: "),
        (f"{repository}#--upload-pack=x", "no branch, tag or commit"),
    ):
        done = build(context)
        assert done.returncode == 125
        assert why in done.stderr.decode().splitlines()[-1]
    assert not list((state_dir() / "instances").glob("b-*"))
