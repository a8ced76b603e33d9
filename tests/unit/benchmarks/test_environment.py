import getpass
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from benchmarks.environment import (
    cgroup_layout,
    environment,
    load,
    versions,
    virtual_machines,
)
from benchmarks.meters import allocated_bytes, descendants, memory, rollup

V1 = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V2 = "34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("mounts", "layout"),
    [([V1], "v1"), ([V2], "v2"), ([V1, V2], "hybrid"), ([], "none")],
)
def test_the_layout_of_cgroups(mounts: list[str], layout: str) -> None:
    assert cgroup_layout("\n".join(mounts)) == layout


def test_nothing_names_the_machine_or_its_owner() -> None:
    text = json.dumps([environment(), versions()])
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert str(Path.home()) not in text
    assert f'"{getpass.getuser()}"' not in text


def test_virtual_machines_are_counted_by_the_names_of_processes(tmp_path: Path) -> None:
    names = ["qemu-system-x86", "sh", "firecracker", "not-qemu-system"]
    for pid, name in enumerate(names, start=10):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "99").mkdir()  # gone between listing and reading
    assert virtual_machines(tmp_path) == 2


def test_what_else_happens_is_counted_since_the_boot() -> None:
    before, after = load(), load()
    assert before.keys() == after.keys()
    for name in ("stolen_ticks", "swapped_pages", "throttled"):
        assert before[name] is None or 0 <= before[name] <= after[name]
    assert before["virtual_machines"] >= 0


def test_the_memory_of_a_process_is_ordered_by_definition() -> None:
    own = rollup(os.getpid())
    assert own is not None
    assert 0 < own.uss_bytes <= own.pss_bytes <= own.rss_bytes
    assert memory([os.getpid()])["pss"].value_bytes > 0
    assert rollup(2**22 + 1) is None


def test_children_and_their_children_are_found() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.fork()
        os.write(write, b"x")
        signal.pause()
        os._exit(0)
    os.read(read, 1)
    os.read(read, 1)
    ours = descendants(os.getpid())
    (grandchild,) = descendants(pid)
    assert {pid, grandchild} <= set(ours)
    for each in (grandchild, pid):
        os.kill(each, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_allocated_bytes_count_links_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    once = allocated_bytes(tmp_path)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert allocated_bytes(tmp_path) == once
    assert once >= 100_000
