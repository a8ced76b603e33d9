"""Rules about devices as a program that the kernel asks: cgroup v2 has no file for them (pure).

The last rule that speaks of a device and a way to reach it counts, as in a list written to v1 line
by line. So the program goes through the rules from the last to the first, and keeps which of the
asked ways nobody has allowed yet. Sources: Documentation/admin-guide/cgroup-v2.rst ("Device
controller"), Documentation/bpf/standardization/instruction-set.rst.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_BITS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*, linux/bpf.h
_KINDS = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_KIND, _ASKED, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 6
"""What the registers of the program hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Devices that may be reached, or not; None is every kind, major or minor number."""

    kind: str | None
    major: int | None
    minor: int | None
    access: str = "rwm"
    allow: bool = True


NOTHING = Rule(kind=None, major=None, minor=None, allow=False)
"""The first rule of a list that names what is allowed."""


def device_program(rules: tuple[Rule, ...]) -> bytes:
    """BPF that answers 1 for what *rules* allow; r1 holds a ``struct bpf_cgroup_dev_ctx``.

    What no rule speaks of is allowed, as far as the groups above allow it.
    """
    code = [
        _load(_KIND, 0),  # access << 16 | kind
        *(_copy(_ASKED, _KIND), _and(_KIND, 0xFFFF), _shift_right(_ASKED, 16)),
        *(_load(_MAJOR, 4), _load(_MINOR, 8)),
    ]
    for rule in reversed(rules):
        code += _test(rule)
    return b"".join((*code, _set(0, 1), _exit()))


def _test(rule: Rule) -> Iterator[bytes]:
    """Answer if *rule* decides, else go on behind it."""
    bits = sum(_BITS[letter] for letter in rule.access)
    wanted = (
        (_KIND, None if rule.kind is None else _KINDS[rule.kind]),
        (_MAJOR, rule.major),
        (_MINOR, rule.minor),
    )
    tests = [(register, value) for register, value in wanted if value is not None]
    if rule.allow:
        answer = [_and(_ASKED, 7 & ~bits), _unless_equal(_ASKED, 0, 2), _set(0, 1), _exit()]
    else:
        asked = [_copy(_SCRATCH, _ASKED), _and(_SCRATCH, bits)]
        answer = [*asked, _if_equal(_SCRATCH, 0, 2), _set(0, 0), _exit()]
    for number, (register, value) in enumerate(tests, 1):
        yield _unless_equal(register, value, len(tests) - number + len(answer))
    yield from answer


def _instruction(
    code: int, target: int, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _load(target: int, offset: int) -> bytes:
    return _instruction(0x61, target, 1, offset)  # BPF_LDX | BPF_MEM | BPF_W, from r1


def _copy(target: int, source: int) -> bytes:
    return _instruction(0xBF, target, source)  # BPF_ALU64 | BPF_MOV | BPF_X


def _set(target: int, value: int) -> bytes:
    return _instruction(0xB7, target, value=value)  # BPF_ALU64 | BPF_MOV | BPF_K


def _and(target: int, value: int) -> bytes:
    return _instruction(0x57, target, value=value)  # BPF_ALU64 | BPF_AND | BPF_K


def _shift_right(target: int, bits: int) -> bytes:
    return _instruction(0x77, target, value=bits)  # BPF_ALU64 | BPF_RSH | BPF_K


def _if_equal(register: int, value: int, skipped: int) -> bytes:
    return _instruction(0x15, register, offset=skipped, value=value)  # BPF_JMP | BPF_JEQ | BPF_K


def _unless_equal(register: int, value: int, skipped: int) -> bytes:
    return _instruction(0x55, register, offset=skipped, value=value)  # BPF_JMP | BPF_JNE | BPF_K


def _exit() -> bytes:
    return _instruction(0x95, 0)  # BPF_JMP | BPF_EXIT
