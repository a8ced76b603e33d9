import pytest

from runtime.container.cgroups import USED, Hierarchy, parse_hierarchies, place, plan_groups
from runtime.container.spec import Limits

V1_OWN = "4:memory:/parent/me\n3:cpu,cpuacct:/\n2:pids:/\n1:name=systemd:/x\n0::/\n"
V1_MOUNTS = """\
24 1 8:1 / / rw - ext4 /dev/a rw
30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 24 0:26 / /mnt/again rw - cgroup cgroup rw,memory
"""
V2_MOUNTS = "34 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def test_hybrid_uses_the_v1_controllers_once() -> None:
    found = parse_hierarchies(own=V1_OWN, mountinfo=V1_MOUNTS, enabled=lambda _: ("hugetlb",))
    assert [(h.version, h.controllers, h.mount_point, h.own_path) for h in found] == [
        (1, ("memory",), "/sys/fs/cgroup/memory", "/parent/me"),
        (1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/"),
        (1, ("pids",), "/sys/fs/cgroup/pids", "/"),
    ]


def test_the_list_of_devices_is_found_apart() -> None:
    mounts = f"{V1_MOUNTS}36 24 0:31 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
    own = f"5:devices:/parent\n{V1_OWN}"
    for used, expected in ((("devices",), [("devices",)]), (USED, [("memory",)])):
        found = parse_hierarchies(own=own, mountinfo=mounts, enabled=lambda _: (), used=used)
        assert [h.controllers for h in found][:1] == expected


def test_v2_counts_when_it_controls_something() -> None:
    (found,) = parse_hierarchies(
        own="0::/user.slice\n", mountinfo=V2_MOUNTS, enabled=lambda _: ("cpu", "memory")
    )
    assert (found.version, found.controllers, found.own_path) == (
        2, ("cpu", "memory"), "/user.slice",
    )  # fmt: skip
    assert not parse_hierarchies(own="0::/\n", mountinfo=V2_MOUNTS, enabled=lambda _: ())


def test_groups_stand_beside_our_own_on_v1_and_below_the_root_on_v2() -> None:
    one = Hierarchy(version=1, controllers=("memory",), mount_point="/m", own_path="/a/b")
    two = Hierarchy(version=2, controllers=("memory",), mount_point="/u", own_path="/a/b")
    assert [g.path for g in place((one, two), "x", None)] == [
        "/m/a/b/isoscope-x", "/u/isoscope-x",
    ]  # fmt: skip
    assert place((one,), "x", "w/in")[0].path == "/m/a/b/isoscope-w/in/x"


@pytest.mark.parametrize(
    ("cpus", "v1_quota", "v2_quota"),
    [(0.5, "50000", "50000 100000"), (0.01, "1000", "1000 100000")],
)
def test_cpu_limits_in_both_languages(cpus: float, v1_quota: str, v2_quota: str) -> None:
    for version, file, value in ((1, "cpu.cfs_quota_us", v1_quota), (2, "cpu.max", v2_quota)):
        hierarchy = Hierarchy(
            version=version, controllers=("cpu",), mount_point="/m", own_path="/"
        )
        steps = plan_groups(place((hierarchy,), "x", None), Limits(cpus=cpus))
        written = {s.args[0]: s.args[1] for s in steps if s.call == "write"}
        assert written[f"/m/isoscope-x/{file}"] == value


def test_memory_without_swap_on_both() -> None:
    for version, files in (
        (1, {"memory.limit_in_bytes": "5000000", "memory.memsw.limit_in_bytes": "5000000"}),
        (2, {"memory.max": "5000000", "memory.swap.max": "0"}),
    ):
        hierarchy = Hierarchy(
            version=version, controllers=("memory",), mount_point="/m", own_path="/"
        )
        steps = plan_groups(place((hierarchy,), "x", None), Limits(memory_bytes=5_000_000))
        written = {str(s.args[0]): s.args[1] for s in steps if s.call == "write"}
        assert {f: written[f"/m/isoscope-x/{f}"] for f in files} == files
