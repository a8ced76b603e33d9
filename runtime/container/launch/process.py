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
from errno import EINVAL, ENOENT

from runtime import syscalls
from runtime.container.launch.interpreter import (
    INSIDE,
    JOIN,
    Report,
    run_steps,
    step_error,
)
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, StepError

_STATUS, _ALIVE, _INIT = 3, 4, 5
"""Where the child finds the pipe on which it is told how the exec went (see ``programs.stub``),
the one that says "your starter is gone" by hanging up, and the container it joins."""

START_LIMIT_S = 30.0
"""After this a process that has not come to its program is taken to be stopped by somebody."""

_PID = struct.Struct("=i")
_ERRNO = struct.Struct("=i")
_TRYING = b"E"
_MOST_SAID = 16
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


def start(plan: Plan, *, stdin: int, stdout: int, stderr: int, init: int = -1) -> Process:
    """Clone, run the plan's inside, exec. Returns once the program runs.

    *init* is the process descriptor of the container that the plan joins. Raises StepError for a
    refused step, CommandNotRunnable if there is no program to become, RuntimeFault if the process
    did not get so far. The process that calls this must have a single thread.
    """
    report = Report(len(plan.inside))
    status_read, status_write = os.pipe2(os.O_CLOEXEC)
    alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
    gc.disable()
    try:
        pid = syscalls.clone(0 if plan.join else plan.clone_flags)
        if pid == 0:
            ours = (stdin, stdout, stderr, status_write, alive_read)
            _child(plan, report, ours if init < 0 else (*ours, init))
        cloned_ns = time.monotonic_ns()
    finally:
        gc.enable()
        os.close(status_write)
        os.close(alive_read)
    said = _listen(status_read)
    exec_ns = time.monotonic_ns()
    if plan.join:
        pid = _pid_of_clone(pid, said)
        said = said[_PID.size :]
    if said != _TRYING:
        _end(pid)
        os.close(alive_write)
        raise _error(plan, report, said)
    return Process(
        pid, plan=plan, report=report, alive=alive_write, cloned_ns=cloned_ns, exec_ns=exec_ns
    )


def _pid_of_clone(entering: int, said: bytes) -> int:
    """The workload's pid, 0 if there is none; the process that entered has served."""
    _end(entering)
    return _PID.unpack_from(said)[0] if len(said) >= _PID.size else 0


def _end(pid: int) -> None:
    """Kill and reap our child *pid*, whatever state it is in."""
    if pid > 0:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _error(plan: Plan, report: Report, said: bytes) -> RuntimeFault:
    """Why no workload runs: as the stub said, else the step that failed, else that it died."""
    if said[:1] == _TRYING and len(said) == 1 + _ERRNO.size:
        (errno,) = _ERRNO.unpack(said[1:])
        words = plan.inside[-1].args[1]
        argv = words[words.index("") + 1 :] if isinstance(words, tuple) else ("the command",)
        status = NOT_FOUND if errno == ENOENT else NOT_EXECUTABLE
        return CommandNotRunnable(str(argv[0]), status=status)
    failure = report.failure()
    if failure is None:
        return RuntimeFault("the process was ended before its program ran")
    index, errno, part = failure
    return step_error((plan.join if part == JOIN else plan.inside)[index], index, errno)


def _listen(fd: int) -> bytes:
    """What the child says until it execs or dies; too much, or too late, counts as nothing."""
    said = b""
    deadline_ns = time.monotonic_ns() + int(START_LIMIT_S * 1e9)
    try:
        while len(said) <= _MOST_SAID:
            left_s = (deadline_ns - time.monotonic_ns()) / 1e9
            if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
                return b""
            chunk = os.read(fd, _MOST_SAID)
            if not chunk:
                return said
            said += chunk
    finally:
        os.close(fd)
    return b""


def _child(plan: Plan, report: Report, descriptors: tuple[int, ...]) -> None:
    """Become the workload, or report why not and exit. Never returns."""
    part = JOIN if plan.join else INSIDE
    try:
        _own_descriptors(descriptors)
        _own_signals()
        _die_with_starter()
        if plan.join:
            run_steps(plan.join, slots={"init": _INIT})
            if pid := syscalls.clone(plan.clone_flags):
                os.write(_STATUS, _PID.pack(pid))
                os._exit(0)
            part = INSIDE
            os.close(_INIT)
            _die_with_starter()  # a clone does not inherit that
        run_steps(plan.inside, returned=report.mark)
    except StepError as error:
        report.fail(error.index, error.errno, part)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here
        report.fail(0, getattr(error, "errno", None) or EINVAL, part)
    os._exit(NOT_FOUND)


def _die_with_starter() -> None:
    """Be killed when the starter dies; it may have died before we could ask for that."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([_ALIVE], [], [], 0)[0]:
        os._exit(1)


def _own_descriptors(descriptors: tuple[int, ...]) -> None:
    """0, 1, 2 are the workload's, 3 to 5 are ours until exec, and nothing else is open.

    Closed now and not at exec, so that no step can reach what the caller had open, not even a
    working directory of ``/proc/self/fd/N``. The stub needs 3 and closes it itself.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    high = [os.dup(fd) for fd in descriptors]
    while min(high) <= _INIT:
        high = [os.dup(fd) for fd in high]
    for target, fd in enumerate(high):
        os.dup2(fd, target, inheritable=target <= _STATUS)
    syscalls.close_range(len(descriptors), 0xFFFFFFFF, 0)


def _own_signals() -> None:
    """No handler, no mask, nothing ignored that Python ignores: what a program expects."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
