"""System call profiles in docker's JSON format, as BPF programs (pure).

The format is that of moby's profiles/seccomp and of the OCI runtime specification, "Seccomp"; the
program is classic BPF, see ``seccomp``. A profile is a stranger's text: every field is checked,
and what we cannot do as it says is refused instead of left out. Of several rules for one call
the first that fits decides; two conditions on one argument are alternatives, as in runc.
Processes of another architecture are killed, whatever a profile's ``archMap`` says.
"""

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from runtime.container import syscall_table
from runtime.container.capabilities import parse_capability
from runtime.container.seccomp import Instruction, assemble, preamble, ranges
from runtime.errors import ImageError, SpecError
from runtime.image.document import Node, parse_document

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
MOST_BYTES = 1 << 20

_ERRNO = 0x00050000
_ACTIONS = {
    "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": _ERRNO, "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}  # fmt: skip
_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
}  # fmt: skip
"""What docker calls a machine, and what libseccomp does."""
_FIELDS = frozenset(
    {
        "defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "syscalls",
    }
)  # fmt: skip
_RULE_FIELDS = frozenset(
    {
        "names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes",
    }
)  # fmt: skip
"""Those of moby, and the names of errors that podman's have besides their numbers."""
_CONDITION_FIELDS = frozenset({"arches", "caps", "minKernel"})
_ARGUMENT_FIELDS = frozenset({"index", "value", "valueTwo", "op"})
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35
_FAIL, _HOLD = -1, -2
_LOW, _HIGH = (1 << 32) - 1, 32
_MOST_ERRNO = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """For what a profile is read: *name* is uname(2)'s, *kernel* its release, major and minor."""

    name: str
    kernel: tuple[int, int]
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """A comparison of argument *index*: *mask* counts for SCMP_CMP_MASKED_EQ alone."""

    index: int
    op: str
    value: int
    mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """The verdict if all *conditions* hold."""

    verdict: int
    conditions: tuple[_Condition, ...]


def read_profile(raw: bytes, source: str, machine: Machine) -> bytes:
    """The profile *raw*, which came from *source*, as a filter for *machine*.

    Raises SpecError for a text that is no profile, or asks for what cannot be done here.
    """
    try:
        document = parse_document(raw, source)
        return _compiled(document, machine)
    except ImageError as error:
        raise SpecError(
            error.message, remedy="see docker's default profile for the form"
        ) from None
    except KeyError:
        raise SpecError(f"no system call table for {machine.name}") from None


def _compiled(document: Node, machine: Machine) -> bytes:
    _only(document, _FIELDS)
    _check_architectures(document, machine)
    default = _verdict(document, "defaultAction", "defaultErrno")
    numbers = syscall_table.numbers(machine.name)
    rules: dict[int, list[_Rule]] = {}
    for entry in document["syscalls"].items():
        for number, rule in _rules(entry, machine, numbers):
            rules.setdefault(number, []).append(rule)
    flat = {n: found[0].verdict for n, found in rules.items() if not found[0].conditions}
    program = [*preamble(machine.name)]
    for number, found in rules.items():
        if number not in flat:
            program += _block(number, found, default)
    verdicts = [flat.get(number, default) for number in range(syscall_table.NEWEST + 1)]
    newer = _ERRNO | errno.ENOSYS if default & 0xFFFF0000 == _ERRNO else default
    program += [*ranges(verdicts), (_RETURN, 0, 0, newer)]
    if len(program) > MOST_INSTRUCTIONS:
        raise SpecError(
            f"{document.blob}: {len(program)} instructions, and the kernel takes "
            f"{MOST_INSTRUCTIONS}",
            remedy="write fewer conditions",
        )
    return assemble(tuple(program))


def _check_architectures(document: Node, machine: Machine) -> None:
    named = document["architectures"].texts()
    ours = _ARCHITECTURES.get(machine.name, ("", ""))[1]
    for entry in document["archMap"].items():
        named += (entry["architecture"].text(), *entry["subArchitectures"].texts())
    if named and ours not in named:
        raise SpecError(f"{document.blob}: not for {machine.name}", remedy=f"add {ours}")


def _rules(
    entry: Node, machine: Machine, numbers: Mapping[str, int]
) -> Iterator[tuple[int, _Rule]]:
    """Call by number and what is decided of it; nothing where *entry* is not for *machine*."""
    _only(entry, _RULE_FIELDS)
    names = (*entry["names"].texts(), *((entry["name"].text(),) if entry["name"].present else ()))
    verdict = _verdict(entry, "action", "errno")
    conditions = tuple(_condition(node) for node in entry["args"].items())
    alike = len({each.index for each in conditions}) < len(conditions)
    groups = tuple((each,) for each in conditions) if alike else (conditions,)
    if not _is_meant(entry, machine):
        return
    for name in names:
        if name in numbers:  # a name of another machine, or of a newer kernel, is no error
            for group in groups:
                yield numbers[name], _Rule(verdict=verdict, conditions=group)


def _is_meant(entry: Node, machine: Machine) -> bool:
    """Whether ``includes`` and ``excludes`` of *entry* let it count: all of one, none of other."""
    wanted, unwanted = (tuple(_holds(entry[field], machine)) for field in ("includes", "excludes"))
    return all(wanted) and not any(unwanted)


def _holds(condition: Node, machine: Machine) -> Iterator[bool]:
    _only(condition, _CONDITION_FIELDS)
    if arches := condition["arches"].texts():
        yield _ARCHITECTURES[machine.name][0] in arches
    for name in condition["caps"].texts():
        yield parse_capability(name) in machine.capabilities
    if condition["minKernel"].present:
        match = _VERSION.fullmatch(condition["minKernel"].text())
        if match is None:
            raise condition["minKernel"].wrong("a kernel such as 4.8")
        yield machine.kernel >= (int(match[1]), int(match[2]))


def _verdict(entry: Node, action: str, error: str) -> int:
    """What the field *action* of *entry* says, with the error under *error* or *error*Ret."""
    name, named, number = entry[action].text(), entry[error], entry[f"{error}Ret"]
    if name not in _ACTIONS:
        raise entry[action].wrong(f"one of {', '.join(_ACTIONS)}")
    code = errno.EPERM
    if named.present:
        found = getattr(errno, named.text(), None)
        if not isinstance(found, int):
            raise named.wrong("the name of an error, such as EPERM")
        code = found
    elif number.present:
        if type(number.value) is not int or not 0 <= number.value < _MOST_ERRNO:
            raise number.wrong("an error number")
        code = number.value
    return _ACTIONS[name] | (code if name == "SCMP_ACT_ERRNO" else 0)


def _condition(node: Node) -> _Condition:
    _only(node, _ARGUMENT_FIELDS)
    op = node["op"].text()
    if op not in _TESTS:
        raise node["op"].wrong(f"one of {', '.join(_TESTS)}")
    index, value = node["index"], _word(node["value"])
    if type(index.value) is not int or not 0 <= index.value < 6:
        raise index.wrong("an argument, 0 to 5")
    second = _word(node["valueTwo"]) if node["valueTwo"].present else 0
    if op == "SCMP_CMP_MASKED_EQ":
        return _Condition(index=index.value, op=op, value=second & value, mask=value)
    return _Condition(index=index.value, op=op, value=value, mask=(1 << 64) - 1)


def _word(node: Node) -> int:
    if type(node.value) is not int or not 0 <= node.value < 1 << 64:
        raise node.wrong("a number of 64 bits")
    return node.value


def _only(node: Node, known: frozenset[str]) -> None:
    """Raise ImageError for a field that is not *known*: a slip must not open a hole."""
    if not node.present:
        return
    if not isinstance(node.value, dict):
        raise node.wrong("an object")
    for field in node.value:
        if field not in known:
            raise node[field].wrong(f"known: there are {', '.join(sorted(known))}")


def _block(number: int, rules: list[_Rule], default: int) -> list[Instruction]:
    """What is decided of the call *number* by *rules*, in their order."""
    lines: list[Instruction] = []
    for rule in rules:
        lines += [*_tested(rule.conditions), (_RETURN, 0, 0, rule.verdict)]
    lines.append((_RETURN, 0, 0, default))
    return [(_JEQ, 1, 0, number), (_JUMP, 0, 0, len(lines)), *lines]


def _tested(conditions: tuple[_Condition, ...]) -> list[Instruction]:
    """The conditions, after which comes a return; where one fails, what is behind that return."""
    tests = [_TESTS[each.op](each) for each in conditions]
    length = sum(map(len, tests))
    lines: list[Instruction] = []
    for test in tests:
        end = len(lines) + len(test)
        for code, true, false, operand in test:
            to = {_FAIL: length - len(lines), _HOLD: end - len(lines) - 1}
            lines.append((code, to.get(true, true), to.get(false, false), operand))
    return lines


def _halves(condition: _Condition) -> tuple[Instruction, Instruction, int, int]:
    """Load the high word, load the low word, and what they are compared with."""
    at = 16 + 8 * condition.index
    high, low = condition.value >> _HIGH, condition.value & _LOW
    return (_LOAD, 0, 0, at + 4), (_LOAD, 0, 0, at), high, low


def _equal(condition: _Condition) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition)
    mask_high = (_AND, 0, 0, condition.mask >> _HIGH)
    mask_low = (_AND, 0, 0, condition.mask & _LOW)
    return [
        *(load_high, mask_high, (_JEQ, 0, _FAIL, high)),
        *(load_low, mask_low, (_JEQ, 0, _FAIL, low)),
    ]


def _unequal(condition: _Condition) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition)
    return [load_high, (_JEQ, 0, _HOLD, high), load_low, (_JEQ, _FAIL, 0, low)]


def _above(condition: _Condition, *, last: int = _JGT) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition)
    first = [load_high, (_JGT, _HOLD, 0, high), (_JEQ, 0, _FAIL, high)]
    return [*first, load_low, (last, 0, _FAIL, low)]


def _below(condition: _Condition, *, last: int = _JGE) -> list[Instruction]:
    load_high, load_low, high, low = _halves(condition)
    first = [load_high, (_JGT, _FAIL, 0, high), (_JEQ, 0, _HOLD, high)]
    return [*first, load_low, (last, _FAIL, 0, low)]


_TESTS: Mapping[str, Callable[[_Condition], list[Instruction]]] = {
    "SCMP_CMP_EQ": _equal,
    "SCMP_CMP_MASKED_EQ": _equal,
    "SCMP_CMP_NE": _unequal,
    "SCMP_CMP_GT": _above,
    "SCMP_CMP_GE": lambda condition: _above(condition, last=_JGE),
    "SCMP_CMP_LT": _below,
    "SCMP_CMP_LE": lambda condition: _below(condition, last=_JGT),
}
