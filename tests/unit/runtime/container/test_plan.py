from dataclasses import replace

import golden_files
import pytest

from runtime import syscalls
from runtime.container.capabilities import CAPABILITIES
from runtime.container.cgroups import Hierarchy
from runtime.container.devices import Device
from runtime.container.facts import HostFacts
from runtime.container.plan import plan, plan_exec, plan_plain
from runtime.container.protection import Protection
from runtime.container.spec import ContainerSpec, Limits, ProcessSpec
from runtime.container.steps import Plan, render
from runtime.container.ulimits import Ulimit
from runtime.errors import SpecError, Unsupported
from runtime.image import Identity
from runtime.volume.mount import Mount

ROOT = Identity(uid=0, gid=0, groups=(), home="/root")


def v1(*controllers: str) -> tuple[Hierarchy, ...]:
    return tuple(
        Hierarchy(
            version=1, controllers=(c,), mount_point=f"/sys/fs/cgroup/{c}", own_path="/user/me"
        )
        for c in controllers
    )


V1 = v1("memory", "cpu", "cpuacct", "pids", "freezer")
V2 = (
    Hierarchy(
        version=2,
        controllers=("cpu", "io", "memory", "pids"),
        mount_point="/sys/fs/cgroup",
        own_path="/user.slice",
    ),
)


def facts(
    hierarchies: tuple[Hierarchy, ...] = V1,
    *,
    bounding_set: int = (1 << 41) - 1,
    owned_ids: int | None = None,
) -> HostFacts:
    return HostFacts(
        machine="x86_64", bounding_set=bounding_set, last_capability=40, hierarchies=hierarchies,
        owned_ids=owned_ids,
    )  # fmt: skip


def process(*argv: str, env: tuple[str, ...] = ("PATH=/bin:/usr/bin",)) -> ProcessSpec:
    return ProcessSpec(argv=argv, env=env, cwd="/work", identity=ROOT)


SEVERAL = ("/home/layers/b/tree", "/home/layers/a/tree")
SOME = Limits(memory_bytes=64 << 20, cpus=0.5, pids=20)


def container(
    *argv: str, limits: Limits = SOME, lower: tuple[str, ...] = ("/home/layers/a/tree",)
) -> ContainerSpec:
    return ContainerSpec(
        id="0123456789ab",
        process=process(*argv),
        lower=lower,
        directory="/home/instances/0123456789ab",
        hostname="0123456789ab",
        limits=limits,
    )


def attached() -> ContainerSpec:
    """With everything that a container can be given."""
    mounts = (
        Mount(target="/etc/hosts", source="/i/hosts", is_directory=False, follows_links=False),
        Mount(target="/srv/data", source="/volumes/data/files", read_only=True),
        Mount(target="/run", options="size=1m,mode=755"),
        Mount(target="/dev/shm/x", source="/tmp/x"),
    )
    return replace(
        container("true", limits=Limits()), network="/proc/42/fd/7", mounts=mounts
    )  # fmt: skip


def protected() -> ContainerSpec:
    """With everything by which it is locked in less, or more."""
    disk = Device(path="/dev/disk/a", kind="b", major=8, minor=1, mode=0o640, gid=6, access="r")
    protection = Protection(
        capabilities=frozenset({"chown", "mknod"}),
        read_only=True,
        devices=(disk,),
        ulimits=(Ulimit(name="nofile", soft=64, hard=128),),
    )
    return replace(container("true", limits=Limits()), protection=protection)


def privileged() -> ContainerSpec:
    fuse = Device(path="/dev/fuse", kind="c", major=10, minor=229)
    protection = Protection(
        capabilities=frozenset(CAPABILITIES), is_privileged=True, devices=(fuse,)
    )
    return replace(container("true", limits=Limits()), protection=protection)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("v1", plan(container("sh", "-c", "exit 7"), facts(V1))),
        ("v2", plan(container("sh", "-c", "exit 7"), facts(V2))),
        ("idle", plan(container(limits=Limits()), facts(V1))),
        ("layers", plan(container("sh", limits=Limits(), lower=SEVERAL), facts(V2))),
        ("attached", plan(attached(), facts(v1("pids")))),
        ("protected-v1", plan(protected(), replace(facts(v1("pids")), devices=v1("devices")[0]))),
        ("protected-v2", plan(protected(), facts(V2))),
        ("privileged", plan(privileged(), facts(v1("pids")))),
        ("exec", plan_exec(process("id"), container(), facts(V1))),
        ("rootless", plan(container("sh", limits=Limits()), facts((), owned_ids=65537))),
        ("host", plan_plain(process("/bin/id"), "/home/rootfs/tree", "x86_64")),
    ],
)
def test_the_plan_is_the_golden_one(name: str, made: Plan) -> None:
    golden_files.check(f"plans/{name}.txt", render(made))


def calls(made: Plan, name: str) -> list[tuple[object, ...]]:
    return [step.args for step in (*made.host, *made.inside) if step.call == name]


def test_nothing_that_we_lack_is_kept() -> None:
    setpcap = 1 << 8
    made = plan(container("true"), facts(bounding_set=(1 << 41) - 1 & ~setpcap))
    ((permitted, effective, inheritable),) = calls(made, "capset")
    assert isinstance(permitted, int)
    assert not permitted & setpcap
    assert (effective, inheritable) == (permitted, 0)


def test_every_capability_that_is_not_kept_leaves_the_bounding_set() -> None:
    made = plan(container("true"), facts())
    dropped = {args[1] for args in calls(made, "prctl") if args[0] == 24}
    ((permitted, _, _),) = calls(made, "capset")
    assert isinstance(permitted, int)
    assert dropped == {n for n in range(41) if not permitted & 1 << n}
    assert 21 in dropped  # sys_admin
    assert 27 in dropped  # mknod


def test_the_locks_close_in_the_only_order_that_works() -> None:
    order = [step.call for step in plan(container("true"), facts()).inside]
    no_new_privs = next(
        i for i, s in enumerate(plan(container("true"), facts()).inside) if s.args[:1] == (38,)
    )
    assert order.index("setgroups") < order.index("setresgid") < order.index("setresuid")
    assert order.index("setresuid") < order.index("capset") < no_new_privs
    assert no_new_privs < order.index("seccomp")
    assert order[order.index("seccomp") + 1 :] == ["execveat"]


def test_all_mounts_but_the_root_come_after_the_old_root_is_gone() -> None:
    inside = plan(container("true"), facts()).inside
    gone = next(i for i, step in enumerate(inside) if step.call == "umount2")
    before = [step.args[1] for step in inside[:gone] if step.call == "mount"]
    assert before == ["/", "/home/instances/0123456789ab/root"]


def test_mounts_come_before_proc_except_those_on_devices_of_its_own() -> None:
    inside = plan(attached(), facts()).inside
    own = [s.args[1] for s in inside if s.call in {"mount", "mkdir", "openat2"}]
    gone = next(i for i, step in enumerate(inside) if step.call == "umount2")
    assert own.index("/srv/data") < own.index("/proc") < own.index("/dev/shm/x")
    for position, step in enumerate(inside):
        assert (position < gone) == (step.call == "open_tree") or step.call not in {
            "open_tree", "move_mount",
        }  # fmt: skip
    places = [s.args[3] for s in inside if s.call == "openat2" and s.opens == "place"]
    assert syscalls.RESOLVE_IN_ROOT in places


def test_the_network_of_the_machine_is_neither_made_nor_configured() -> None:
    made = plan(replace(container("true"), network="host"), facts())
    assert not made.clone_flags & syscalls.CLONE_NEWNET
    assert not calls(made, "socket")
    assert not calls(made, "setns")


def test_a_limit_that_nothing_enforces_is_refused() -> None:
    with pytest.raises(Unsupported, match="controls memory"):
        plan(container("true"), facts(v1("cpu", "pids")))


def test_a_list_of_devices_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(Unsupported, match="controls devices"):
        plan(protected(), facts(v1("pids")))


def test_a_privileged_filter_is_still_without_new_privileges() -> None:
    spec = privileged()
    profile = replace(spec.protection, profile=b"12345678")
    made = plan(replace(spec, protection=profile), facts())
    assert calls(made, "seccomp") == [(b"12345678",)]
    assert (38, 1) in calls(made, "prctl")
    assert (38, 1) not in calls(plan(spec, facts()), "prctl")


def test_no_seccomp_table_is_said() -> None:
    strange = HostFacts(
        machine="riscv64", bounding_set=0, last_capability=40, hierarchies=V1
    )  # fmt: skip
    with pytest.raises(Unsupported, match="riscv64"):
        plan(container("true"), strange)


@pytest.mark.parametrize(
    "change",
    [
        {"limits": Limits(), "lower": ("/l", "/a,b")},
        {"limits": Limits(), "directory": "/a:b"},
    ],
)
def test_paths_that_overlayfs_would_misread_are_refused(change: dict[str, object]) -> None:
    values: dict[str, object] = {
        "id": "x",
        "process": process("true"),
        "lower": ("/l",),
        "directory": "/d",
        "hostname": "x",
    }
    with pytest.raises(SpecError, match="ISOSCOPE_HOME"):
        ContainerSpec(**(values | change))  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"memory_bytes": 100}, {"cpus": 0.0}, {"pids": 0}])
def test_limits_that_nothing_could_live_under_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        Limits(**limits)  # type: ignore[arg-type]


def test_a_nul_or_a_relative_directory_is_refused() -> None:
    with pytest.raises(SpecError, match="NUL"):
        ProcessSpec(argv=("a\0b",), env=(), cwd="/", identity=ROOT)
    with pytest.raises(SpecError, match="absolute"):
        ProcessSpec(argv=("a",), env=(), cwd="tmp", identity=ROOT)


def test_the_program_is_looked_for_where_path_says() -> None:
    ((_, words, _),) = calls(plan(container("prog", "-x"), facts()), "execveat")
    assert words == ("/bin/prog", "/usr/bin/prog", "", "prog", "-x")
    ((_, words, _),) = calls(plan(container("./prog"), facts()), "execveat")
    assert words == ("./prog", "", "./prog")


def test_what_is_executed_first_is_sealed() -> None:
    inside = plan(container("true"), facts()).inside
    order = [step.call for step in inside]
    assert order.index("memfd_create") < order.index("fcntl") < order.index("seccomp")
    assert calls(plan(container("true"), facts()), "fcntl")[0][1:] == (1033, 0xF)
