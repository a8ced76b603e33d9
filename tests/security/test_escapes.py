"""What a container must not be able to do, tried from inside with a shell."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from attempts import Run

from runtime.container.container import Options, container_spec, process_spec
from runtime.container.facts import host_facts
from runtime.container.launch.process import CommandNotRunnable, start
from runtime.container.launch.streams import MOST_KEPT_BYTES
from runtime.container.plan import plan
from runtime.container.spec import Limits
from runtime.container.state import instances_dir
from runtime.errors import RuntimeFault, StepError
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")


@pytest.mark.parametrize(
    "script",
    [
        "umount /proc/keys",
        "echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "mkdir /sys/fs/cgroup/more /sys/fs/cgroup/memory/more",
        "chroot / sh -c 'mount -t proc proc /tmp'",
        "ip link add br0 type bridge",
        "swapoff -a && swapon /dev/sda",
    ],
)
def test_it_fails(run: Run, script: str) -> None:
    assert run(["sh", "-c", script]).exit_status != 0


def test_it_sees_only_itself(run: Run) -> None:
    script = (
        "ls -d /proc/[0-9]* | wc -l; ls /proc/self/fd | wc -l; ls /sys/class/net; ls /proc/1/root"
    )
    lines = run(["sh", "-c", script]).stdout.decode().split()
    processes, descriptors, network, *root = lines
    assert int(processes) <= 3
    assert int(descriptors) <= 4  # 0, 1, 2 and the directory being listed
    assert network == "lo"
    assert "busybox" not in root


@pytest.mark.parametrize("number", [*range(3, 12), 100])
def test_no_descriptor_of_ours_leads_out(run: Run, number: int) -> None:
    with pytest.raises(RuntimeFault, match="step"):
        run(["ls"], cwd=f"/proc/self/fd/{number}")


def test_a_fork_bomb_stays_inside(run: Run) -> None:
    script = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; wait"
    done = run(["sh", "-c", script], limits=Limits(pids=16))
    assert b"can't fork" in done.stderr


def test_what_it_writes_does_not_reach_the_image(run: Run) -> None:
    bad = "echo bad > /bin/busybox.new; rm /bin/ls"
    assert run(["sh", "-c", bad]).exit_status == 0
    assert run(["sh", "-c", "test ! -e /bin/busybox.new && ls /"]).exit_status == 0


def test_a_link_for_a_mount_point_is_refused(
    busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "proc").symlink_to("etc")
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    process = process_spec(busybox, ("sh",), Options(user="0:0"), tree)
    spec = container_spec(process, Options(), lower=(tree,), name="linked")
    for name in ("upper", "work", "root"):
        (Path(spec.directory) / name).mkdir(parents=True)
    made = plan(spec, host_facts())
    bare = [step for step in made.inside if step.reason[:13] != "be counted by"]
    with pytest.raises(StepError, match="openat2"):
        start(
            type(made)(clone_flags=made.clone_flags, inside=tuple(bare)),
            stdin=0,
            stdout=1,
            stderr=2,
        )


@pytest.mark.parametrize(
    "script", ["/proc/self/exe", "printf '#!/proc/self/exe\\n' > /x; chmod 755 /x; /x"]
)
def test_the_launching_binary_is_never_executed_inside(run: Run, script: str) -> None:
    """CVE-2019-5736: /proc/self/exe is our stub in a sealed file, or a program of the image."""
    with suppress(CommandNotRunnable):  # refused altogether
        assert b"1" not in run(["/proc/self/exe", "-c", "print(1)"]).stdout
    done = run(["sh", "-c", f"{script}; readlink /proc/self/exe"])
    assert b"python" not in done.stdout + done.stderr


def test_nobody_else_can_reach_what_a_container_wrote(run: Run) -> None:
    run(["sh", "-c", "chmod 4755 /bin"], seen=(modes := set[int]()))
    assert instances_dir().stat().st_mode & 0o777 == 0o700
    assert modes == {0o700}


def test_a_deep_tree_is_removed_too(run: Run) -> None:
    deep = "/".join(["d"] * 1500)
    script = f"cd /tmp; mkdir -p {deep}; cd {deep}; mkdir -p {deep}; echo deep"
    assert b"deep" in run(["sh", "-c", script]).stdout


def test_a_flood_of_output_is_ended(run: Run) -> None:
    with pytest.raises(RuntimeFault, match=f"{MOST_KEPT_BYTES >> 20} MiB of output"):
        run(["cat", "/dev/zero"])
