"""Starts the executor of a plan, and holds on to the process that it makes.

The executor is the workload's parent: it waits for it and tells how it ended, and it kills it when
we go, by whatever death. We hold the workload by its process descriptor (pidfd), by which it is
waited for and killed without a race on its number, and the executor by a socket.
"""

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from enum import Enum
from errno import ENOENT
from typing import Protocol

from runtime.container.launch import compiled
from runtime.container.launch.compiled import CompiledExecution
from runtime.container.launch.interpreter import step_error
from runtime.container.launch.keeper import PythonExecution
from runtime.container.launch.program import (
    CLONE,
    CONSOLE,
    DIRECTORY,
    GATE,
    INIT,
    JOIN,
    OWNER,
    STATUS,
    Report,
)
from runtime.container.steps import WAITING, Plan
from runtime.errors import RuntimeFault, SyscallError
from runtime.waiting import readable

KILL_LIMIT_S = 30.0
"""After this a killed process is taken to wait in the kernel for something that does not come."""

START_LIMIT_S = 30.0
"""After this a process that has not come to its program is taken to be stopped by somebody."""

_NUMBER = struct.Struct("=i")
_ERRNO = struct.Struct("=i")
_TRYING = b"E"
_MOST_SAID = 16
_KEEP, _LEAVE = b"K", b"L"
_KILLED = 128 + signal.SIGKILL
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class Executor(Enum):
    """What runs a plan: ``executor.c``, or the interpreter of steps in a clone of ourselves."""

    COMPILED = "compiled"
    PYTHON = "python"


class CommandNotRunnable(RuntimeFault):
    """The container stands, but there is no such program in it; *status* is what a shell gives."""

    def __init__(self, name: str, *, status: int) -> None:
        why = "not found in the image" if status == NOT_FOUND else "not executable"
        super().__init__(f"cannot run {name!r}: {why}")
        self.status = status


class Process:
    """A started workload: its pid, how to wait for it, when its steps returned.

    *executor* is the pid of its parent.
    """

    def __init__(
        self, pid: int, *, pidfd: int, executor: int, owner: int, marks_ns: Mapping[str, int]
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.executor = executor
        self._owner = owner
        self._marks_ns = marks_ns
        self._status: int | None = None

    def marks_ns(self) -> Mapping[str, int]:
        """Phase -> CLOCK_MONOTONIC, of the phases that starting went through."""
        return self._marks_ns

    def poll(self, timeout_s: float | None = 0) -> int | None:
        """The exit status (128+n for signal n), or None if it still runs after *timeout_s*."""
        if self._status is None and readable(self.pidfd, timeout_s=timeout_s):
            said = os.read(self._owner, _NUMBER.size)
            os.waitpid(self.executor, 0)
            # An executor that was killed took it along and could not say so.
            self._status = _NUMBER.unpack(said)[0] if said else _KILLED
        return self._status

    def kill(self) -> None:
        """SIGKILL it, and have it reaped. A container's init takes all its processes along.

        Raises RuntimeFault if it does not end.
        """
        if self._status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            if self.poll(KILL_LIMIT_S) is None:
                raise RuntimeFault(
                    f"process {self.pid} was killed and does not end; "
                    f"what it waits for: cat /proc/{self.pid}/stack"
                )

    def keep(self) -> None:
        """Let it live on when we go; the executor stays, and writes down how it ended."""
        with suppress(BrokenPipeError):  # it has ended already
            os.write(self._owner, _KEEP)
        self._give_up()

    def leave(self) -> None:
        """Let it live on without an executor: whoever adopts orphans is told of its end.

        Only for a plan without the step by which it dies with whoever started it.
        """
        os.write(self._owner, _LEAVE)
        os.waitpid(self.executor, 0)
        self._give_up()

    def close(self) -> None:
        """Kill what still runs, then give the descriptors back; nothing if it lives on."""
        if self._owner >= 0:
            try:
                self.kill()
            finally:
                self._give_up()

    def _give_up(self) -> None:
        os.close(self.pidfd)
        os.close(self._owner)
        self.pidfd = self._owner = -1


def start(  # noqa: PLR0913 - descriptors, each with its own meaning
    plan: Plan,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    init: int = -1,
    gate: int = -1,
    console: int = -1,
    directory: int = -1,
    executor: Executor | None = None,
) -> Process:
    """Clone, run the plan's inside, exec. Returns once the program runs.

    *init* is the process descriptor of the container that the plan joins, *gate* what the plan
    waits for (then this returns before the exec), *console* a connected stream socket on which it
    sends the master of its terminal, *directory* where the end is written down.
    *executor* is chosen by what this machine has unless it is given; the one in Python needs a
    caller with a single thread.

    Raises StepError for a refused step, CommandNotRunnable if there is no program to become,
    RuntimeFault if the process did not get so far.
    """
    chosen = executor or (Executor.PYTHON if compiled.obstacle() else Executor.COMPILED)
    given = {0: stdin, 1: stdout, 2: stderr, INIT: init, GATE: gate}
    given |= {CONSOLE: console, DIRECTORY: directory}
    with ExitStack() as undo:
        run = undo.enter_context(EXECUTIONS[chosen](plan, writes_end=directory >= 0))
        status, status_theirs = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, status)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ending = undo.enter_context(ExitStack())
        ending.callback(ours.close)
        try:
            descriptors = {number: fd for number, fd in given.items() if fd >= 0}
            pid = run.spawn(descriptors | {STATUS: status_theirs, OWNER: theirs.fileno()})
        finally:
            os.close(status_theirs)
            theirs.close()
        ending.callback(_end, pid, ours)
        said = _listen(status)
        exec_ns = time.monotonic_ns()
        number, pidfd = _introduced(ours) if said in {_TRYING, WAITING} else (-1, -1)
        if pidfd < 0:
            ending.close()
            raise _error(plan, run.report(), said)
        ending.pop_all()
        marks_ns = dict(run.report().marks_ns)
    if said == _TRYING:
        marks_ns["exec"] = exec_ns
    return Process(number, pidfd=pidfd, executor=pid, owner=ours.detach(), marks_ns=marks_ns)


class _Execution(AbstractContextManager["_Execution"], Protocol):
    """One plan in the hands of an executor."""

    def spawn(self, descriptors: Mapping[int, int]) -> int:
        """Start the executor with *descriptors*, number there -> number here; its pid."""

    def report(self) -> Report:
        """What it has told so far."""


EXECUTIONS: Mapping[Executor, Callable[..., _Execution]] = {
    Executor.COMPILED: CompiledExecution,
    Executor.PYTHON: PythonExecution,
}
"""What takes a plan, and whether the end is written down, and is the executor of it."""


def _introduced(ours: socket.socket) -> tuple[int, int]:
    """The pid and the process descriptor of what the executor made; both -1 if nothing."""
    room = socket.CMSG_LEN(_NUMBER.size)
    said, ancillary, _, _ = ours.recvmsg(_NUMBER.size, room, socket.MSG_CMSG_CLOEXEC)
    if not ancillary:
        return -1, -1
    return _NUMBER.unpack(said)[0], _NUMBER.unpack(ancillary[0][2])[0]


def _end(executor: int, ours: socket.socket) -> None:
    """Hang up, upon which the executor kills what it made, and reap it."""
    ours.close()
    os.waitpid(executor, 0)


def _error(plan: Plan, report: Report, said: bytes) -> RuntimeFault:
    """Why no workload runs: as the stub said, else the step that failed, else that it died."""
    if said[:1] == _TRYING and len(said) == 1 + _ERRNO.size:
        (errno,) = _ERRNO.unpack(said[1:])
        words = plan.inside[-1].args[1]
        argv = words[words.index("") + 1 :] if isinstance(words, tuple) else ("the command",)
        status = NOT_FOUND if errno == ENOENT else NOT_EXECUTABLE
        return CommandNotRunnable(str(argv[0]), status=status)
    if report.failure is None:
        return RuntimeFault("the process was ended before its program ran")
    part, index, errno = report.failure
    if part == CLONE:
        return SyscallError(errno, "clone", f"{plan.clone_flags:#x}")
    return step_error((plan.join if part == JOIN else plan.inside)[index], index, errno)


def _listen(fd: int) -> bytes:
    """What the child says until it execs, waits or dies; too much, or too late, is nothing."""
    said = b""
    deadline_ns = time.monotonic_ns() + int(START_LIMIT_S * 1e9)
    while len(said) <= _MOST_SAID and said != WAITING:
        left_s = (deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0 or not readable(fd, timeout_s=left_s):
            return b""
        chunk = os.read(fd, _MOST_SAID)
        if not chunk:
            return said
        said += chunk
    return said if said == WAITING else b""
