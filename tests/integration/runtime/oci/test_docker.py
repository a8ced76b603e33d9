"""dockerd on top of isoscope-oci, with runc beside it: what users see must be the same."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("docker", "dockerd", "containerd", "runc"))),
        reason="not installed: apt-get install docker.io",
    ),
]
OURS = str(Path(__file__).parents[4] / "isoscope-oci")
READY_S = 60

Inside = Callable[..., subprocess.CompletedProcess[str]]
Docker = Callable[..., tuple[int, str, str]]


@pytest.fixture
def docker(inside: Inside, tmp_path: Path, tree: Path, group: str) -> Iterator[Docker]:
    """A daemon of the test's own, whose default runtime is ours; it knows the image ``box``."""
    (tmp_path / "daemon.json").write_text("{}")
    words = [
        "dockerd", "--config-file", str(tmp_path / "daemon.json"), "--data-root",
        str(tmp_path / "store"), "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
        "--host", "unix:///run/docker.sock", "--storage-driver", "vfs", "--bridge", "none",
        "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        "--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn",
        "--cgroup-parent", group, "--add-runtime", f"ours={OURS}", "--default-runtime", "ours",
    ]  # fmt: skip
    told = tmp_path / "ready"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(told))
        heard.settimeout(READY_S)
        script = 'log=$1; shift; NOTIFY_SOCKET=$1; export NOTIFY_SOCKET; shift; "$@" >$log 2>&1 &'
        inside("sh", "-c", script, "sh", str(tmp_path / "log"), str(told), *words)
        heard.recv(256)

    def call(*more: str) -> tuple[int, str, str]:
        done = inside("docker", "--host", "unix:///run/docker.sock", *more)
        return done.returncode, done.stdout, done.stderr

    packed = shutil.make_archive(str(tmp_path / "box"), "tar", tree)
    status, _, why = call("import", packed, "box")
    assert status == 0, why
    yield call
    assert call("ps", "-aq")[1] == ""
    inside("sh", "-c", "kill $(cat /run/docker.pid)")


def test_a_container_lives_and_goes(docker: Docker) -> None:
    limits = ("--memory", "32m", "--pids-limit", "9", "--cpus", "0.5")
    loop = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"
    run = ("run", "--network", "none")
    status, _, why = docker(*run, "-d", "--name", "one", *limits, "box", "sh", "-c", loop)
    assert status == 0, why
    one = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max"
    look = f"{one} 2>/dev/null || cat memory.max pids.max"
    status, said, why = docker("exec", "one", "sh", "-c", f"{look}; exit 7")
    assert (status, said.split()[-2:]) == (7, ["33554432", "9"]), why
    assert docker("exec", "-t", "one", "tty")[:2] == (0, "/dev/pts/0\n")
    assert docker("stop", "one")[0] == 0
    assert docker("inspect", "--format", "{{.State.ExitCode}}", "one")[1] == "3\n"
    assert docker("rm", "one")[0] == 0
    status, said, _ = docker(*run, "--rm", "-t", "box", "sh", "-c", "tty; exit 5")
    assert (status, said) == (5, "/dev/pts/0\n")


def test_what_cannot_run_is_as_under_runc(docker: Docker) -> None:
    statuses: dict[str, list[int]] = {"runc": [], "ours": []}
    for runtime, seen in statuses.items():
        run = ("run", "--network", "none", "--name", runtime, "--runtime", runtime)
        seen.append(docker(*run, "--rm", "box", "nothing")[0])
        docker(*run, "-d", "box", "sleep", "1000")
        seen += [docker("exec", runtime, name)[0] for name in ("nothing", "/etc")]
        docker("rm", "--force", runtime)
    assert statuses["ours"] == statuses["runc"]
