"""The options by which a container is locked in less, or more: what they do, what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import isoscope
from runtime import syscalls
from runtime.container.device_program import NOTHING, device_program
from runtime.container.devices import Device, rules
from runtime.image import Image

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 60.0
FUSE = Path("/dev/fuse")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root"),
    pytest.mark.usefixtures("busybox"),
]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "isoscope.py"), "run", *words],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip


def shown(options: list[str], script: str) -> list[str]:
    done = run(*options, "busybox", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_privileged_is_root_of_this_machine() -> None:
    script = (
        "grep -e CapEff -e NoNewPrivs -e Seccomp: /proc/self/status;"
        " mount -t tmpfs x /tmp && echo mounted; test -w /proc/sys/kernel/hostname && echo steers"
    )
    bounding = next(
        line.split()[1]
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapBnd:")
    )
    assert shown(["--privileged"], script) == [
        "CapEff:", bounding, "NoNewPrivs:", "0", "Seccomp:", "0", "mounted", "steers",
    ]  # fmt: skip


def test_capabilities_are_added_and_dropped() -> None:
    script = "grep CapEff /proc/self/status"
    assert shown(["--cap-drop", "ALL", "--cap-add", "CAP_CHOWN"], script)[1] == f"{1:016x}"
    mounting = f"mount -t tmpfs x /tmp && echo mounted; {script}"
    assert shown(["--cap-add", "SYS_ADMIN"], mounting)[0] == "mounted"


def test_a_list_of_devices_is_all_that_can_be_made() -> None:
    script = (
        "mknod /dev/a c 1 7; head -c 1 /dev/a | wc -c; mknod /dev/b b 8 0 || echo refused;"
        " mknod /tmp/c c 1 7; head -c 1 /tmp/c || echo dead"
    )
    assert shown(["--cap-add", "MKNOD"], script) == ["1", "refused", "dead"]


@pytest.mark.skipif(not FUSE.exists(), reason="no /dev/fuse here to be given")
def test_a_device_is_given_as_far_as_asked() -> None:
    look = "stat -c '%t:%T' /dev/deep/fuse; exec 3</dev/deep/fuse && echo read"
    script = f"{look}; echo x > /dev/deep/fuse"
    done = run("--device", f"{FUSE}:/dev/deep/fuse:r", "busybox", "sh", "-c", script)
    assert done.stdout.split() == ["a:e5", "read"]
    assert "Operation not permitted" in done.stderr


def test_a_read_only_root_keeps_what_is_mounted_on_it_writable() -> None:
    script = "echo x > /file || echo locked; echo y > /tmp/file; cat /tmp/file; echo z > /dev/null"
    assert shown(["--read-only", "--tmpfs", "/tmp", "-w", "/deep/down"], script) == ["locked", "y"]


def test_limits_of_processes() -> None:
    words = ["--ulimit", "nofile=64:128", "--ulimit", "core=0", "-u", "7"]
    assert shown(words, "ulimit -n; ulimit -Hn; ulimit -c") == ["64", "128", "0"]


def test_a_profile_replaces_the_filter(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    refused = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    killed = {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}
    profile.write_text(
        json.dumps(
            {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [
                    refused,
                    {"name": "kill", "action": "SCMP_ACT_ERRNO", "args": [killed]},
                ],
            }
        )
    )
    script = "mkdir /x; kill -9 $$; kill -0 $$ && echo lives; grep Seccomp: /proc/self/status"
    for more in ([], ["--privileged"]):
        done = run("--security-opt", f"seccomp={profile}", *more, "busybox", "sh", "-c", script)
        assert done.stdout.split() == ["lives", "Seccomp:", "2"]
        assert "No space left" in done.stderr
    words = ["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges"]
    assert shown(words, "grep Seccomp: /proc/self/status") == ["Seccomp:", "0"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--security-opt", "seccomp=/no-such"], 125, "cannot read the profile"),
        (["--security-opt", "seccomp=/dev/zero"], 125, "is no file"),
        (["--security-opt", f"seccomp={__file__}"], 125, "not JSON"),
        (["--security-opt", "label=disable"], 2, "no protection that can be chosen"),
        (["--cap-add", "flying"], 2, "no capability"),
        (["--cap-add", "all", "--cap-drop", "all"], 125, "both added and dropped"),
        (["--ulimit", "files=1"], 2, "no limit of a resource"),
        (["--device", "/etc/passwd:/dev/x"], 125, "no device file"),
        (["--on", "host", "--privileged"], 2, "not for this backend"),
        (["--on", "vm", "--device", "/dev/null:/dev/x"], 2, "not for this backend"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(
    words: list[str], status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: object
    try:
        ended = isoscope.main(["run", *words, "busybox", "echo", "started"])
    except SystemExit as error:
        ended = error.code
    said = capsys.readouterr()
    assert (ended, said.out) == (status, "")
    (line,) = said.err.splitlines()
    assert says in line


def test_the_kernel_takes_and_obeys_the_program_that_lists_devices(
    busybox: Image, tmp_path: Path
) -> None:
    """On v2 a program decides: tried here in a group of v2, wherever that is mounted."""
    assert busybox.digest
    group = _new_group()
    zero = Device(path="/dev/x", kind="c", major=1, minor=5, access="r")
    own = tuple(rule for rule in rules((zero,)) if (rule.major, rule.minor) != (1, 7))
    try:
        directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        program = syscalls.bpf_prog_load(device_program((NOTHING, *own)))
        syscalls.bpf_prog_attach(directory, program)
        os.close(program)
        os.close(directory)
        script = (
            f"echo 0 > {group}/cgroup.procs; head -c 1 /dev/zero | wc -c;"
            f" head -c 1 /dev/full || echo refused; mknod {tmp_path}/n c 1 7 || echo refused;"
            f" mknod {tmp_path}/z c 1 5 && echo made; : > /dev/null && echo null"
        )
        done = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=True, timeout=LIMIT_S
        )
        assert done.stdout.split() == ["1", "refused", "refused", "made", "null"]
    finally:
        group.rmdir()


def _new_group() -> Path:
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    places = [place for _, place, kind, *_ in lines if kind == "cgroup2"]
    if not places:
        pytest.skip("no cgroup v2 is mounted here")
    group = Path(places[0], f"isoscope-test-{os.getpid()}")
    group.mkdir()
    return group
