"""A plan as the executor reads it: a header, flat records, the data they point to (pure).

A record is one system call by its number, with six arguments; a step is one record or, where it
names a file to write, three. Pointers are offsets into the data, which the executor turns into
addresses where the relocations say so. The executor writes its report into the same memory.
``executor.c`` declares the same fields.
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime import syscalls
from runtime.container.steps import Plan, Slot, Step
from runtime.container.syscall_table import numbers
from runtime.errors import SpecError

STATUS, INIT, GATE, CONSOLE, PROGRAM, OWNER, DIRECTORY, FIRST_FREE = range(3, 11)
"""Descriptors of an executor beside the workload's own 0, 1 and 2: the pipe on which is told how
the exec went (see ``programs.stub``), the process descriptor of the container that is joined, what
starts it, the socket for a terminal's master, this program, the socket to the owner,
where the end is written down."""

GIVEN: Mapping[str, int] = {
    "status": STATUS, "init": INIT, "gate": GATE, "console": CONSOLE,
}  # fmt: skip
"""The slots that are open before the first step of a plan."""

JOIN, INSIDE, CLONE = 0, 1, 2
"""Which part of a plan failed."""

_HEADER = struct.Struct("=8s7Q3q2i2Q")
_REPORT = struct.Struct("=3q2i2Q")
_REPORT_AT = _HEADER.size - _REPORT.size
_RECORD = struct.Struct("=II6Q6BBB3HHQ")
_MARKED_AT, _RETURNED_AT = _RECORD.size - 10, _RECORD.size - 8
_ARGUMENTS = 6
_MAGIC = b"isoscope"
_DIES, _WRITES = 1, 2
_NO_SLOT = 0xFF
_NONE = -1
_MOST_ALLOWED = 3
_WORD = (1 << 64) - 1

_CWD = -100  # AT_FDCWD, openat(2)
_AT_REMOVEDIR = 0x200
_AT_SYMLINK_NOFOLLOW = 0x100
_ONE_RIGHT_BYTES, _SOL_SOCKET, _SCM_RIGHTS = 20, 1, 1  # unix(7), cmsg(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The bytes of a program, and where in them the executor notes when a phase was reached."""

    image: bytes
    phases_at: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an executor tells. Times are nanoseconds of CLOCK_MONOTONIC.

    *failure* is part, step and errno; *marks_ns* when each phase was reached.
    """

    failure: tuple[int, int, int] | None
    marks_ns: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Vector:
    """Null-terminated array of pointers to strings."""

    strings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Filter:
    """``struct sock_fprog``: a count and a pointer to the instructions (seccomp(2))."""

    instructions: bytes


@dataclass(frozen=True, slots=True)
class _Room:
    """Bytes that the kernel writes to."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Message:
    """``struct msghdr``: pointers to the words and to what goes with them (sendmsg(2))."""

    words: bytes
    control: bytes


_Pointed = bytes | _Vector | _Filter | _Room | _Message
_Lowered = int | Slot | _Pointed | None
_Call = tuple[str, Sequence[_Lowered]]


def assemble(plan: Plan, machine: str, *, writes_end: bool = False) -> Program:
    """The program that does the join and inside parts of *plan* on *machine* (uname(2)'s name).

    With *writes_end* the end is written down in the directory at ``DIRECTORY``. Raises KeyError
    for a machine without a system call table.
    """
    making = _Making(numbers(machine))
    for index, step in enumerate(plan.join):
        making.add(step, index)
    joins = making.count
    for index, step in enumerate(plan.inside):
        making.add(step, index)
    flags = (_DIES if dies_with_starter(plan) else 0) | (_WRITES if writes_end else 0)
    return making.whole(clone_flags=plan.clone_flags, joins=joins, flags=flags)


def dies_with_starter(plan: Plan) -> bool:
    """Whether the workload is to be killed when whoever started it goes."""
    return any(
        step.call == "prctl" and step.args[0] == syscalls.PR_SET_PDEATHSIG for step in plan.inside
    )


def read_report(program: Program, image: bytes) -> Report:
    """What the executor wrote into *image*, which was *program*."""
    part, step, errno, _, _, engine_ns, cloned_ns = _REPORT.unpack_from(image, _REPORT_AT)
    marks = {"engine": engine_ns, "engine.clone": cloned_ns}
    for phase, at in program.phases_at.items():
        (marks[phase],) = struct.unpack_from("=Q", image, at)
    return Report(
        failure=None if step == _NONE else (part, step, errno),
        marks_ns={phase: at_ns for phase, at_ns in marks.items() if at_ns},
    )


class _Making:
    """A program that grows by steps. Its two parts lie one behind the other when it is whole."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self._records = bytearray()
        self._data = bytearray()
        self._pointers: list[int] = []
        self._pointers_in_data: list[int] = []
        self._slots: dict[str, int] = {}
        self._known: dict[bytes, int] = {}
        self._phases_at: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self._records) // _RECORD.size

    def add(self, step: Step, index: int) -> None:
        """Append *step*, the one with *index* of its part."""
        if step.call == "write" and isinstance(step.args[0], str):
            self._add_write(step, index)
        else:
            name, arguments = _CALLS[step.call](*step.args)
            self._add(step, index, name, arguments, opens=step.opens, skip=step.skips)
        if step.phase is not None:
            at = len(self._records) - _RECORD.size
            struct.pack_into("=H", self._records, at + _MARKED_AT, 1)
            self._phases_at[step.phase] = _HEADER.size + at + _RETURNED_AT

    def whole(self, *, clone_flags: int, joins: int, flags: int) -> Program:
        """All of it: records, data, relocations; *joins* records are of the join part."""
        data_at = _HEADER.size + len(self._records)
        relocations = [_HEADER.size + at for at in self._pointers]
        relocations += [data_at + at for at in self._pointers_in_data]
        header = _HEADER.pack(
            _MAGIC, clone_flags, joins, self.count - joins, len(relocations),
            data_at + len(self._data), data_at, flags, 0, _NONE, 0, 0, 0, 0, 0,
        )  # fmt: skip
        table = struct.pack(f"={len(relocations)}Q", *relocations)
        return Program(
            image=b"".join((header, self._records, self._data, table)), phases_at=self._phases_at
        )

    def _add_write(self, step: Step, index: int) -> None:
        path, data = step.args
        raw, file = _raw(data), Slot(_FILE)
        opening = (_CWD, _text(path), os.O_WRONLY | os.O_CLOEXEC)
        self._add(step, index, "openat", opening, opens=_FILE, skip=2 + step.skips)
        self._add(step, index, "write", (file, raw, len(raw)))
        self._add(step, index, "close", (file,))

    def _add(
        self,
        step: Step,
        index: int,
        name: str,
        arguments: Sequence[_Lowered],
        *,
        opens: str | None = None,
        skip: int = 0,
    ) -> None:
        """One record; if it fails as allowed, so many after it are passed over."""
        values, slots = [0] * _ARGUMENTS, [_NO_SLOT] * _ARGUMENTS
        for position, argument in enumerate(arguments):
            if isinstance(argument, int):
                values[position] = argument & _WORD
            elif isinstance(argument, Slot):
                if argument.name in GIVEN:
                    values[position] = GIVEN[argument.name]
                else:
                    slots[position] = self._slots[argument.name]
            elif argument is not None:
                values[position] = self._pointer(argument)
                self._pointers.append(len(self._records) + 8 + 8 * position)
        slot = _NO_SLOT if opens is None else self._slot(opens)
        allowed = (*step.allow, *(0,) * (_MOST_ALLOWED - len(step.allow)))
        self._records += _RECORD.pack(
            self._numbers[name], index, *values, *slots, slot, skip, *allowed, 0, 0
        )

    def _slot(self, name: str) -> int:
        """The place of the descriptor *name*, a new one if it has none yet."""
        slot = self._slots.setdefault(name, len(self._slots))
        if slot == _NO_SLOT:
            raise SpecError(
                f"more than {_NO_SLOT} mounts and files to hold open", remedy="bind fewer places"
            )
        return slot

    def _pointer(self, argument: _Pointed) -> int:
        """Where in the data *argument* is, which is written if it is not there yet."""
        if isinstance(argument, bytes):
            known = self._known.get(argument)
            if known is None:
                known = self._known[argument] = self._append(argument)
            return known
        if isinstance(argument, _Room):
            return self._append(bytes(argument.size_bytes))
        if isinstance(argument, _Filter):
            at = self._pointer(argument.instructions)
            return self._words((len(argument.instructions) // 8, at), pointers=(1,))
        if isinstance(argument, _Message):
            return self._message(argument)
        pointers = [self._pointer(string) for string in argument.strings]
        return self._words((*pointers, 0), pointers=range(len(pointers)))

    def _message(self, message: _Message) -> int:
        words, control = self._pointer(message.words), self._pointer(message.control)
        part = self._words((words, len(message.words)), pointers=(0,))
        return self._words((0, 0, part, 1, control, len(message.control), 0), pointers=(2, 4))

    def _words(self, words: Sequence[int], *, pointers: Sequence[int]) -> int:
        at = self._append(struct.pack(f"={len(words)}Q", *words))
        self._pointers_in_data.extend(at + 8 * position for position in pointers)
        return at

    def _append(self, raw: bytes) -> int:
        at = len(self._data)
        self._data += raw + bytes(-len(raw) % 8)
        return at


_FILE = "\0file"
"""The slot of a step that opens, writes and closes; no step can name it."""


def _text(argument: object) -> bytes:
    return os.fsencode(str(argument)) + b"\0"


def _text_or_null(argument: object) -> bytes | None:
    return _text(argument) if argument else None


def _raw(argument: object) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


def _same(name: str, texts: tuple[int, ...] = ()) -> Callable[..., _Call]:
    """The call *name* with the step's own arguments, of which those at *texts* are strings."""

    def lower(*arguments: _Lowered) -> _Call:
        return name, [_text(a) if at in texts else a for at, a in enumerate(arguments)]

    return lower


def _mount(source: str, target: str, fstype: str, flags: int, data: str) -> _Call:
    texts = (_text_or_null(source), _text(target), _text_or_null(fstype))
    return "mount", (*texts, flags, _text_or_null(data))


def _mount_setattr(
    tree: Slot,
    attributes: int,
    cleared: int = 0,
    propagation: int = 0,
    below: int = syscalls.AT_RECURSIVE,
) -> _Call:
    raw = struct.pack("=QQQQ", attributes, cleared, propagation, 0)
    return "mount_setattr", (tree, b"\0", syscalls.AT_EMPTY_PATH | below, raw, len(raw))


def _move_mount(tree: Slot, place: Slot) -> _Call:
    flags = syscalls.MOVE_MOUNT_F_EMPTY_PATH | syscalls.MOVE_MOUNT_T_EMPTY_PATH
    return "move_mount", (tree, b"\0", place, b"\0", flags)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> _Call:
    how = struct.pack("=QQQ", flags, 0, resolve)
    return "openat2", (directory, _text(path), how, len(how))


def _setgroups(groups: tuple[int, ...]) -> _Call:
    return "setgroups", (len(groups), struct.pack(f"={len(groups)}I", *groups) or None)


def _name(call: str) -> Callable[..., _Call]:
    def lower(name: str) -> _Call:
        raw = name.encode()
        return call, (raw, len(raw))

    return lower


def _setrlimit(resource: int, soft: int, hard: int) -> _Call:
    return "prlimit64", (0, resource, struct.pack("=QQ", soft & _WORD, hard & _WORD), None)


def _execveat(file: Slot, argv: tuple[str, ...], env: tuple[str, ...]) -> _Call:
    words, variables = (_Vector(tuple(map(_text, strings))) for strings in (argv, env))
    return "execveat", (file, b"\0", words, variables, syscalls.AT_EMPTY_PATH)


def _write(file: Slot, data: bytes | str) -> _Call:
    raw = _raw(data)
    return "write", (file, raw, len(raw))


def _sendmsg(file: Slot, words: bytes, passed: int) -> _Call:
    control = struct.pack("=Qiii4x", _ONE_RIGHT_BYTES, _SOL_SOCKET, _SCM_RIGHTS, passed)
    return "sendmsg", (file, _Message(words, control), 0)


def _signal(number: str, action: str) -> _Call:
    import signal  # noqa: PLC0415 - one plan in many asks for it

    handler = struct.pack("=QQQQ", signal.Handlers[action], 0, 0, 0)
    return "rt_sigaction", (signal.Signals[number], handler, None, 8)


_CALLS: Mapping[str, Callable[..., _Call]] = {
    "capset": lambda *sets: ("capset", syscalls.capability_sets(*sets)),
    "chdir": _same("chdir", (0,)),
    "chown": lambda path, uid, gid: (
        "fchownat",
        (_CWD, _text(path), uid, gid, _AT_SYMLINK_NOFOLLOW),
    ),
    "chroot": _same("chroot", (0,)),
    "close": _same("close"),
    "dup3": _same("dup3"),
    "execveat": _execveat,
    "faccessat2": lambda file, mode: ("faccessat2", (file, b"\0", mode, syscalls.AT_EMPTY_PATH)),
    "fchdir": _same("fchdir"),
    "fchown": _same("fchown"),
    "fcntl": _same("fcntl"),
    "ioctl": _same("ioctl"),
    "keyctl": _same("keyctl"),
    "memfd_create": _same("memfd_create", (0,)),
    "mkdir": lambda path, mode: ("mkdirat", (_CWD, _text(path), mode)),
    "mknod": lambda path, mode, device: ("mknodat", (_CWD, _text(path), mode, device)),
    "mount": _mount,
    "mount_setattr": _mount_setattr,
    "move_mount": _move_mount,
    "open_tree": _same("open_tree", (1,)),
    "openat2": _openat2,
    "pivot_root": _same("pivot_root", (0, 1)),
    "prctl": _same("prctl"),
    "read": lambda file, size: ("read", (file, _Room(size), size)),
    "rmdir": lambda path: ("unlinkat", (_CWD, _text(path), _AT_REMOVEDIR)),
    "sendmsg": _sendmsg,
    "seccomp": lambda code: ("seccomp", (syscalls.SECCOMP_SET_MODE_FILTER, 0, _Filter(code))),
    "setdomainname": _name("setdomainname"),
    "sethostname": _name("sethostname"),
    "setgroups": _setgroups,
    "setns": _same("setns"),
    "setresgid": _same("setresgid"),
    "setresuid": _same("setresuid"),
    "setrlimit": _setrlimit,
    "setsid": _same("setsid"),
    "signal": _signal,
    "socket": _same("socket"),
    "symlink": lambda target, path: ("symlinkat", (_text(target), _CWD, _text(path))),
    "umask": _same("umask"),
    "umount2": _same("umount2", (0,)),
    "unshare": _same("unshare"),
    "write": _write,
}
"""Every call that a step may name, as a system call."""
