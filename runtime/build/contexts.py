"""Where the files of a build come from: a directory, a tar archive, or a commit in git.

What is not a directory is a stranger's: it is unpacked or checked out into a directory of ours
that goes with the build, and nothing in it leads out of it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from runtime.build.archives import MOST_BYTES, Unpacking, is_archive
from runtime.build.copying import Manner, Owner
from runtime.build.progress import Prelude
from runtime.build.rootfs import Rootfs
from runtime.build.sources import SourceTree
from runtime.errors import BuildError, Unsupported
from runtime.image.room import CHECK_BYTES, Room

_ADDRESS = re.compile(r"(?:git|ssh|file)://|https?://[^#]+(?:\.git(?:$|#)|#)|[\w.-]+@[\w.-]+:")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The directory *root*; *is_foreign* says that it is a stranger's."""

    root: Path
    is_foreign: bool = False

    def file(self, name: str) -> Path | None:
        """Where *name* leads: in a stranger's context never out of it. None if it is not there."""
        if not self.is_foreign:
            path = self.root / name
            return path if path.exists() else None
        with SourceTree(root=self.root) as tree:
            real = tree.real(name)
        return None if real is None else self.root / real


@contextmanager
def build_context(text: str, prelude: Prelude) -> Iterator[Context]:
    """The context that *text* names, for the time of the block. Raises BuildError, Unsupported.

    A directory; ``-`` or a file, which hold a tar, compressed or not; or REPOSITORY#REF:FOLDER,
    where a repository is an address or a directory.
    """
    path = Path(text)
    if text != "-" and path.is_dir():
        yield Context(root=path)
        return
    repository, sharp, rest = text.partition("#")
    is_repository = _ADDRESS.match(text) or (sharp and Path(repository).is_dir())
    if text != "-" and not path.is_file() and not is_repository:
        raise BuildError(
            f"there is no directory, archive or repository {text!r}",
            remedy="name the build context: a directory, a tar, '-' or REPOSITORY.git#REF:FOLDER",
        )
    from runtime.build.views import scratch  # noqa: PLC0415 - most contexts are directories

    with scratch() as directory:
        root = directory / "context"
        root.mkdir()
        with prelude.step(f"[context] {text}"):
            if is_repository:
                revision, _, folder = rest.partition(":")
                _check_out(repository, revision or "HEAD", root)
                root = _below(root, folder)
            else:
                _unpack(text, root, directory)
        yield Context(root=root, is_foreign=True)


# A tar


def _unpack(text: str, root: Path, scratch: Path) -> None:
    name = "standard input" if text == "-" else repr(text)
    room = Room(path=scratch, what="the build context")
    with room.told(), tempfile.TemporaryFile(dir=scratch) as copy:
        if text == "-":
            _copy(cast("BinaryIO", sys.stdin.buffer), copy, room)
            _extract(cast("BinaryIO", copy), name, root)
            return
        try:
            with open(text, "rb") as file:  # noqa: PTH123 - as the user wrote it
                _extract(file, name, root)
        except OSError as error:
            raise BuildError(f"cannot read {name}: {error.strerror}") from error


def _copy(source: BinaryIO, copy: object, room: Room) -> None:
    target = cast("BinaryIO", copy)
    seen_bytes = 0
    while chunk := source.read(_CHUNK_BYTES):
        seen_bytes += len(chunk)
        if seen_bytes > MOST_BYTES:
            raise BuildError(f"standard input is longer than {MOST_BYTES} bytes")
        if seen_bytes % CHECK_BYTES < _CHUNK_BYTES:
            room.check(len(chunk))
        target.write(chunk)
    target.seek(0)


def _extract(file: BinaryIO, name: str, root: Path) -> None:
    if not is_archive(file):
        raise BuildError(
            f"{name} is no tar archive, and no directory",
            remedy="a Dockerfile alone is read from standard input with '-f -' and a directory",
        )
    manner = Manner(owner=Owner(uid=0, gid=0), mode=None, epoch_ns=0)
    with Rootfs(root) as rootfs:
        Unpacking(rootfs=rootfs, base="", manner=manner).unpack(file, name)


# A repository


def _check_out(repository: str, revision: str, root: Path) -> None:
    """The files of *revision* alone: no history, no submodules, no hooks, nothing asked for."""
    if not _REVISION.fullmatch(revision):
        raise BuildError(
            f"{revision[:80]!r} is no branch, tag or commit", remedy="write #REF or #REF:FOLDER"
        )
    if Path(repository).is_dir():
        repository = str(Path(repository).absolute())
    _git("init", "--quiet", str(root), about=repository)
    inside = ("-C", str(root), "-c", "core.hooksPath=/dev/null")
    _git(*inside, "fetch", "--quiet", "--no-tags", "--depth", "1", "--", repository, revision,
         about=repository)  # fmt: skip
    _git(*inside, "checkout", "--quiet", "--detach", "FETCH_HEAD", about=repository)
    from runtime.image.removal import remove_tree  # noqa: PLC0415 - see above

    remove_tree(root / ".git")  # an image must not differ by how it was fetched


def _git(*words: str, about: str) -> None:
    environment = {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            ["git", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", check=False, preexec_fn=_die_with_us,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Unsupported(
            f"{about!r} is a git repository, and git is not installed",
            remedy="apt-get install git, or name a directory",
        ) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        raise BuildError(f"{about!r} cannot be fetched: {said[0][:400]}")


def _die_with_us() -> None:
    from runtime import syscalls  # noqa: PLC0415

    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)


def _below(root: Path, folder: str) -> Path:
    """The directory *folder* of a checkout, whatever links are on the way."""
    found = Context(root=root, is_foreign=True).file(folder) if folder else root
    if found is None or not found.is_dir():
        raise BuildError(f"the repository has no directory {folder!r}")
    return found
