"""The filter is judged by running it, in an interpreter of the BPF that the kernel would run."""

import errno

import pytest
from bpf import verdict

from runtime.container import seccomp, syscall_table

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
NO_FAMILY = 0x50000 | errno.EAFNOSUPPORT
REFUSED, UNKNOWN = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
MACHINES = ("x86_64", "aarch64")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def test_each_known_call_gets_its_verdict(machine: str) -> None:
    program = seccomp.default_filter(machine)
    allowed = seccomp.allowed(machine)
    for name, number in syscall_table.numbers(machine).items():
        expected = UNKNOWN if name == "clone3" else ALLOW if name in allowed else REFUSED
        if name == "socket":
            expected = NO_FAMILY  # of family 0
        assert verdict(program, number, ARCH[machine]) == expected, name


def test_what_programs_live_on_is_allowed(machine: str) -> None:
    everyday = {
        "read",
        "write",
        "openat",
        "mmap",
        "futex",
        "execve",
        "clone",
        "socket",
        "epoll_pwait",
    }
    assert everyday <= seccomp.allowed(machine)


def test_every_refused_name_exists_somewhere() -> None:
    known = {name for machine in MACHINES for name in syscall_table.numbers(machine)}
    historic = {"stime", "nfsservctl", "clock_adjtime64", "lookup_dcookie"}
    refused = {name for group in seccomp.REFUSED for name in group.split()}
    assert refused <= known | historic


@pytest.mark.parametrize("flag", [0x80, 0x20000, 0x2000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_may_not_make_namespaces(machine: str, flag: int) -> None:
    number = syscall_table.numbers(machine)["clone"]
    program = seccomp.default_filter(machine)
    assert verdict(program, number, ARCH[machine], flag | 17) == REFUSED
    assert verdict(program, number, ARCH[machine], 0x3D0F00) == ALLOW  # a thread


def test_terminal_injection_and_vsock_are_refused(machine: str) -> None:
    numbers = syscall_table.numbers(machine)
    program = seccomp.default_filter(machine)
    assert verdict(program, numbers["ioctl"], ARCH[machine], 0, 0x5412) == REFUSED
    assert verdict(program, numbers["ioctl"], ARCH[machine], 0, 0x5401) == ALLOW
    for family in (1, 2, 10, 16, 17):
        assert verdict(program, numbers["socket"], ARCH[machine], family) == ALLOW
    for family in (0, 3, 38, 40, 45):  # AF_ALG and AF_VSOCK among them
        assert verdict(program, numbers["socket"], ARCH[machine], family) == NO_FAMILY


def test_other_architectures_die_and_newer_calls_are_unknown(machine: str) -> None:
    program = seccomp.default_filter(machine)
    assert verdict(program, 0, 0x40000003) == KILL  # 32-bit x86
    assert verdict(program, syscall_table.NEWEST + 1, ARCH[machine]) == UNKNOWN
    assert verdict(program, 0x40000000, ARCH[machine]) == UNKNOWN  # x32


def test_another_machine_has_no_filter() -> None:
    with pytest.raises(KeyError):
        seccomp.default_filter("riscv64")


@pytest.mark.parametrize(
    ("capability", "call"),
    [
        (capability, call)
        for capability, calls in seccomp.ALLOWED_WITH.items()
        for call in calls.split()
    ],
)
def test_a_capability_brings_the_calls_it_is_for(machine: str, capability: str, call: str) -> None:
    number = syscall_table.numbers(machine).get(call)
    if number is None:
        assert machine == "aarch64"  # where no such port is
        return
    without = seccomp.default_filter(machine)
    given = seccomp.default_filter(machine, frozenset({capability}))
    assert verdict(without, number, ARCH[machine]) in {REFUSED, UNKNOWN}
    assert verdict(given, number, ARCH[machine]) == ALLOW


def test_only_who_may_mount_may_clone_into_namespaces(machine: str) -> None:
    number = syscall_table.numbers(machine)["clone"]
    given = seccomp.default_filter(machine, frozenset({"sys_admin"}))
    assert verdict(given, number, ARCH[machine], 0x10000011) == ALLOW
    other = seccomp.default_filter(machine, frozenset({"net_admin"}))
    assert other == seccomp.default_filter(machine)
