"""The instance whose first process is our own child: what ``host`` and ``container`` share."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.backend import ExecResult, InstanceTimeout, Usage
from runtime.container.container import Completed, DeadlinePassed, complete, piped
from runtime.container.launch.process import CommandNotRunnable, Process
from runtime.container.launch.streams import Gathering
from runtime.container.steps import Plan


@dataclass(slots=True, kw_only=True)
class ProcessInstance:
    """A started process with its output.

    *plan_run* decides how one more command gets inside; *joined* is the init that it enters, if
    there is something to enter.
    """

    requested_ns: int
    process: Process
    gathering: Gathering
    plan_run: Callable[[Sequence[str]], Plan]
    read_usage: Callable[[], Usage]
    joined: Process | None = None
    _ended: Completed | None = None
    _gone_ns: int | None = None

    @property
    def phases(self) -> Mapping[str, int]:
        """See ``Instance.phases``."""
        phases = self._phases_so_far() if self._ended is None else dict(self._ended.phases)
        if self._gone_ns is not None:
            phases["gone"] = self._gone_ns - self.requested_ns
        return phases

    def wait(self, *, timeout_s: float) -> ExecResult:
        """See ``Instance.wait``."""
        try:
            self._ended = complete(
                self.process, self.gathering, self.requested_ns, timeout_s=timeout_s
            )
        except DeadlinePassed as passed:
            raise self._timed_out(passed) from None
        return _result(self._ended)

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first byte of the workload's output; whether it came in time."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        return self.gathering.until_output(self.process.pidfd, deadline_ns=deadline_ns)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        requested_ns = time.monotonic_ns()
        try:
            with piped(self.plan_run(argv), stdin, within=self.joined) as (process, gathering):
                return _result(complete(process, gathering, requested_ns, timeout_s=timeout_s))
        except CommandNotRunnable as error:
            return _not_runnable(error)
        except DeadlinePassed as passed:
            self.process.kill()
            raise self._timed_out(passed) from None

    def usage(self) -> Usage:
        """See ``Instance.usage``."""
        return self.read_usage()

    def gone(self) -> None:
        """Note that nothing of the instance exists any more."""
        self._gone_ns = time.monotonic_ns()

    def _phases_so_far(self) -> dict[str, int]:
        marks = dict(self.process.marks_ns())
        if self.gathering.first_output_ns is not None:
            marks["output"] = self.gathering.first_output_ns
        return {"request": 0} | {name: at - self.requested_ns for name, at in marks.items()}

    def _timed_out(self, passed: DeadlinePassed) -> InstanceTimeout:
        last = max(self._phases_so_far().items(), key=lambda phase: phase[1])[0]
        return InstanceTimeout(
            str(passed), stdout=passed.stdout, stderr=passed.stderr, last_phase=last
        )


@dataclass(slots=True, kw_only=True)
class UnstartedInstance:
    """The instance stood, but the image has no such program: it ended as a shell would say so."""

    requested_ns: int
    error: CommandNotRunnable
    phases: Mapping[str, int] = field(default_factory=lambda: {"request": 0})

    def wait(self, *, timeout_s: float) -> ExecResult:  # noqa: ARG002 - it has ended already
        """The status 126 or 127, with the reason as its standard error."""
        return _not_runnable(self.error)

    def until_output(self, *, timeout_s: float) -> bool:  # noqa: ARG002 - it has ended already
        """There never is any."""
        return False

    def run(self, *_: object, **__: object) -> ExecResult:
        """Refused: nothing runs that could be entered."""
        raise self.error

    def usage(self) -> Usage:
        """Nothing is used."""
        return Usage(readings={}, absent={"pss": "the instance has ended"})

    def gone(self) -> None:
        """Nothing was there."""


def _not_runnable(error: CommandNotRunnable) -> ExecResult:
    said = f"isoscope: {error}\n".encode()
    return ExecResult(exit_status=error.status, stdout=b"", stderr=said, phases={})


def _result(completed: Completed) -> ExecResult:
    return ExecResult(
        exit_status=completed.exit_status,
        stdout=completed.stdout,
        stderr=completed.stderr,
        phases=completed.phases,
    )
