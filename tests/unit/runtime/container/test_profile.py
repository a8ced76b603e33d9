"""Profiles of strangers: what they say is what the filter does, and nonsense is one sentence."""

import json
from typing import Any

import pytest
from bpf import verdict
from hypothesis import given
from hypothesis import strategies as st

from runtime.container import syscall_table
from runtime.container.profile import Machine, read_profile
from runtime.errors import SpecError

ARCH = 0xC000003E
ALLOW, LOG, KILL = 0x7FFF0000, 0x7FFC0000, 0x80000000
NUMBERS = syscall_table.numbers("x86_64")
MACHINE = Machine(name="x86_64", kernel=(6, 1), capabilities=frozenset({"chown", "sys_ptrace"}))
COMPARE = {
    "SCMP_CMP_EQ": lambda a, b: a == b,
    "SCMP_CMP_NE": lambda a, b: a != b,
    "SCMP_CMP_LT": lambda a, b: a < b,
    "SCMP_CMP_LE": lambda a, b: a <= b,
    "SCMP_CMP_GT": lambda a, b: a > b,
    "SCMP_CMP_GE": lambda a, b: a >= b,
}
words = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1, (1 << 32) - 1, 1 << 32])


def error(number: int) -> int:
    return 0x50000 | number


def compiled(*rules: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> bytes:
    text = json.dumps({"defaultAction": default, "syscalls": rules, **more})
    return read_profile(text.encode(), "p.json", MACHINE)


def answer(program: bytes, call: str, *args: int) -> int:
    return verdict(program, NUMBERS[call], ARCH, *args)


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", **more}


def test_what_is_named_is_allowed_and_the_rest_is_the_default() -> None:
    program = compiled(allow("read", "write", "no_such_call"), defaultErrnoRet=38)
    for name, number in NUMBERS.items():
        expected = ALLOW if name in {"read", "write"} else error(38)
        assert verdict(program, number, ARCH) == expected, name
    assert verdict(program, syscall_table.NEWEST + 1, ARCH) == error(38)


def test_every_action_is_the_kernels() -> None:
    for action, expected in {
        "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_PROCESS": KILL, "SCMP_ACT_TRAP": 0x30000,
        "SCMP_ACT_ERRNO": error(1), "SCMP_ACT_LOG": LOG, "SCMP_ACT_TRACE": 0x7FF00000,
    }.items():  # fmt: skip
        program = compiled({"name": "getpid", "action": action}, default="SCMP_ACT_ALLOW")
        assert answer(program, "getpid") == expected
        assert answer(program, "read") == ALLOW


def test_errors_may_have_names() -> None:
    program = compiled(
        {"name": "getpid", "action": "SCMP_ACT_ERRNO", "errno": "EACCES", "errnoRet": 1},
        defaultErrno="ENOSYS",
    )
    assert (answer(program, "getpid"), answer(program, "read")) == (error(13), error(38))
    with pytest.raises(SpecError, match="name of an error"):
        compiled(defaultErrno="errorcode")


def test_a_foreign_architecture_and_x32_never_pass() -> None:
    program = compiled(default="SCMP_ACT_ALLOW")
    assert verdict(program, 0, 0x40000003) == KILL
    assert verdict(program, 0x40000000, ARCH) == error(38)


@given(op=st.sampled_from(sorted(COMPARE)), value=words, argument=words, index=st.integers(0, 5))
def test_comparisons_are_of_all_64_bits(op: str, value: int, argument: int, index: int) -> None:
    program = compiled(allow("ioctl", args=[{"index": index, "op": op, "value": value}]))
    args = [0] * 6
    args[index] = argument
    expected = ALLOW if COMPARE[op](argument, value) else error(1)
    assert answer(program, "ioctl", *args) == expected


@given(mask=words, value=words, argument=words)
def test_masked_comparisons(mask: int, value: int, argument: int) -> None:
    test = {"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
    program = compiled(allow("ioctl", args=[test]))
    expected = ALLOW if argument & mask == value & mask else error(1)
    assert answer(program, "ioctl", 0, argument) == expected


def test_all_conditions_hold_but_two_on_one_argument_are_alternatives() -> None:
    def equal(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "op": "SCMP_CMP_EQ", "value": value}

    both = compiled(allow("socket", args=[equal(0, 1), equal(1, 2)]))
    assert [answer(both, "socket", *a) for a in ((1, 2), (1, 3), (0, 2))] == [
        ALLOW, error(1), error(1),
    ]  # fmt: skip
    either = compiled(allow("socket", args=[equal(0, 1), equal(0, 2)]))
    assert [answer(either, "socket", a) for a in (1, 2, 3)] == [ALLOW, ALLOW, error(1)]


def test_the_first_rule_that_fits_decides() -> None:
    bad = {"index": 0, "op": "SCMP_CMP_EQ", "value": 16}
    program = compiled(
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [bad]},
        allow("socket"),
    )
    assert answer(program, "socket", 16) == error(97)
    assert answer(program, "socket", 2) == ALLOW


@pytest.mark.parametrize(
    ("conditions", "counts"),
    [
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_PTRACE"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {}, "excludes": {}, "comment": "", "args": None}, True),
    ],
)
def test_conditions_of_rules(conditions: dict[str, Any], counts: bool) -> None:  # noqa: FBT001
    program = compiled(allow("ptrace", **conditions))
    assert answer(program, "ptrace") == (ALLOW if counts else error(1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("[" * 100_000, "not JSON"),
        ('{"defaultAction": 1}', "defaultAction is not a string"),
        ("{}", "defaultAction is not a string"),
        ('{"defaultAction": "ALLOW"}', "defaultAction is not one of"),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "defaultAction is not one of"),
        ('{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}', "error number"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscall": []}', "syscall is not known"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}', "is not a list"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}', r"syscalls\[0\] is not"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_ARM"]}', "not for"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_LOG"}', "there twice"),
    ],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        read_profile(text.encode(), "p.json", MACHINE)


@pytest.mark.parametrize(
    "argument",
    [
        {}, {"index": 6, "value": 0, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}, {"index": 0, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}, {"index": True, "value": 0},
        {"index": 0, "value": 0.5, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 0, "op": "="},
        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ", "more": 1},
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(argument: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"syscalls\[0\]\.args\[0\]"):
        compiled(allow("ioctl", args=[argument]))


def test_more_than_the_kernel_takes_is_refused() -> None:
    many = [
        allow("ioctl", args=[{"index": 0, "op": "SCMP_CMP_EQ", "value": n}]) for n in range(700)
    ]
    with pytest.raises(SpecError, match="instructions"):
        compiled(*many)


@given(st.binary(max_size=200))
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(SpecError):
        read_profile(raw, "noise", MACHINE)


def test_another_machine_has_no_table() -> None:
    strange = Machine(name="riscv64", kernel=(6, 1), capabilities=frozenset())
    with pytest.raises(SpecError, match="riscv64"):
        read_profile(b'{"defaultAction": "SCMP_ACT_ALLOW"}', "p", strange)
