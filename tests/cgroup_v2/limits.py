"""Containers on cgroup v2 alone: run in the guest that ``run.py`` boots, by both executors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.backend import InstanceSpec
from benchmarks.launcher import worker
from runtime import syscalls
from runtime.container.cgroups import kill_members, members, remove_tree
from runtime.container.container import Container, Options, container
from runtime.container.devices import Device
from runtime.container.facts import host_facts
from runtime.container.kept.kept import Kept
from runtime.container.launch.process import Executor
from runtime.container.protection import Protection
from runtime.container.spec import Limits
from runtime.container.state import instances_dir, sweep
from runtime.errors import RuntimeFault
from runtime.image import Image, Store, cache_dir, state_dir, unpacked
from runtime.oci.example import example

TOP = Path("/sys/fs/cgroup")
ROOT = Path(__file__).parent.parent.parent
USER = 1000
LIMIT_S = 120.0
MIB = 1 << 20


@pytest.fixture(scope="session", autouse=True)
def _controllers(home: Path) -> None:
    """All are bound to v2; the compiled executor, which needs a compiler, comes from outside."""
    assert home == state_dir()
    assert {"cpu", "io", "memory", "pids"} <= set((TOP / "cgroup.controllers").read_text().split())
    for program in Path(os.environ["ISOSCOPE_PROGRAMS"]).iterdir():
        shutil.copy(program, cache_dir("programs"))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    assert not list(TOP.glob("isoscope-*"))
    assert not instances_dir().exists() or not list(instances_dir().iterdir())


@pytest.fixture(params=list(Executor), ids=lambda executor: executor.value)
def executor(request: pytest.FixtureRequest) -> Executor:
    chosen: Executor = request.param
    return chosen


@contextmanager
def idle(image: Image, executor: Executor | None = None, **options: object) -> Iterator[Container]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        chosen = Options(executor=executor, **options)  # type: ignore[arg-type]
        with container(image, (), chosen, stdio=(null, null, null)) as running:
            yield running
    finally:
        os.close(null)


def shell(running: Container, script: str) -> tuple[int, str]:
    done = running.run(["sh", "-c", script], timeout_s=LIMIT_S)
    return done.exit_status, (done.stdout + done.stderr).decode()


def events(group: Path, name: str) -> dict[str, int]:
    pairs = (line.split() for line in (group / name).read_text().splitlines())
    return {key: int(value) for key, value in pairs}


def test_the_layout_is_seen_as_it_is() -> None:
    facts = host_facts()
    (hierarchy,) = facts.hierarchies
    assert (hierarchy.version, hierarchy.mount_point) == (2, str(TOP))
    assert facts.devices is None


def test_limits_are_written_where_the_kernel_reads_them(
    busybox: Image, executor: Executor
) -> None:
    limits = Limits(memory_bytes=64 * MIB, cpus=0.5, pids=20)
    with idle(busybox, executor, limits=limits) as running:
        (group,) = running.groups
        found = {
            name: (group / name).read_text().strip()
            for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
            if (group / name).exists()
        }
        inside = shell(running, "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max")
        assert shell(running, "echo max > /sys/fs/cgroup/memory.max")[0] != 0
        assert shell(running, "mkdir /sys/fs/cgroup/more")[0] != 0
    assert found["memory.max"] == str(64 * MIB)
    assert found.get("memory.swap.max", "0") == "0"
    assert (found["cpu.max"], found["pids.max"]) == ("50000 100000", "20")
    assert inside == (0, f"0::/\n{64 * MIB}\n")


def test_a_kept_container_is_measured_limited_anew_and_started_again(busybox: Image) -> None:
    made, _ = Kept.run(busybox, ("sleep", "1000"), Options(limits=Limits(memory_bytes=64 * MIB)))
    with made as kept:
        seen = kept.stats()
        assert (seen.memory_limit_bytes, seen.processes) == (64 * MIB, 1)
        assert seen.memory_bytes is not None
        assert 0 < seen.memory_bytes < 64 * MIB
        assert kept.exec(("true",), timeout_s=LIMIT_S).exit_status == 0
        assert (kept.stats().cpu_ns or 0) > (seen.cpu_ns or 0) > 0
        kept.update(Limits(memory_bytes=32 * MIB, pids=9))
        assert kept.stats().memory_limit_bytes == 32 * MIB
        kept.stop(timeout_s=0)
        assert not (TOP / f"isoscope-{kept.id}").exists()
        kept.start()
        assert kept.stats().memory_limit_bytes == 32 * MIB
        assert (TOP / f"isoscope-{kept.id}" / "pids.max").read_text() == "9\n"


def test_a_memory_bomb_is_killed_and_counted(busybox: Image, executor: Executor) -> None:
    with idle(busybox, executor, limits=Limits(memory_bytes=24 * MIB)) as running:
        (group,) = running.groups
        status, _ = shell(running, "head -c 100m /dev/zero | tail -c 90m | wc -c; exit ${?}")
        killed = events(group, "memory.events")["oom_kill"]
        peak = int((group / "memory.peak").read_text()) if (group / "memory.peak").exists() else 0
        assert shell(running, "echo lives") == (0, "lives\n")
    assert status in {0, 137}
    assert killed >= 1
    assert peak <= 24 * MIB


def test_a_fork_bomb_is_refused_and_counted(busybox: Image, executor: Executor) -> None:
    with idle(busybox, executor, limits=Limits(pids=12)) as running:
        (group,) = running.groups
        _, said = shell(running, "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i+1)); done")
        assert "can't fork" in said
        assert events(group, "pids.events")["max"] >= 1
        assert int((group / "pids.current").read_text()) <= 12


def test_cpu_time_is_bounded(busybox: Image, executor: Executor) -> None:
    with idle(busybox, executor, limits=Limits(cpus=0.2)) as running:
        (group,) = running.groups
        before = events(group, "cpu.stat")
        shell(running, "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done")
        after = events(group, "cpu.stat")
    assert after["nr_throttled"] > before["nr_throttled"]
    assert after["throttled_usec"] > before["throttled_usec"]


def test_what_is_entered_later_is_counted_too(busybox: Image, executor: Executor) -> None:
    with idle(busybox, executor) as running:
        (group,) = running.groups
        (number,) = (group / "cgroup.procs").read_text().split()
        assert int(number) == running.pid
        _, shown = shell(running, "cat /proc/self/cgroup")
    assert shown == "0::/\n"


def test_one_write_kills_all_of_it(busybox: Image, executor: Executor) -> None:
    with idle(busybox, executor) as running:
        (group,) = running.groups
        shell(running, "for i in 1 2 3 4 5; do sleep 600 & done")
        assert kill_members(group)
        assert running.process.poll(LIMIT_S) == 128 + signal.SIGKILL
        assert not kill_members(group)


def test_what_forks_without_end_is_killed_as_a_whole() -> None:
    """A group of plain processes, none of which is an init that takes the others along."""
    group = TOP / "isoscope-bomb"
    group.mkdir()
    script = f"echo 0 > {group}/cgroup.procs; f() {{ sleep 0.01; f & f & wait; }}; f"
    (TOP / "cgroup.subtree_control").write_text("+pids")
    (group / "pids.max").write_text("60")
    with subprocess.Popen(["sh", "-c", script], stderr=subprocess.DEVNULL) as bomb:
        while len(list(members(group))) < 20 and bomb.poll() is None:
            time.sleep(0.01)
        assert kill_members(group)
        assert bomb.wait(LIMIT_S) == -signal.SIGKILL
    deadline = time.monotonic() + LIMIT_S
    while events(group, "cgroup.events")["populated"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(members(group))
    remove_tree(group)


def test_a_frozen_container_is_killed_all_the_same(busybox: Image) -> None:
    with idle(busybox) as running:
        (group,) = running.groups
        (group / "cgroup.freeze").write_text("1")
    assert running.process.poll() == 128 + signal.SIGKILL


def test_a_group_that_holds_processes_is_said(busybox: Image) -> None:
    """As in a container of others, whose root group is where its processes are."""
    place = TOP / "isoscope-crowded"
    place.mkdir()
    child = os.fork()
    if child == 0:
        try:
            _start_crowded(busybox, place)
        except RuntimeFault as error:
            os._exit(0 if "another group" in str(error) else 2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    place.rmdir()
    assert os.waitstatus_to_exitcode(status) == 0


def _start_crowded(image: Image, place: Path) -> None:
    (place / "cgroup.procs").write_text("0")
    syscalls.unshare(syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    syscalls.umount2(str(TOP), syscalls.MNT_DETACH)
    syscalls.mount("none", str(TOP), "cgroup2", 0, "")
    with idle(image, limits=Limits(pids=10)):
        pass


def test_controllers_are_handed_down_to_groups_within(busybox: Image) -> None:
    limits = Limits(memory_bytes=64 * MIB, pids=20)
    with idle(busybox, within="w-0123456789", limits=limits) as running:
        (group,) = running.groups
        assert group.parent == TOP / "isoscope-w-0123456789"
        assert (group / "pids.max").read_text() == "20\n"
        handed = (group.parent / "cgroup.subtree_control").read_text().split()
    group.parent.rmdir()
    assert {"cpu", "memory", "pids"} <= set(handed)


def test_input_and_output_are_counted(busybox: Image) -> None:
    with idle(busybox) as running:
        (group,) = running.groups
        shell(running, "head -c 4m /dev/urandom > /file; sync")
        assert "io" in (group / "cgroup.controllers").read_text().split()
        assert "wbytes=" in (group / "io.stat").read_text()


def test_what_a_dead_owner_left_is_swept(busybox: Image) -> None:
    child = os.fork()
    if child == 0:
        with idle(busybox, executor=Executor.PYTHON):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert sweep()


def test_devices_that_were_not_given_are_refused(busybox: Image, executor: Executor) -> None:
    full = Device(path="/dev/mine", kind="c", major=1, minor=5, access="r")
    maker = Protection(
        capabilities=Protection().capabilities | {"mknod"},
        devices=(full,),
    )
    with idle(busybox, executor, protection=maker) as running:
        assert shell(running, "head -c 3 /dev/mine | wc -c") == (0, "3\n")
        assert shell(running, "mknod /dev/other c 1 7 && echo made") == (0, "made\n")
        status, said = shell(running, "mknod /dev/disk b 254 0")
        assert (status, "not permitted" in said) == (1, True)
        status, said = shell(running, "mknod /dev/port c 1 4")
        assert (status, "not permitted" in said) == (1, True)
        assert shell(running, "echo x > /dev/null; head -c 1 /dev/urandom | wc -c") == (0, "1\n")


def test_a_device_for_reading_cannot_be_written(busybox: Image, executor: Executor) -> None:
    fuse = Device(path="/dev/reading", kind="c", major=1, minor=11, access="r")
    with idle(busybox, executor, protection=Protection(devices=(fuse,))) as running:
        status, said = shell(running, "echo x > /dev/reading")
        assert (status, "not permitted" in said) == (1, True)


def test_without_a_list_the_same_file_is_made(busybox: Image) -> None:
    with idle(busybox, protection=Protection(is_privileged=True)) as running:
        pass
    every = Protection(is_privileged=True, capabilities=frozenset({"mknod", "sys_admin", "chown"}))
    with idle(busybox, protection=every) as running:
        assert shell(running, "mknod /tmp/disk b 254 0; head -c 1 /tmp/disk | wc -c") == (0, "1\n")
        assert shell(running, "mkdir /sys/fs/cgroup/more; rmdir /sys/fs/cgroup/more")[0] == 0


@pytest.fixture
def delegated() -> Iterator[Path]:
    """A group of the user's own, as systemd gives one: nothing in it but a group for processes."""
    group = TOP / "delegated"
    (TOP / "cgroup.subtree_control").write_text("+cpu +memory +pids +io")
    (group / "session").mkdir(parents=True)
    for path in (group, group / "session"):
        for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(path / name, USER, USER)
    yield group
    remove_tree(group)


def test_an_ordinary_user_limits_what_was_given_to_him(delegated: Path, tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(0o755)
    home = tmp_path / "home"
    programs = home / "programs"
    programs.mkdir(parents=True)
    for program in cache_dir("programs").glob("executor-*"):
        shutil.copy(program, programs)
    subprocess.run(["chown", "-R", str(USER), str(home)], check=True)

    def isoscope(*words: str) -> subprocess.CompletedProcess[str]:
        joining = f'echo $$ > {delegated}/session/cgroup.procs; exec "$@"'
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        command = [*user, sys.executable, str(ROOT / "isoscope.py"), *words]
        return subprocess.run(
            ["sh", "-c", joining, "sh", *command], env=os.environ | {"ISOSCOPE_HOME": str(home)},
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip

    made = isoscope("image", "bootstrap", "busybox")
    assert made.returncode == 0, made.stderr
    script = "cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; cat /proc/self/cgroup"
    limits = ("-m", "64m", "--cpus", "0.5", "--pids-limit", "20")
    done = isoscope("run", *limits, "busybox", "sh", "-c", script)
    assert done.stdout.split("\n") == [str(64 * MIB), "50000 100000", "20", "0::/", ""], (
        done.stderr
    )
    bomb = "head -c 100m /dev/zero | tail -c 90m | wc -c"
    assert "94371840" not in isoscope("run", "-m", "24m", "busybox", "sh", "-c", bomb).stdout
    assert not list(delegated.glob("isoscope-*"))


def test_the_harness_measures_and_limits(busybox: Image) -> None:
    """Its worker is in a group of its own, in which engines and instances are made."""
    limited = InstanceSpec(
        image=busybox.digest, argv=("cat", "/sys/fs/cgroup/memory.max"),
        memory_bytes=64 * MIB, cpus=0.5, pids=20,
    )  # fmt: skip
    idle_one = InstanceSpec(image=busybox.digest, memory_bytes=64 * MIB)
    with worker("container") as backend:
        assert backend.probe() is None
        backend.prepare(busybox.digest)
        with backend.launch(limited) as instance:
            assert instance.wait(timeout_s=LIMIT_S).stdout == f"{64 * MIB}\n".encode()
        with backend.launch(idle_one) as instance:
            assert instance.run(["true"], timeout_s=LIMIT_S).exit_status == 0
            readings = instance.usage().readings
            assert readings["cgroup"].value_bytes > 0


def test_isoscope_oci_writes_what_a_bundle_asks_for(busybox: Image, tmp_path: Path) -> None:
    tree = unpacked(Store(), busybox, purpose="container").path
    shutil.copytree(tree, tmp_path / "rootfs", symlinks=True)
    document: dict[str, Any] = example()
    document["process"] |= {"terminal": False, "args": ["sleep", "1000"]}
    document["linux"]["cgroupsPath"] = "/isoscope-bundle/one"
    document["linux"]["resources"] |= {
        "memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "pids": {"limit": 9},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 2},
        "unified": {"memory.high": str(32 * MIB)},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(document))
    argv = [str(ROOT / "isoscope-oci"), "--root", str(tmp_path / "state")]

    def call(*words: str) -> None:
        null = subprocess.DEVNULL
        subprocess.run([*argv, *words], stdin=null, stdout=null, check=True, timeout=LIMIT_S)

    group = TOP / "isoscope-bundle" / "one"
    call("run", "-d", "--bundle", str(tmp_path), "one")
    try:
        wanted = {"memory.max": str(64 * MIB), "memory.high": str(32 * MIB), "pids.max": "9",
                  "cpu.max": "50000 100000", "cpu.weight": "1"}  # fmt: skip
        assert {name: (group / name).read_text().strip() for name in wanted} == wanted
        call("pause", "one")
        assert "frozen 1" in (group / "cgroup.events").read_text()
        call("resume", "one")
        call("update", "--memory", str(48 * MIB), "one")
        assert (group / "memory.max").read_text().strip() == str(48 * MIB)
    finally:
        call("delete", "--force", "one")
    assert not group.exists()
    group.parent.rmdir()
