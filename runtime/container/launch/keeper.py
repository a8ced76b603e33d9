"""The executor in Python: what executor.c does, by the readable interpreter.

For machines without a C compiler, and to compare the two. It is a clone of the caller, so the
caller must have a single thread, and it stays as large as the caller is. It speaks to its owner
and ends as executor.c does; see there.
"""

import fcntl
import gc
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EINVAL
from typing import NoReturn, Self

from runtime import syscalls
from runtime.container.launch.compiled import RESET
from runtime.container.launch.interpreter import SharedReport, run_steps
from runtime.container.launch.program import (
    CLONE,
    CONSOLE,
    DIRECTORY,
    FIRST_FREE,
    GIVEN,
    INIT,
    INSIDE,
    JOIN,
    OWNER,
    PROGRAM,
    STATUS,
    Report,
    dies_with_starter,
)
from runtime.container.steps import Plan
from runtime.errors import StepError, SyscallError

_NUMBER = struct.Struct("=i")
_NOT_STARTED, _KILLED = 127, 137


class PythonExecution:
    """One plan for a clone of this process, with the memory that it reports in."""

    def __init__(self, plan: Plan, *, writes_end: bool) -> None:
        self._plan = plan
        self._writes_end = writes_end
        self._shared = SharedReport(plan)

    def __enter__(self) -> Self:
        """Nothing has to be made ready."""
        return self

    def __exit__(self, *_: object) -> None:
        """The memory goes with its last user."""

    def spawn(self, descriptors: Mapping[int, int]) -> int:
        """Start it with *descriptors*, number there -> number here; its pid."""
        gc.disable()
        try:
            pid = syscalls.clone(0)
            if pid == 0:
                self._live(descriptors)
        finally:
            gc.enable()
        return pid

    def report(self) -> Report:
        """What it has told so far."""
        return self._shared.read()

    def _live(self, descriptors: Mapping[int, int]) -> NoReturn:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            os.setsid()
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            _own_descriptors(descriptors)
            _Keeper(self._plan, self._shared, writes_end=self._writes_end).live()
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
            os._exit(_NOT_STARTED)
        os._exit(0)


class _Keeper:
    """The parent of what a plan makes, from the clone to its end."""

    def __init__(self, plan: Plan, report: SharedReport, *, writes_end: bool) -> None:
        self._plan = plan
        self._report = report
        self._writes_end = writes_end
        self._dies = dies_with_starter(plan)
        self._self = _held(os.getpid())
        self._maker = _held(os.getppid())
        self._owner: socket.socket | None = socket.socket(fileno=OWNER)
        self._is_kept = False

    def live(self) -> None:
        """Make the process, wait for its end, tell and write down how it ended."""
        self._report.begin()
        pid = self._make()
        if pid == 0:
            os._exit(_NOT_STARTED)
        pidfd = os.pidfd_open(pid)
        if self._owner is None:
            _kill(pidfd)
        self._tell(pid, pidfd)
        status = self._end_of(pid, pidfd)
        if self._writes_end:
            with suppress(OSError):
                _write_down(status)
        self._tell(status)

    def _make(self) -> int:
        """The pid of the process that the plan made, our child; 0 if there is none."""
        try:
            pid = syscalls.clone(0 if self._plan.join else self._plan.clone_flags)
        except SyscallError as error:
            self._report.fail(0, error.errno, CLONE)
            return 0
        if pid == 0:
            self._child(self._enter if self._plan.join else self._become)
        syscalls.close_range(0, CONSOLE, 0)
        os.chdir("/")
        if self._plan.join:
            pidfd = os.pidfd_open(pid)
            self._end_of(pid, pidfd)
            os.close(pidfd)
            pid = self._report.entered()
        self._report.cloned()
        return pid

    def _child(self, part: Callable[[], None]) -> NoReturn:
        try:
            part()
        except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here
            self._report.fail(0, getattr(error, "errno", None) or EINVAL, CLONE)
        os._exit(_NOT_STARTED)

    def _enter(self) -> None:
        self._die_with_us()
        try:
            run_steps(self._plan.join, slots=dict(GIVEN))
        except StepError as error:
            self._report.fail(error.index, error.errno, JOIN)
            return
        pid = syscalls.clone(self._plan.clone_flags | syscalls.CLONE_PARENT)
        if pid == 0:
            os.close(INIT)
            self._become()
        self._report.enter(pid)
        os._exit(0)

    def _become(self) -> None:
        self._die_with_us()
        syscalls.close_range(PROGRAM, 0xFFFFFFFF, 0)
        _own_signals()
        try:
            run_steps(self._plan.inside, slots=dict(GIVEN), returned=self._report.mark)
        except StepError as error:
            self._report.fail(error.index, error.errno, INSIDE)
        os._exit(_NOT_STARTED)

    def _die_with_us(self) -> None:
        """Be killed when the keeper dies; it may have died before we could ask for that."""
        if self._dies:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            if select.select([self._self], [], [], 0)[0]:
                os._exit(_KILLED)

    def _end_of(self, pid: int, pidfd: int) -> int:
        """Wait until *pid* has ended, and reap it; its status as a shell gives it."""
        while True:
            owner = [] if self._owner is None else [self._owner.fileno(), self._maker]
            ready, _, _ = select.select([pidfd, *owner], [], [])
            if pidfd in ready:
                break
            if self._owner is not None and self._owner.fileno() in ready:
                self._listen_to_owner(self._owner, pidfd)
            else:  # a fork of it may hold the socket open when it has gone
                self._owner_went(pidfd)
        _, raw = os.waitpid(pid, syscalls.WALL)
        code = os.waitstatus_to_exitcode(raw)
        return 128 - code if code < 0 else code

    def _listen_to_owner(self, owner: socket.socket, pidfd: int) -> None:
        try:
            word = owner.recv(1)
        except ConnectionResetError:  # it hung up with something of ours unread
            word = b""
        if word == b"L":
            os._exit(0)
        if word == b"K":
            self._is_kept = True
        else:
            self._owner_went(pidfd)

    def _owner_went(self, pidfd: int) -> None:
        self._owner = None
        if not self._is_kept:
            _kill(pidfd)

    def _tell(self, value: int, pidfd: int = -1) -> None:
        if self._owner is not None:
            with suppress(OSError):
                socket.send_fds(self._owner, [_NUMBER.pack(value)], [] if pidfd < 0 else [pidfd])


def _held(pid: int) -> int:
    """The process descriptor of *pid*, out of the way of those that have their places."""
    pidfd = os.pidfd_open(pid)
    held = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(pidfd)
    return held


def _kill(pidfd: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _write_down(status: int) -> None:
    """Whole or not at all, and there after a crash: a temporary name, fsync, rename, fsync."""
    ended_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    text = json.dumps({"exit_status": status, "ended_ns": ended_ns}) + "\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(".end.json", flags, 0o600, dir_fd=DIRECTORY)
    os.write(file, text.encode())
    os.fsync(file)
    os.rename(".end.json", "end.json", src_dir_fd=DIRECTORY, dst_dir_fd=DIRECTORY)
    os.fsync(DIRECTORY)


def _own_descriptors(descriptors: Mapping[int, int]) -> None:
    """What *descriptors* say, and nothing else, is open: no step can reach what the caller had."""
    high = {target: os.dup(fd) for target, fd in descriptors.items()}
    while min(high.values()) < FIRST_FREE:
        high = {target: os.dup(fd) for target, fd in high.items()}
    for target in range(FIRST_FREE):
        if target in high:
            os.dup2(high[target], target, inheritable=target <= STATUS)
        else:
            with suppress(OSError):
                os.close(target)
    syscalls.close_range(FIRST_FREE, 0xFFFFFFFF, 0)


def _own_signals() -> None:
    """No handler, no mask, nothing ignored that Python ignores: what a program expects."""
    for number in RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
