"""What a bundle may say: honoured, ignored as the specification demands, or refused by name."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bpf import device_verdict

from runtime.container.device_program import Rule, device_program
from runtime.container.launch.program import assemble
from runtime.errors import SpecError, Unsupported
from runtime.oci.config import parse_config
from runtime.oci.document import MOST_BYTES, parse, render
from runtime.oci.example import example
from runtime.oci.groups import Hierarchy
from runtime.oci.mounts import read_options
from runtime.oci.plan import Here, plan_container
from runtime.oci.resources import check, device_rules, settings
from runtime.oci.seccomp import compile_filter

ROOT = Path(__file__).parents[4]
ONE = Hierarchy(version=1, controllers=("memory", "cpu", "pids"), mount_point="/g", own_path="/")
TWO = Hierarchy(version=2, controllers=("memory", "cpu", "pids"), mount_point="/g", own_path="/")


@pytest.mark.parametrize(
    "value", [None, True, 0, -7, 'é\n"\x01', [], [1, [2]], {"a": {"b": None}}]
)
def test_what_is_written_is_read(value: object) -> None:
    assert parse(render(value).encode(), "x") == value


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b"{} x", "more follows"), (b"\xff", "no JSON"),
        (b'{"a":1,"a":2}', "twice"), (b'{"a": NaN}', "NaN"), (b"[" * 100_000, "no JSON"),
        (b" " * (MOST_BYTES + 1), "larger"),
    ],
)  # fmt: skip
def test_a_hostile_document_is_one_sentence(raw: bytes, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse(raw, "config.json")


def changed(*path: str, to: object) -> dict[str, Any]:
    document: dict[str, Any] = example()
    at = document
    for name in path[:-1]:
        at = at.setdefault(name, {})
    at[path[-1]] = to
    return document


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("ociVersion",), "2.0.0", "ociVersion"),
        (("process", "args"), [], "process.args"),
        (("process", "args"), ["a\0b"], r"process.args\[0\]"),
        (("process", "cwd"), "relative", "process.cwd"),
        (("process", "user"), {"uid": -1}, "process.user.uid"),
        (("process", "apparmorProfile"), "x", "process.apparmorProfile"),
        (("process", "selinuxLabel"), "x", "process.selinuxLabel"),
        (("process", "rlimits"), [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "rlimits"),
        (("linux", "intelRdt"), {"closID": "x"}, "linux.intelRdt"),
        (("linux", "namespaces"), [{"type": "time"}], "namespaces"),
        (("linux", "namespaces"), [{"type": "user"}], "'user' are not"),
        (("linux", "namespaces"), [{"type": "mount"}, {"type": "mount"}], "only namespace"),
        (("linux", "sysctl"), {"kernel.panic": "1"}, "kernel.panic"),
        (("linux", "sysctl"), {"net/../kernel/panic": "1"}, "kernel/panic"),
        (("linux", "devices"), [{"type": "x", "path": "/dev/x"}], "devices"),
        (("linux", "uidMappings"), [{"containerID": 0, "hostID": 0, "size": 1}], "uidMappings"),
        (("hooks", "prestart"), [{"path": "relative"}], "hooks.prestart"),
        (("mounts",), [{"destination": "/a", "uidMappings": [1]}], "uidMappings"),
    ],
)
def test_what_is_not_done_is_refused_by_name(
    path: tuple[str, ...], value: object, named: str
) -> None:
    with pytest.raises(SpecError, match=named):
        parse_config(changed(*path, to=value), bundle="/b")


def test_members_nobody_knows_are_ignored() -> None:
    assert parse_config(changed("linux", "unheardOf", to=1), bundle="/b").root == "/b/rootfs"


def test_an_option_that_is_not_done_is_refused() -> None:
    document = changed(
        "mounts", to=[{"destination": "/t", "type": "tmpfs", "options": ["tmpcopyup"]}]
    )
    with pytest.raises(SpecError, match="tmpcopyup"):
        read_options(parse_config(document, bundle="/b").mounts[0])


@pytest.mark.parametrize(
    ("resources", "one", "two"),
    [
        (
            {"memory": {"limit": 100, "swap": 300}},
            {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "300"},
            {"memory.max": "100", "memory.swap.max": "200"},
        ),
        ({"memory": {"limit": -1, "swap": -1}}, {"memory.limit_in_bytes": "-1",
          "memory.memsw.limit_in_bytes": "-1"}, {"memory.max": "max", "memory.swap.max": "max"}),
        ({"cpu": {"shares": 2}}, {"cpu.shares": "2"}, {"cpu.weight": "1"}),
        ({"cpu": {"shares": 262144}}, {"cpu.shares": "262144"}, {"cpu.weight": "10000"}),
        ({"cpu": {"quota": 5000, "period": 10000}},
         {"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000"}, {"cpu.max": "5000 10000"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}, {"pids.max": "max"}),
    ],
)  # fmt: skip
def test_resources_in_both_versions(
    resources: dict[str, object], one: dict[str, str], two: dict[str, str]
) -> None:
    assert dict(settings(ONE, resources)) == one
    assert dict(settings(TWO, resources)) == two


EVERYTHING = {
    "memory": {"limit": 1 << 20}, "cpu": {"shares": 2}, "pids": {"limit": 9},
    "blockIO": {"weight": 100}, "devices": [{"allow": False, "access": "rwm"}],
}  # fmt: skip


@pytest.mark.parametrize("member", EVERYTHING)
@pytest.mark.parametrize("version", [1, 2])
def test_what_no_hierarchy_controls_is_refused_by_name(member: str, version: int) -> None:
    io = "blkio" if version == 1 else "io"
    controllers = ("memory", "cpu", "pids", io, *(("devices",) if version == 1 else ()))
    all_here = Hierarchy(version=version, controllers=controllers, mount_point="/", own_path="/")
    name = {"blockIO": io}.get(member, member)
    left = tuple(c for c in controllers if c != name)
    without = Hierarchy(version=version, controllers=left, mount_point="/", own_path="/")
    asked = {member: EVERYTHING[member]}
    check((all_here,), EVERYTHING)
    check((without,), EVERYTHING | {member: None})
    if (member, version) != ("devices", 2):  # there a program does it
        with pytest.raises(Unsupported, match=f"linux.resources.{member}"):
            check((without,), asked)


def test_no_limit_needs_no_controller() -> None:
    nothing = Hierarchy(version=1, controllers=("freezer",), mount_point="/", own_path="/")
    check((nothing,), {"memory": {"limit": -1, "swap": 0}, "pids": {"limit": -1}, "cpu": {}})
    for wrong in ({"cpu": {"cpus": "0"}}, {"unified": {"memory.max": "1"}}):
        with pytest.raises(Unsupported):
            check((nothing,), wrong)
    for file in ("../memory.max", "memory"):
        with pytest.raises(SpecError, match="is no file"):
            check((TWO,), {"unified": {file: "1"}})


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([], {}),
        ([{"allow": False}], {("b", 8, 0, "r"): False, ("c", 1, 3, "rw"): True}),
        (
            [{"allow": False}, {"allow": True, "type": "b", "major": 8, "access": "r"},
             {"allow": True, "type": "b", "major": 8, "access": "w"},
             {"allow": False, "type": "b", "major": 8, "minor": 1, "access": "w"}],
            {("b", 8, 0, "rw"): True, ("b", 8, 1, "rw"): False, ("b", 8, 1, "rm"): True,
             ("c", 8, 0, "r"): False, ("b", 9, 0, "m"): True, ("b", 9, 0, "r"): False},
        ),
        ([{"allow": False, "type": "c", "major": 10}],
         {("c", 10, 1, "r"): False, ("b", 10, 1, "w"): True}),
    ],
)  # fmt: skip
def test_the_last_word_about_a_device_counts(
    rules: list[dict[str, object]], allowed: dict[tuple[str, int, int, str], bool]
) -> None:
    resources = {"devices": rules}
    program = device_program(
        tuple(
            Rule(kind=None if k == "a" else k, major=major, minor=minor, access=a, allow=allow)
            for allow, k, major, minor, a in device_rules(resources)
        )
    )
    assert {asked: device_verdict(program, *asked) for asked in allowed} == allowed


def verdict(program: bytes, number: int, *arguments: int, arch: int = 0xC000003E) -> int:
    """What the classic BPF *program* returns for a system call (seccomp(2))."""
    words = [*arguments, *(0,) * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, arch, 0, *words)
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    held = at = 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                (held,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                held &= operand
            case 0x05:
                at += operand
            case 0x06:
                return int(operand)
            case 0x15:
                at += yes if held == operand else no
            case 0x25:
                at += yes if held > operand else no
            case 0x35:
                at += yes if held >= operand else no
            case _:
                raise AssertionError(operation)


BIG = 5 << 32 | 7
HOLDS = {
    "SCMP_CMP_EQ": lambda a: a == BIG, "SCMP_CMP_NE": lambda a: a != BIG,
    "SCMP_CMP_LT": lambda a: a < BIG, "SCMP_CMP_LE": lambda a: a <= BIG,
    "SCMP_CMP_GT": lambda a: a > BIG, "SCMP_CMP_GE": lambda a: a >= BIG,
}  # fmt: skip


@pytest.mark.parametrize("operator", HOLDS)
@pytest.mark.parametrize("value", [0, 7, BIG - 1, BIG, BIG + 1, 5 << 32, 6 << 32, (1 << 64) - 1])
def test_every_comparison_is_of_64_bits(operator: str, value: int) -> None:
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 2, "value": BIG, "op": operator}]}  # fmt: skip
    program = compile_filter(
        {"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [rule]}, "x86_64"
    )
    expected = 0x7FFF0000 if HOLDS[operator](value) else 0x80000000
    assert verdict(program, 0, 0, 0, value) == expected
    assert verdict(program, 1, 0, 0, value) == 0x80000000


def test_masks_architectures_and_calls_newer_than_the_profile() -> None:
    masked = {"index": 0, "value": 0xF0, "valueTwo": 0x20, "op": "SCMP_CMP_MASKED_EQ"}
    rules = [
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [masked]},
        {"names": ["getpid", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
    ]
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    program = compile_filter(document, "x86_64")
    assert verdict(program, 56, 0x2F) == 0x7FFF0000
    assert verdict(program, 56, 0x3F) == 0x00050001
    assert verdict(program, 39) == 0x00050005
    assert verdict(program, 400) == 0x00050026  # ENOSYS
    assert verdict(program, 39, arch=0x40000003) == 0x80000000
    assert verdict(program, 39 | 0x40000000) == 0x00050001


def decided() -> bytes:
    config = parse_config(parse(render(example()).encode(), "x"), bundle="/b")
    assert config.process is not None
    here = Here(
        machine="x86_64", held=(1 << 41) - 1, last_capability=40, hierarchies=(ONE,), streams=(1,)
    )
    plan = plan_container(config, config.process, here, seccomp=None)
    return assemble(plan, "x86_64").image


def test_the_stand_ins_change_no_byte_of_a_plan() -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[1] + '/runtime/oci']; import lean; lean.install();"
        "sys.path[0] = sys.argv[1];"
        "from runtime.oci.config import parse_config; from runtime.oci.document import *;"
        "from runtime.oci.example import example; from runtime.oci.groups import Hierarchy;"
        "from runtime.oci.plan import Here, plan_container;"
        "from runtime.container.launch.program import assemble;"
        "c = parse_config(parse(render(example()).encode(), 'x'), bundle='/b');"
        "one = Hierarchy(version=1, controllers=('memory', 'cpu', 'pids'), mount_point='/g',"
        " own_path='/');"
        "here = Here(machine='x86_64', held=(1 << 41) - 1, last_capability=40,"
        " hierarchies=(one,), streams=(1,));"
        "p = plan_container(c, c.process, here, seccomp=None);"
        "sys.stdout.buffer.write(assemble(p, 'x86_64').image);"
        "heavy = {'pathlib', 'inspect', 'json', 'subprocess', 'socket', 'ctypes', 're', 'enum'};"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(ROOT)], capture_output=True, check=False
    )
    assert done.stderr.strip() == b""
    assert done.stdout == decided()
