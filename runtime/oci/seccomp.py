"""``linux.seccomp`` as a filter program (pure).

Calls are looked up by ranges of equal verdict; those with rules about arguments come first.
Calls of another architecture than ours get the default action where that architecture is
listed, and are killed where it is not. Numbers above all that the profile names get ENOSYS, not
the profile's error, so that a C library falls back to an older call (as runc does).
Sources: config-linux.md, seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
"""

import errno
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping

from runtime.container import syscall_table
from runtime.errors import SpecError
from runtime.oci.document import Reader, wrong

_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_ACTIONS = {
    "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0, "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": _ERRNO, "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": _ALLOW,
}  # fmt: skip
_WITH_DATA = {_ERRNO, 0x7FF00000}
_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", 0xC000003E, ("SCMP_ARCH_X86", 0x40000003)),
    "aarch64": ("SCMP_ARCH_AARCH64", 0xC00000B7, ("SCMP_ARCH_ARM", 0x40000028)),
}
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35
_PASS, _FAIL = 1000, 1001
"""Jump targets that are not known yet: past this comparison, past this rule."""

_Code = list[tuple[int, int, int, int]]
_Compare = tuple[int, int, int, str]


def compile_filter(document: Mapping[str, object], machine: str) -> bytes:
    """The program for *machine*. Raises SpecError for what is not done."""
    reader = Reader(dict(document), "linux.seccomp")
    reader.refuse("listenerPath", "listenerMetadata", remedy="SCMP_ACT_NOTIFY is not supported")
    default = _action(reader, "defaultAction", "defaultErrnoRet")
    numbers = syscall_table.numbers(machine)
    verdicts: dict[int, int] = {}
    conditions: dict[int, list[tuple[tuple[_Compare, ...], int]]] = {}
    for rule in reader.objects("syscalls"):
        action = _action(rule, "action", "errnoRet")
        compares = tuple(map(_compare, rule.objects("args")))
        names = rule.texts("names")
        for number in (numbers[name] for name in names if name in numbers):
            if compares:
                conditions.setdefault(number, []).extend((c, action) for c in _apart(compares))
            else:
                verdicts.setdefault(number, action)
    named = {*verdicts, *conditions}
    beyond = _ERRNO | errno.ENOSYS if default & 0x7FFF0000 == _ERRNO and named else default
    top = max(named, default=syscall_table.NEWEST)
    program = _architecture(reader, machine, default)
    for number, rules in conditions.items():
        block = [i for compares, action in rules for i in _rule(compares, action)]
        block.append((_RETURN, 0, 0, verdicts.get(number, default)))
        program += [(_JEQ, 1, 0, number), (_JUMP, 0, 0, len(block)), *block]
    start = 0
    for verdict, run in itertools.groupby(verdicts.get(n, default) for n in range(top + 1)):
        start += sum(1 for _ in run)
        program += [(_JGE, 1, 0, start), (_RETURN, 0, 0, verdict)]
    program.append((_RETURN, 0, 0, beyond))
    if len(program) > 4096:
        raise SpecError("linux.seccomp is longer than a filter may be", remedy="shorten it")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _architecture(reader: Reader, machine: str, default: int) -> _Code:
    native, audit, (other, other_audit) = _ARCHITECTURES[machine]
    listed = reader.texts("architectures") or (native,)
    if native not in listed:
        raise SpecError(f"linux.seccomp.architectures lacks {native}", remedy="add it")
    foreign = default if other in listed else _KILL_PROCESS
    return [
        (_LOAD, 0, 0, 4),
        (_JEQ, 3, 0, audit),
        (_JEQ, 0, 1, other_audit),
        (_RETURN, 0, 0, foreign),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, 0),
        (_JGE, 0, 1, 0x40000000),  # x32
        (_RETURN, 0, 0, default),
    ]


def _action(reader: Reader, name: str, data: str) -> int:
    word = reader.text(name)
    if word not in _ACTIONS:
        raise SpecError(f"{reader.where(name)}: {word!r} is not supported", remedy="change it")
    action = _ACTIONS[word]
    if action not in _WITH_DATA:
        return action
    number = reader.number(data, errno.EPERM, high=0xFFFF)
    return action | (errno.EPERM if number is None else number)


def _compare(reader: Reader) -> _Compare:
    most = (1 << 64) - 1
    index = reader.number("index", None, high=5)
    value, two = reader.number("value", 0, high=most), reader.number("valueTwo", 0, high=most)
    op = reader.text("op")
    if index is None or op not in _OPERATORS:
        raise wrong(reader.place, "a comparison: index up to 5, and a known op")
    return index, value or 0, two or 0, op


def _apart(compares: tuple[_Compare, ...]) -> Iterator[tuple[_Compare, ...]]:
    """All of one rule must hold; but if one argument occurs twice, each stands for itself."""
    if len({c[0] for c in compares}) == len(compares):
        yield compares
    else:
        yield from ((c,) for c in compares)


def _rule(compares: tuple[_Compare, ...], action: int) -> _Code:
    code: _Code = []
    for index, value, two, op in compares:
        part = _OPERATORS[op](16 + 8 * index, value, two)
        code += [_reach(i, at, len(part), _PASS) for at, i in enumerate(part)]
    code.append((_RETURN, 0, 0, action))
    return [_reach(i, at, len(code), _FAIL) for at, i in enumerate(code)]


def _reach(
    instruction: tuple[int, int, int, int], at: int, end: int, label: int
) -> tuple[int, int, int, int]:
    code, yes, no, operand = instruction
    there = end - at - 1
    return code, there if yes == label else yes, there if no == label else no, operand


def _halves(value: int) -> tuple[int, int]:
    return value >> 32, value & 0xFFFFFFFF


def _equal(at: int, value: int, _: int) -> _Code:
    high, low = _halves(value)
    return [
        (_LOAD, 0, 0, at + 4),
        (_JEQ, 0, _FAIL, high),
        (_LOAD, 0, 0, at),
        (_JEQ, 0, _FAIL, low),
    ]


def _unequal(at: int, value: int, _: int) -> _Code:
    high, low = _halves(value)
    return [
        (_LOAD, 0, 0, at + 4),
        (_JEQ, 0, _PASS, high),
        (_LOAD, 0, 0, at),
        (_JEQ, _FAIL, 0, low),
    ]


def _masked(at: int, mask: int, value: int) -> _Code:
    (mask_high, mask_low), (high, low) = _halves(mask), _halves(value)
    return [
        (_LOAD, 0, 0, at + 4), (_AND, 0, 0, mask_high), (_JEQ, 0, _FAIL, high),
        (_LOAD, 0, 0, at), (_AND, 0, 0, mask_low), (_JEQ, 0, _FAIL, low),
    ]  # fmt: skip


def _above(at: int, value: int, low_test: int, *, yes: int, no: int) -> _Code:
    high, low = _halves(value)
    last = (low_test, 0, _FAIL, low) if yes == _PASS else (low_test, _FAIL, 0, low)
    return [
        (_LOAD, 0, 0, at + 4), (_JGT, yes, 0, high), (_JEQ, 0, no, high), (_LOAD, 0, 0, at), last,
    ]  # fmt: skip


_OPERATORS: Mapping[str, Callable[[int, int, int], _Code]] = {
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_NE": _unequal,
    "SCMP_CMP_MASKED_EQ": _masked,
    "SCMP_CMP_GT": lambda at, v, _: _above(at, v, _JGT, yes=_PASS, no=_FAIL),
    "SCMP_CMP_GE": lambda at, v, _: _above(at, v, _JGE, yes=_PASS, no=_FAIL),
    "SCMP_CMP_LT": lambda at, v, _: _above(at, v, _JGE, yes=_FAIL, no=_PASS),
    "SCMP_CMP_LE": lambda at, v, _: _above(at, v, _JGT, yes=_FAIL, no=_PASS),
}


def features() -> dict[str, object]:
    """What ``features`` tells of this module."""
    return {
        "enabled": True, "actions": sorted(_ACTIONS), "operators": sorted(_OPERATORS),
        "archs": sorted(native for native, _, _ in _ARCHITECTURES.values()),
    }  # fmt: skip
