"""podman on top of isoscope-oci: the life of a container as its users see it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.backends.podman import _our_limits

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(
        not (shutil.which("podman") and shutil.which("conmon")),
        reason="not installed: apt-get install podman",
    ),
]
OURS = str(Path(__file__).parents[4] / "isoscope-oci")

Inside = Callable[..., subprocess.CompletedProcess[str]]
Podman = Callable[..., tuple[int, str, str]]


@pytest.fixture
def podman(inside: Inside, tmp_path: Path) -> Podman:
    """podman with a store of the test's own, which knows no other runtime."""
    words = (
        "podman", "--root", str(tmp_path / "store"), "--runroot", "/run/podman", "--tmpdir",
        "/run/podman-tmp", "--events-backend", "none", "--cgroup-manager", "cgroupfs",
        "--runtime", OURS,
    )  # fmt: skip

    def call(*more: str) -> tuple[int, str, str]:
        done = inside(*words, *more)
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_container_lives_and_goes(podman: Podman, tree: Path, group: str) -> None:
    root = ("--network", "none", "--cgroup-parent", group, *_our_limits(),
            "--rootfs", str(tree))  # fmt: skip
    limits = ("--memory", "32m", "--pids-limit", "9", "--cpus", "0.5")
    loop = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"
    status, _, why = podman("run", "-d", "--name", "one", *limits, *root, "sh", "-c", loop)
    assert status == 0, why
    one = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max"
    look = f"{one} 2>/dev/null || cat memory.max pids.max"
    status, said, why = podman("exec", "one", "sh", "-c", f"{look}; exit 7")
    assert (status, said.split()[-2:]) == (7, ["33554432", "9"]), why
    assert podman("exec", "-t", "one", "tty")[:2] == (0, "/dev/pts/0\n")
    assert podman("exec", "one", "nothing")[0] == 127
    assert podman("exec", "one", "/etc")[0] == 126
    assert podman("stop", "one")[0] == 0
    assert podman("inspect", "--format", "{{.State.ExitCode}}", "one")[1] == "3\n"
    assert podman("rm", "one")[0] == 0
    status, said, _ = podman("run", "--rm", "-t", *root, "sh", "-c", "tty; exit 5")
    assert (status, said) == (5, "/dev/pts/0\n")
    assert podman("run", "--rm", *root, "nothing")[0] == 127
    assert podman("ps", "-aq")[1] == ""
