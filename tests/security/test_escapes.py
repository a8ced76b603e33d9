"""What a container must not be able to do, tried from inside; each attempt has to fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

from benchmarks.backend import ExecResult, InstanceSpec
from benchmarks.launcher import InstanceFailed, RemoteBackend, worker
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")


@pytest.fixture
def backend(busybox: Image) -> Iterator[RemoteBackend]:
    before = leftovers.seen()
    with worker("container") as backend:
        backend.prepare(busybox.digest)
        yield backend
    assert not leftovers.settled(before)


def attempt(backend: RemoteBackend, image: Image, script: str) -> ExecResult:
    spec = InstanceSpec(
        image=image.digest, argv=("sh", "-c", script), memory_bytes=64 << 20, pids=64
    )
    with backend.launch(spec) as instance:
        return instance.wait(timeout_s=30)


@pytest.mark.parametrize(
    "script",
    [
        "mknod /dev/sda b 8 0",
        "mknod /tmp/null c 1 3",
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc/keys",
        "umount -l /sys",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sys/kernel/hostname",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/irq/default_smp_affinity",
        "echo x > /sys/kernel/uevent_helper",
        "echo 1 > /sys/fs/cgroup/memory/memory.limit_in_bytes",
        "mkdir /sys/fs/cgroup/memory/more",
        "unshare -m true",
        "unshare -U true",
        "chroot / sh -c 'mount -t proc proc /tmp'",
        "hostname other",
        "adjtimex -o 0",
        "dmesg -c",
        "swapoff -a && swapon /dev/sda",
        "ip link add br0 type bridge",
        "nice -n -10 true",
        "insmod /none.ko || rmmod x",
        "reboot -f",
        "cat /proc/kcore | head -c 1 | grep .",
        "cat /proc/keys | grep .",
        "ls /sys/firmware | grep .",
        "cat /dev/mem",
        "pivot_root / /tmp",
    ],
)
def test_it_fails(backend: RemoteBackend, busybox: Image, script: str) -> None:
    assert attempt(backend, busybox, script).exit_status != 0


def test_it_sees_only_itself(backend: RemoteBackend, busybox: Image) -> None:
    script = (
        "ls -d /proc/[0-9]* | wc -l; ls /proc/self/fd | wc -l; ls /sys/class/net; ls /proc/1/root"
    )
    lines = attempt(backend, busybox, script).stdout.decode().split()
    processes, descriptors, network, *root = lines
    assert int(processes) <= 3
    assert int(descriptors) <= 4  # 0, 1, 2 and the directory being listed
    assert network == "lo"
    assert "busybox" not in root


def test_no_descriptor_of_ours_leads_out(backend: RemoteBackend, busybox: Image) -> None:
    for number in range(3, 12):
        spec = InstanceSpec(image=busybox.digest, argv=("ls",), cwd=f"/proc/self/fd/{number}")
        with pytest.raises(Exception, match="step"), backend.launch(spec) as instance:
            instance.wait(timeout_s=30)


def test_a_fork_bomb_stays_inside(backend: RemoteBackend, busybox: Image) -> None:
    script = "i=0; while [ $i -lt 200 ]; do sleep 5 & i=$((i+1)); done; wait"
    result = attempt(backend, busybox, script)
    assert b"can't fork" in result.stderr


def test_what_it_writes_does_not_reach_the_image(backend: RemoteBackend, busybox: Image) -> None:
    assert attempt(backend, busybox, "echo bad > /bin/busybox.new; rm /bin/ls").exit_status == 0
    assert attempt(backend, busybox, "test ! -e /bin/busybox.new && ls /").exit_status == 0


def test_a_link_for_a_mount_point_is_refused(
    busybox: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.container.container import Options, container_spec, process_spec
    from runtime.container.facts import host_facts
    from runtime.container.launch.process import start
    from runtime.container.plan import plan
    from runtime.errors import StepError

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
def test_the_launching_binary_is_never_executed_inside(
    backend: RemoteBackend, busybox: Image, script: str
) -> None:
    """CVE-2019-5736: /proc/self/exe is our stub in a sealed file, or a program of the image."""
    direct = InstanceSpec(image=busybox.digest, argv=("/proc/self/exe", "-c", "print(1)"))
    with backend.launch(direct) as instance:
        assert b"1" not in instance.wait(timeout_s=30).stdout
    result = attempt(backend, busybox, f"{script}; readlink /proc/self/exe")
    assert b"python" not in result.stdout + result.stderr


def test_nobody_else_can_reach_what_a_container_wrote(
    backend: RemoteBackend, busybox: Image
) -> None:
    from runtime.container.state import instances_dir

    spec = InstanceSpec(
        image=busybox.digest, argv=("sh", "-c", "chmod 4755 /bin; echo on; sleep 9")
    )
    with backend.launch(spec) as instance:
        assert instance.until_output(timeout_s=30)
        assert instances_dir().stat().st_mode & 0o777 == 0o700
        modes = {p.stat().st_mode & 0o777 for p in instances_dir().iterdir() if p.is_dir()}
    assert modes == {0o700}


def test_a_deep_tree_is_removed_too(backend: RemoteBackend, busybox: Image) -> None:
    script = "i=0; while [ $i -lt 1500 ]; do mkdir d && cd d; i=$((i+1)); done; echo deep"
    assert b"deep" in attempt(backend, busybox, f"cd /tmp; {script}").stdout


def test_a_flood_of_output_is_ended(backend: RemoteBackend, busybox: Image) -> None:
    with pytest.raises(InstanceFailed, match="64 MiB of output"):
        attempt(backend, busybox, "cat /dev/zero")
