"""Runs steps, one after the other, in the calling process.

The readable half of the Python executor (``keeper`` is the other): any architecture, no compiler.
Between clone and exec it runs in a child whose memory is a copy of the caller's, so it keeps to
what needs no locks: kernel calls, and a report in shared memory that the caller reads.
"""

import fcntl
import mmap
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EPERM
from pathlib import Path
from typing import Any

from runtime import syscalls
from runtime.container.launch.program import Report
from runtime.container.steps import Argument, Plan, Slot, Step
from runtime.container.ulimits import UNLIMITED
from runtime.errors import StepError, SyscallError

_NONE = -1
_FAILURE = struct.Struct("=iii")
_TIME = struct.Struct("=Q")
_ENTERED_AT, _ENGINE_AT, _CLONED_AT, _MARKS_AT = 12, 16, 24, 32


class SharedReport:
    """What the interpreter tells of a plan, in memory that it shares with its owner."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shared = mmap.mmap(-1, _MARKS_AT + _TIME.size * len(plan.inside))
        self.fail(_NONE, 0, 0)

    def begin(self) -> None:
        """The executor runs."""
        self._note_time(_ENGINE_AT)

    def cloned(self) -> None:
        """The clone has returned."""
        self._note_time(_CLONED_AT)

    def mark(self, index: int) -> None:
        """Step *index* of the inside part has returned."""
        self._note_time(_MARKS_AT + _TIME.size * index)

    def fail(self, index: int, errno: int, part: int) -> None:
        """Step *index* of *part* failed with *errno*."""
        _FAILURE.pack_into(self._shared, 0, index, errno, part)

    def enter(self, pid: int) -> None:
        """The process *pid* has entered the container."""
        struct.pack_into("=i", self._shared, _ENTERED_AT, pid)

    def entered(self) -> int:
        """The pid of the process that has entered the container; 0 if there is none."""
        (pid,) = struct.unpack_from("=i", self._shared, _ENTERED_AT)
        return int(pid)

    def read(self) -> Report:
        """All that was told so far."""
        index, errno, part = _FAILURE.unpack_from(self._shared, 0)
        marks = {"engine": self._time(_ENGINE_AT), "engine.clone": self._time(_CLONED_AT)}
        for position, step in enumerate(self._plan.inside):
            if step.phase is not None:
                marks[step.phase] = self._time(_MARKS_AT + _TIME.size * position)
        return Report(
            failure=None if index == _NONE else (part, index, errno),
            marks_ns={phase: at_ns for phase, at_ns in marks.items() if at_ns},
        )

    def _note_time(self, at: int) -> None:
        _TIME.pack_into(self._shared, at, time.monotonic_ns())

    def _time(self, at: int) -> int:
        (at_ns,) = _TIME.unpack_from(self._shared, at)
        return int(at_ns)


def run_steps(
    steps: tuple[Step, ...],
    *,
    slots: dict[str, int] | None = None,
    returned: Callable[[int], None] = lambda _: None,
) -> None:
    """Do *steps* in order. Returns only if none of them is an exec.

    *slots* are descriptors that are open already. Raises StepError with the index, after closing
    what the steps have opened.
    """
    given = {} if slots is None else slots
    slots = dict(given)
    try:
        _run_each(steps, slots, returned)
    except StepError:
        for name in slots.keys() - given.keys():
            with suppress(OSError):
                os.close(slots[name])
        raise


def _run_each(
    steps: tuple[Step, ...], slots: dict[str, int], returned: Callable[[int], None]
) -> None:
    passed_over = 0
    for index, step in enumerate(steps):
        if passed_over:
            passed_over -= 1
            continue
        try:
            _do(step, slots)
        except OSError as error:
            passed_over = _tolerate(step, index, error.errno or 0)
        except SyscallError as error:
            passed_over = _tolerate(step, index, error.errno)
        returned(index)


def _tolerate(step: Step, index: int, errno: int) -> int:
    """How many steps are passed over, if the failure is one that is allowed."""
    if errno not in step.allow:
        raise step_error(step, index, errno)
    return step.skips


def step_error(step: Step, index: int, errno: int) -> StepError:
    """The error that says which step of a plan the kernel refused."""
    remedy = _REMEDIES.get(errno)
    if (step.call, errno) == ("execveat", EPERM):
        remedy = "let the system call profile allow execveat, execve, write and exit_group"
    words = (a.name if isinstance(a, Slot) else a for a in step.args)
    subject = next((a for a in words if isinstance(a, str) and a), str(step.args[:1]))
    return StepError(errno, step.call, subject, index=index, reason=step.reason, remedy=remedy)


_REMEDIES: Mapping[int, str] = {
    1: "isoscope must run as root for containers, and not inside another container's limits",
    7: "the command and its environment are longer than the kernel takes: shorten them",
    12: "the machine is out of memory",
    16: "on cgroup v2 a group that holds processes hands nothing down: start it in another group",
    20: "a file stands where a directory must be, or the other way round: look at the image",
    28: "the file system is full: free space, then try again",
    38: "the kernel is too old for this call",
    40: "the image has a symbolic link where a directory must be",
}
"""By errno: EPERM, E2BIG, ENOMEM, EBUSY, ENOTDIR, ENOSPC, ENOSYS, ELOOP."""


def _do(step: Step, slots: dict[str, int]) -> None:
    arguments = [slots[a.name] if isinstance(a, Slot) else a for a in step.args]
    if step.call == "close":
        for name in [a.name for a in step.args if isinstance(a, Slot)]:
            del slots[name]
    result = (_CALLS.get(step.call) or _OF_THE_CALLER[step.call])(*arguments)
    if step.opens is not None:
        slots[step.opens] = result


def _write(target: Argument, data: bytes | str) -> None:
    raw = data.encode() if isinstance(data, str) else data
    if isinstance(target, int):
        os.write(target, raw)
        return
    fd = os.open(str(target), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, raw)
    finally:
        os.close(fd)


def _chown(path: str, uid: int, gid: int) -> None:
    os.chown(path, uid, gid, follow_symlinks=False)


def _setrlimit(number: int, soft: int, hard: int) -> None:
    unlimited = resource.RLIM_INFINITY  # -1 to Python, all ones to the kernel
    bounds = [unlimited if bound == UNLIMITED else bound for bound in (soft, hard)]
    resource.setrlimit(number, (bounds[0], bounds[1]))


def _dup3(fd: int, target: int, flags: int) -> None:
    os.dup2(fd, target, inheritable=not flags)


def _socket(family: int, kind: int, protocol: int) -> int:
    return socket.socket(family, kind, protocol).detach()


def _sendmsg(connection: int, words: bytes, passed: int) -> None:
    line = socket.socket(fileno=connection)
    try:
        socket.send_fds(line, [words], [passed])
    finally:
        line.detach()


def _signal(number: str, action: str) -> None:
    signal.signal(signal.Signals[number], signal.Handlers[action])


def _symlink(target: str, path: str) -> None:
    Path(path).symlink_to(target)


_CALLS: Mapping[str, Callable[..., Any]] = {
    "capset": syscalls.capset,
    "chdir": os.chdir,
    "chown": _chown,
    "close": os.close,
    "chroot": os.chroot,
    "dup3": _dup3,
    "execveat": syscalls.execveat,
    "faccessat2": syscalls.faccessat2,
    "fchdir": os.fchdir,
    "fchown": os.fchown,
    "fcntl": fcntl.fcntl,
    "ioctl": fcntl.ioctl,
    "keyctl": syscalls.keyctl,
    "memfd_create": os.memfd_create,
    "mkdir": os.mkdir,
    "mknod": os.mknod,
    "mount": syscalls.mount,
    "mount_setattr": syscalls.mount_setattr,
    "move_mount": syscalls.move_mount,
    "open_tree": syscalls.open_tree,
    "openat2": syscalls.openat2,
    "pivot_root": syscalls.pivot_root,
    "prctl": syscalls.prctl,
    "read": os.read,
    "rmdir": os.rmdir,
    "seccomp": syscalls.seccomp,
    "sendmsg": _sendmsg,
    "setdomainname": syscalls.setdomainname,
    "sethostname": syscalls.sethostname,
    "setgroups": os.setgroups,
    "setns": syscalls.setns,
    "setresgid": os.setresgid,
    "setresuid": os.setresuid,
    "setrlimit": _setrlimit,
    "setsid": os.setsid,
    "signal": _signal,
    "socket": _socket,
    "symlink": _symlink,
    "umask": os.umask,
    "umount2": syscalls.umount2,
    "unshare": syscalls.unshare,
    "write": _write,
}
"""Every call that a step may name."""

_OF_THE_CALLER: Mapping[str, Callable[..., Any]] = {
    "bpf_prog_attach": syscalls.bpf_prog_attach,
    "bpf_prog_load": syscalls.bpf_prog_load,
}
"""Calls of steps that only the caller takes, so that no other executor need know them."""
