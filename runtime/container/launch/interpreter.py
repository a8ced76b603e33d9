"""Runs steps, one after the other, in the calling process.

The readable executor: any architecture, no compiler. Between clone and exec it runs in a child
whose memory is a copy of the caller's, so it keeps to what needs no locks: kernel calls, and a
report in shared memory that the caller reads.
"""

import fcntl
import mmap
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime import syscalls
from runtime.container.steps import Argument, Slot, Step
from runtime.errors import StepError, SyscallError

_HEADER = struct.Struct("=iii")
_NONE = -1

JOIN, INSIDE = 0, 1
"""Which part of the plan the report speaks of."""


class Report:
    """What the child tells through shared memory: the failing step, and when each returned.

    Times are nanoseconds of CLOCK_MONOTONIC, which parent and child share; 0 is "not reached".
    """

    def __init__(self, steps: int) -> None:
        self._shared = mmap.mmap(-1, _HEADER.size + 8 * max(steps, 1))
        _HEADER.pack_into(self._shared, 0, _NONE, 0, 0)

    def mark(self, index: int) -> None:
        """Step *index* of the inside part has returned."""
        struct.pack_into("=Q", self._shared, _HEADER.size + 8 * index, time.monotonic_ns())

    def fail(self, index: int, errno: int, part: int) -> None:
        """Step *index* of *part* failed with *errno*."""
        _HEADER.pack_into(self._shared, 0, index, errno, part)

    def failure(self) -> tuple[int, int, int] | None:
        """Index, errno and part of the step that failed, or None."""
        index, errno, part = _HEADER.unpack_from(self._shared, 0)
        return None if index == _NONE else (index, errno, part)

    def marked_ns(self, index: int) -> int | None:
        """When step *index* of the inside part returned."""
        (at_ns,) = struct.unpack_from("=Q", self._shared, _HEADER.size + 8 * index)
        return at_ns or None


def run_steps(
    steps: tuple[Step, ...],
    *,
    slots: dict[str, int] | None = None,
    returned: Callable[[int], None] = lambda _: None,
) -> None:
    """Do *steps* in order. Returns only if none of them is an exec.

    *slots* are descriptors that are open already. Raises StepError with the index.
    """
    slots = {} if slots is None else slots
    for index, step in enumerate(steps):
        try:
            _do(step, slots)
        except OSError as error:
            _tolerate(step, index, error.errno or 0)
        except SyscallError as error:
            _tolerate(step, index, error.errno)
        returned(index)


def _tolerate(step: Step, index: int, errno: int) -> None:
    if errno not in step.allow:
        raise step_error(step, index, errno)


def step_error(step: Step, index: int, errno: int) -> StepError:
    """The error that says which step of a plan the kernel refused."""
    subject = next((a for a in step.args if isinstance(a, str) and a), str(step.args[:1]))
    return StepError(
        errno, step.call, subject, index=index, reason=step.reason, remedy=_REMEDIES.get(errno)
    )


_REMEDIES: Mapping[int, str] = {
    1: "isoscope must run as root for containers, and not inside another container's limits",
    7: "the command and its environment are longer than the kernel takes: shorten them",
    12: "the machine is out of memory",
    28: "the file system is full: free space, then try again",
    40: "the image has a symbolic link where a directory must be",
}
"""By errno: EPERM, E2BIG, ENOMEM, ENOSPC, ELOOP."""


def _do(step: Step, slots: dict[str, int]) -> None:
    arguments = [slots[a.name] if isinstance(a, Slot) else a for a in step.args]
    result = _CALLS[step.call](*arguments)
    if step.opens is not None:
        slots[step.opens] = result


def _write(target: Argument, data: bytes | str) -> None:
    raw = data.encode() if isinstance(data, str) else data
    if isinstance(target, int):
        os.pwrite(target, raw, 0)
        return
    fd = os.open(str(target), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, raw)
    finally:
        os.close(fd)


def _socket(family: int, kind: int, protocol: int) -> int:
    return socket.socket(family, kind, protocol).detach()


def _signal(number: str, action: str) -> None:
    signal.signal(signal.Signals[number], signal.Handlers[action])


def _symlink(target: str, path: str) -> None:
    Path(path).symlink_to(target)


_CALLS: Mapping[str, Callable[..., Any]] = {
    "capset": syscalls.capset,
    "chdir": os.chdir,
    "close": os.close,
    "chroot": os.chroot,
    "execveat": syscalls.execveat,
    "fcntl": fcntl.fcntl,
    "ioctl": fcntl.ioctl,
    "memfd_create": os.memfd_create,
    "mkdir": os.mkdir,
    "mknod": os.mknod,
    "mount": syscalls.mount,
    "openat2": syscalls.openat2,
    "pivot_root": syscalls.pivot_root,
    "prctl": syscalls.prctl,
    "rmdir": os.rmdir,
    "seccomp": syscalls.seccomp,
    "sethostname": syscalls.sethostname,
    "setgroups": os.setgroups,
    "setns": syscalls.setns,
    "setresgid": os.setresgid,
    "setresuid": os.setresuid,
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
