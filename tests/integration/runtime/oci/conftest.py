"""Where engines run: namespaces in which nothing of the machine changes, and which end with us."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.image import Image, Store, unpacked

LIMIT_S = 60
_REAPS = (  # the first process of a namespace of processes inherits all orphans
    "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    "print('ready', flush=True); sys.stdin.read()"
)
_FURNISHES = 'mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; exec "$@"'

Inside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def group() -> Iterator[str]:
    """The path of a control group of the test's own; nothing runs in it or below it at the end."""
    name = f"isoscope-test-{secrets.token_hex(6)}"
    yield f"/{name}"
    for top, _, _ in os.walk("/sys/fs/cgroup"):
        if Path(top).name == name:
            for directory, _, _ in os.walk(top, topdown=False):
                assert not (Path(directory) / "cgroup.procs").read_text()
                assert len(Path(directory).name.removeprefix("libpod-")) < 64  # a container's
                Path(directory).rmdir()


@pytest.fixture
def tree(tmp_path: Path, busybox: Image) -> Path:
    """The image's files, to be written to."""
    return Path(
        shutil.copytree(
            unpacked(Store(), busybox, purpose="container").path, tmp_path / "tree", symlinks=True
        )
    )


@pytest.fixture
def inside(tmp_path: Path, group: str) -> Iterator[Inside]:
    """Runs a command in mounts and processes of the test's own; all end before *group* is left."""
    assert group
    apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc",
             "--kill-child", "sh", "-ec", _FURNISHES, "sh"]  # fmt: skip
    with subprocess.Popen(
        [*apart, sys.executable, "-I", "-S", "-c", _REAPS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        enter = ["nsenter", "--target", children[0], "--mount", "--pid"]

        def run(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            with (tmp_path / "said").open("w+") as said, (tmp_path / "wrong").open("w+") as wrong:
                # Files: whoever outlives the command would hold a pipe open.
                done = subprocess.run(
                    [*enter, *argv], input=stdin, stdout=said, stderr=wrong, text=True,
                    check=False, timeout=LIMIT_S,
                )  # fmt: skip
                said.seek(0)
                wrong.seek(0)
                return subprocess.CompletedProcess(
                    argv, done.returncode, said.read(), wrong.read()
                )

        yield run
