"""Clones the process that becomes the workload, and holds on to it.

The parts of a start that are not the plan's: which descriptors the child gets, that it dies with
us, how it says that exec succeeded, and its process descriptor (pidfd), by which it is waited for
and killed without a race on its number.
"""

import gc
import os
import select
import signal
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from errno import ENOENT

from runtime import syscalls
from runtime.container.launch.interpreter import (
    INSIDE,
    JOIN,
    ProgramNotFound,
    Report,
    run_steps,
    step_error,
)
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, StepError

_STATUS, _ALIVE = 3, 4
"""Where the child finds the pipe that says "exec succeeded" by closing, and the one that says
"your starter is gone" by hanging up."""

_PID = struct.Struct("=i")
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CommandNotRunnable(RuntimeFault):
    """The container stands, but there is no such program in it; *status* is what a shell gives."""

    def __init__(self, name: str, *, status: int) -> None:
        why = "not found in the image" if status == NOT_FOUND else "not executable"
        super().__init__(f"cannot run {name!r}: {why}")
        self.status = status


class Process:
    """A started workload: its pid, how to wait for it, when its steps returned."""

    def __init__(
        self, pid: int, *, plan: Plan, report: Report, alive: int, cloned_ns: int, exec_ns: int
    ) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._plan = plan
        self._alive = alive
        self._report = report
        self._exec_ns = exec_ns
        self._cloned_ns = cloned_ns
        self._status: int | None = None

    def marks_ns(self) -> Mapping[str, int]:
        """Phase -> CLOCK_MONOTONIC, of the phases that starting went through."""
        marks = {"engine": self._cloned_ns, "exec": self._exec_ns}
        for index, step in enumerate(self._plan.inside):
            if step.phase is not None and (at_ns := self._report.marked_ns(index)) is not None:
                marks[step.phase] = at_ns
        return marks

    def poll(self, timeout_s: float | None = 0) -> int | None:
        """The exit status (128+n for signal n), or None if it still runs after *timeout_s*."""
        if self._status is None:
            ready, _, _ = select.select([self.pidfd], [], [], timeout_s)
            if ready:
                _, raw = os.waitpid(self.pid, 0)
                code = os.waitstatus_to_exitcode(raw)
                self._status = 128 - code if code < 0 else code
        return self._status

    def kill(self) -> None:
        """SIGKILL it and reap it. A container's init takes all its processes along."""
        if self._status is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.poll(None)

    def close(self) -> None:
        """Kill what still runs, then give the descriptors back."""
        self.kill()
        os.close(self.pidfd)
        os.close(self._alive)


def start(plan: Plan, *, stdin: int, stdout: int, stderr: int) -> Process:
    """Clone, run the plan's inside, exec. Returns once the program runs.

    Raises StepError for a refused step, CommandNotRunnable if there is no program to become.
    The process that calls this must have a single thread.
    """
    report = Report(len(plan.inside))
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
    gc.disable()
    try:
        pid = syscalls.clone(0 if plan.join else plan.clone_flags)
        if pid == 0:
            _child(plan, report, (stdin, stdout, stderr), status_write, alive_read)
        cloned_ns = time.monotonic_ns()
    finally:
        gc.enable()
        os.close(status_write)
        os.close(alive_read)
    said = _read_all(status_read)
    exec_ns = time.monotonic_ns()
    if plan.join:
        os.waitpid(pid, 0)  # the one that entered the container; the workload is our child too
        pid = _PID.unpack(said)[0] if len(said) == _PID.size else 0
    if (failure := report.failure()) is not None:
        if pid:
            os.waitpid(pid, 0)
        os.close(alive_write)
        raise _error(plan, failure)
    if not pid:
        os.close(alive_write)
        raise RuntimeFault("the container ended while a command was entering it")
    return Process(
        pid, plan=plan, report=report, alive=alive_write, cloned_ns=cloned_ns, exec_ns=exec_ns
    )


def _error(plan: Plan, failure: tuple[int, int, int]) -> RuntimeFault:
    index, errno, part = failure
    if index == len(plan.inside):
        argv = next(s.args[1] for s in plan.inside if s.call == "execve")
        name = argv[0] if isinstance(argv, tuple) else "the command"
        status = NOT_FOUND if errno == ENOENT else NOT_EXECUTABLE
        return CommandNotRunnable(str(name), status=status)
    step = (plan.join if part == JOIN else plan.inside)[index]
    if step.call == "execve":
        return CommandNotRunnable(str(step.args[0]), status=NOT_EXECUTABLE)
    return step_error(step, index, errno)


def _read_all(fd: int) -> bytes:
    """Everything until the last writer closes: at exec, or at the child's death."""
    with os.fdopen(fd, "rb") as pipe:
        return pipe.read()


def _child(
    plan: Plan, report: Report, stdio: tuple[int, int, int], status: int, alive: int
) -> None:
    """Become the workload, or report why not and exit. Never returns."""
    part = JOIN if plan.join else INSIDE
    try:
        _own_descriptors(stdio, status, alive)
        _own_signals()
        if plan.join:
            run_steps(plan.join)
            if pid := syscalls.clone(plan.clone_flags):
                os.write(_STATUS, _PID.pack(pid))
                os._exit(0)
            part = INSIDE
        if select.select([_ALIVE], [], [], 0)[0]:
            os._exit(1)  # the starter is gone already
        run_steps(plan.inside, returned=report.mark)
    except ProgramNotFound as error:
        report.fail(len(plan.inside), 13 if error.denied else ENOENT, part)
    except StepError as error:
        report.fail(error.index, error.errno, part)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here
        report.fail(0, getattr(error, "errno", None) or 22, part)
    os._exit(NOT_FOUND)


def _own_descriptors(stdio: tuple[int, int, int], status: int, alive: int) -> None:
    """0, 1, 2 are the workload's, 3 and 4 are ours until exec, and nothing else is open.

    Closed now and not at exec, so that no step can reach what the caller had open, not even a
    working directory of ``/proc/self/fd/N``.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    high = [os.dup(fd) for fd in (*stdio, status, alive)]
    while min(high) <= _ALIVE:
        high = [os.dup(fd) for fd in high]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target < _STATUS)
    syscalls.close_range(_ALIVE + 1, 0xFFFFFFFF, 0)


def _own_signals() -> None:
    """No handler, no mask, nothing ignored that Python ignores: what a program expects."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
