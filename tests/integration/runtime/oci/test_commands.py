"""The commands as engines give them: created, started, entered, stopped, and nothing left."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image
from runtime.oci.example import example

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
ROOT = Path(__file__).parents[4]
LIMIT_S = 60

Ran = subprocess.CompletedProcess[bytes]
Command = Callable[..., Ran]


@pytest.fixture
def oci(tmp_path: Path, busybox: Image, group: str) -> Iterator[Command]:
    """Calls the runtime, on a root of its own; every container of it is gone at the end."""
    assert busybox.digest
    assert group

    def call(*words: str, stdin: bytes = b"") -> Ran:
        argv = [str(ROOT / "isoscope-oci"), "--root", str(tmp_path / "state"), *words]
        if "create" in words or "-d" in words:  # what it leaves would hold the pipes open
            with (tmp_path / "said").open("w+b") as said:
                done = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False,
                    timeout=LIMIT_S,
                )  # fmt: skip
                said.seek(0)
                return subprocess.CompletedProcess(argv, done.returncode, b"", said.read())
        return subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=LIMIT_S)

    yield call
    for name in call("list", "-q").stdout.decode().split():
        call("delete", "--force", name)
    assert not list((tmp_path / "state").glob("*"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def bundle(tmp_path: Path, tree: Path, group: str) -> Callable[..., str]:
    """Writes a bundle around a shell command; the changes are made to its document."""

    def write(script: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
        document: dict[str, Any] = example()
        document["process"] |= {"terminal": False, "args": ["sh", "-c", script]}
        document["root"]["path"] = str(tree)
        document["linux"]["cgroupsPath"] = f"{group}/{tmp_path.name}"
        change(document)
        (tmp_path / "config.json").write_text(json.dumps(document))
        return str(tmp_path)

    return write


def test_the_way_engines_go(oci: Command, bundle: Callable[..., str], tmp_path: Path) -> None:
    where = bundle("trap 'exit 3' TERM; while :; do sleep 1; done")
    pid_file = str(tmp_path / "pid")
    assert oci("create", "--bundle", where, "--pid-file", pid_file, "one").returncode == 0
    state = json.loads(oci("state", "one").stdout)
    assert (state["status"], str(state["pid"])) == ("created", Path(pid_file).read_text())
    again = oci("create", "--bundle", where, "one")
    assert again.returncode == 1
    assert b"already exists" in again.stderr
    assert oci("start", "one").returncode == 0
    assert oci("start", "one").returncode == 1
    ran = oci("exec", "--user", "5:6", "--env", "A=b", "--cwd", "/bin", "one",
              "sh", "-c", "id -u; id -g; echo $A; pwd; exit 9")  # fmt: skip
    assert (ran.returncode, ran.stdout) == (9, b"5\n6\nb\n/bin\n")
    assert b"executable file not found in $PATH" in oci("exec", "one", "nothing").stderr
    assert len(json.loads(oci("ps", "--format", "json", "one").stdout)) >= 1
    assert oci("delete", "one").returncode == 1
    assert oci("pause", "one").returncode == 0
    assert json.loads(oci("list", "--format", "json").stdout)[0]["status"] == "paused"
    assert oci("kill", "one", "9").returncode == 0  # delivered although it is frozen
    assert oci("delete", "--force", "one").returncode == 0
    assert oci("delete", "--force", "one").returncode == 0
    assert b"does not exist" in oci("state", "one").stderr


def test_limits_are_set_and_changed(oci: Command, bundle: Callable[..., str]) -> None:
    def limited(document: dict[str, Any]) -> None:
        document["linux"]["resources"] |= {"memory": {"limit": 32 << 20}, "pids": {"limit": 9}}

    where = bundle("sleep 1000", limited)
    assert oci("run", "-d", "--bundle", where, "two").returncode == 0
    one = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max"
    look = f"{one} || cat memory.max pids.max"
    assert oci("exec", "two", "sh", "-c", look).stdout.split()[-2:] == [b"33554432", b"9"]
    raised = json.dumps({"memory": {"limit": 64 << 20}}).encode()
    assert oci("update", "--resources", "-", "two", stdin=raised).returncode == 0
    stats = json.loads(oci("events", "--stats", "two").stdout)
    assert stats["data"]["memory"]["usage"]["limit"] == 64 << 20


ONLY_V2 = (
    "unshare", "-m", "sh", "-ec",
    'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"', "sh",
)  # fmt: skip
"""Runs a command where no cgroup v1 is mounted; on such a machine v2 has what v1 does not hold."""


def test_v2_keeps_device_rules_by_a_program(bundle: Callable[..., str], tmp_path: Path) -> None:
    def rights(document: dict[str, Any]) -> None:
        document["root"]["readonly"] = False
        names = [*document["process"]["capabilities"]["bounding"], "CAP_MKNOD"]
        document["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"),
                                                            names)  # fmt: skip
        rule = {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}
        document["linux"]["resources"]["devices"].append(rule)

    script = (
        "mknod /dev/mine c 1 11; mknod /dev/disk b 8 0; head -c 1 /dev/zero | wc -c;"
        " (: >/dev/mine) && echo wrote; (: </dev/mine) || echo unread; (: </dev/disk) || echo no"
    )
    where = bundle(script, rights)
    argv = [
        str(ROOT / "isoscope-oci"),
        "--root",
        str(tmp_path / "state"),
        "run",
        "--bundle",
        where,
    ]
    done = subprocess.run(
        [*ONLY_V2, *argv, "two"], capture_output=True, check=False, timeout=LIMIT_S
    )
    assert done.stdout.split() == [b"1", b"wrote", b"unread", b"no"], done.stderr


def test_a_limit_that_nothing_controls_is_refused(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    def limited(document: dict[str, Any]) -> None:
        document["linux"]["resources"] |= {"rdma": None, "memory": {"limit": 32 << 20}}

    where = bundle("true", limited)
    argv = [str(ROOT / "isoscope-oci"), "--root", str(tmp_path / "state")]
    bare = 'umount -R /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup; exec "$@"'
    words = [*ONLY_V2[:4], bare, "sh"]
    done = subprocess.run(
        [*words, *argv, "create", "--bundle", where, "three"],
        capture_output=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert b"linux.resources.memory: no cgroup hierarchy here controls memory" in done.stderr
    assert b"--no-pivot" in oci("run", "--no-pivot", "--bundle", where, "three").stderr
    assert oci("list", "-q").stdout == b""


def test_a_terminal_comes_over_the_console_socket(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    def terminal(document: dict[str, Any]) -> None:
        document["process"]["terminal"] = True

    where = bundle("tty; read x", terminal)
    path = f"/tmp/{tmp_path.name}.{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        try:
            listening.listen()
            done = oci("run", "-d", "--bundle", where, "--console-socket", path, "three")
            assert done.returncode == 0, done.stderr
            with listening.accept()[0] as line:
                _, (master,), _, _ = socket.recv_fds(line, 64, 1)
        finally:
            Path(path).unlink()
    assert os.read(master, 100).startswith(b"/dev/pts/0")
    os.close(master)


def test_hooks_run_in_order_with_the_state(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")

    def hooked(document: dict[str, Any]) -> None:
        document["hooks"] = {
            kind: [
                {"path": "/bin/sh", "args": ["sh", "-c", f"(sed 's/^/{kind} /'; echo) >>{log}"]}
            ]
            for kind in kinds
        }

    log = tmp_path / "log"
    assert oci("run", "--bundle", bundle("exit 4", hooked), "four").returncode == 4
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [kind for kind, _ in lines] == list(kinds)
    assert [json.loads(state)["status"] for _, state in lines][-1] == "stopped"
    assert {json.loads(state)["id"] for _, state in lines} == {"four"}


@pytest.mark.parametrize("hook", [["sh", "-c", "exit 1"], ["sh", "-c", "sleep 1000"]])
def test_a_failing_hook_leaves_nothing(
    oci: Command, bundle: Callable[..., str], hook: list[str]
) -> None:
    def hooked(document: dict[str, Any]) -> None:
        document["hooks"] = {"prestart": [{"path": "/bin/sh", "args": hook, "timeout": 1}]}

    done = oci("create", "--bundle", bundle("true", hooked), "five")
    assert done.returncode == 1
    assert b"prestart" in done.stderr
    assert oci("list", "-q").stdout == b""


def test_what_cannot_be_made_is_said_in_the_log(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    def wrong(document: dict[str, Any]) -> None:
        document["process"]["args"] = ["nothing"]

    log = tmp_path / "log.json"
    where = bundle("", wrong)
    done = oci("--log", str(log), "--log-format", "json", "create", "--bundle", where, "six")
    assert done.returncode == 1
    assert "executable file not found" in json.loads(log.read_text())["msg"]
    assert b"Traceback" not in done.stderr


def test_an_image_cannot_lead_out_nor_unmask(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    def mounted(document: dict[str, Any]) -> None:
        document["root"]["readonly"] = False
        document["mounts"] += [{"destination": "/out/new", "type": "tmpfs", "source": "tmpfs"}]

    where = bundle("grep -o ' /tmp/new ' /proc/mounts; cat /proc/keys", mounted)
    (tmp_path / "tree/out").symlink_to("/../../../../tmp")
    done = oci("run", "--bundle", where, "seven")
    assert done.stdout.split() == [b"/tmp/new"], done.stderr
    (tmp_path / "tree/proc").rmdir()
    (tmp_path / "tree/proc").symlink_to("/tmp")
    assert not Path("/tmp/new").exists()  # ".." of the root must not lead to the host
    refused = oci("run", "--bundle", where, "eight")
    assert refused.returncode == 1
    assert b"symbolic links" in refused.stderr


def test_two_deletions_and_a_killed_creation(
    oci: Command, bundle: Callable[..., str], tmp_path: Path
) -> None:
    def slow(document: dict[str, Any]) -> None:
        words = ["sh", "-c", f"exec >{fifo}; echo; exec sleep 1000"]
        document["hooks"] = {"prestart": [{"path": "/bin/sh", "args": words, "timeout": 60}]}

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    argv = [str(ROOT / "isoscope-oci"), "--root", str(tmp_path / "state")]
    where = bundle("sleep 1000", slow)
    create = [*argv, "create", "--bundle", where, "nine"]
    with subprocess.Popen(create) as one, fifo.open("rb") as heard:
        heard.readline()  # it is in its hook
        assert json.loads(oci("state", "nine").stdout)["status"] == "creating"
        one.send_signal(signal.SIGKILL)
        assert heard.read() == b""  # the end: the hook, which writes there, has died with it
    assert json.loads(oci("state", "nine").stdout)["status"] == "stopped"
    both = [subprocess.Popen([*argv, "delete", "--force", "nine"]) for _ in range(2)]
    assert [each.wait(LIMIT_S) for each in both] == [0, 0]


def test_usage_is_one_sentence(oci: Command) -> None:
    for words in (
        ["nothing"],
        ["create"],
        ["state", "../x"],
        ["--systemd-cgroup", "list"],
        ["run", "--x", "y"],
    ):
        done = oci(*words)
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1, sys.stderr.write(done.stderr.decode())
