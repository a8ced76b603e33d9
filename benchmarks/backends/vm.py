"""The VM engine, behind the seam."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.backend import (
    ExecResult,
    Features,
    InstanceSpec,
    InstanceTimeout,
    Preparation,
    Reading,
    Unavailable,
    Usage,
)
from benchmarks.machines import machine_features, machine_spec
from runtime.errors import RuntimeFault
from vmbackend import probe as probing
from vmbackend.accelerator import accelerator
from vmbackend.command import Completed
from vmbackend.errors import DeadlineError, MachineError
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import Machine, machine
from vmbackend.parts import prepare


@contextmanager
def backend(_within: str | None = None) -> Iterator["VmBackend"]:
    """The backend; libvirt's driver is open before any clock starts, where it can be opened."""
    if probing.probe() is None:
        hypervisor()
    yield VmBackend()


class VmBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "vm"

    @property
    def features(self) -> Features:
        """See ``machine_features``."""
        return machine_features(accelerator())

    def probe(self) -> Unavailable | None:
        """See ``Backend.probe``."""
        why = probing.probe()
        return None if why is None else Unavailable(reason=why[0], remedy=why[1])

    def prepare(self, image: str) -> Preparation:
        """The image's disk, and the kernel and first program that all machines share."""
        with _translated():
            made = prepare(image)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method=made.method,
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator["VmInstance"]:
        """Boot; leaving ends the machine and removes its overlay."""
        with _translated(), machine(machine_spec(spec)) as booted:
            yield VmInstance(booted)


class VmInstance:
    """See ``benchmarks.backend.Instance``."""

    def __init__(self, booted: Machine) -> None:
        self._machine = booted

    @property
    def requested_ns(self) -> int:
        """See ``Instance.requested_ns``."""
        return self._machine.requested_ns

    @property
    def phases(self) -> dict[str, int]:
        """See ``Instance.phases``."""
        return dict(self._machine.phases)

    def wait(self, *, timeout_s: float) -> ExecResult:
        """See ``Instance.wait``."""
        with _translated():
            completed = self._machine.wait(timeout_s=timeout_s)
        return _result(completed, self._machine.spec.argv)

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first byte of the workload's output; whether it came in time."""
        return self._machine.until_output(timeout_s=timeout_s)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        with _translated():
            completed = self._machine.run(argv, stdin=stdin, timeout_s=timeout_s)
        return _result(completed, argv)

    def usage(self) -> Usage:
        """See ``Instance.usage``."""
        with _translated():
            usage = self._machine.usage()
        readings = {n: Reading(value_bytes=v, method=m) for n, (v, m) in usage.readings.items()}
        return Usage(readings=readings, absent=usage.absent)


class VmFailed(RuntimeFault):
    """The machine could not do what was asked; the sentence is the engine's."""


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the engine as those of the seam."""
    try:
        yield
    except DeadlineError as passed:
        raise InstanceTimeout(
            str(passed),
            stdout=passed.stdout,
            stderr=passed.stderr,
            last_phase=passed.last_phase,
            console_tail=passed.console_tail,
        ) from passed
    except MachineError as error:
        tail = getattr(error, "console_tail", "")
        raise VmFailed(f"{error}; console: {tail[-400:]}" if tail else str(error)) from error


def _result(completed: Completed, argv: Sequence[str]) -> ExecResult:
    said = ""
    if completed.failure is not None:
        said = f"isoscope: cannot run {argv[0]!r}: {completed.failure}\n"
    return ExecResult(
        exit_status=completed.exit_status,
        stdout=completed.stdout,
        stderr=completed.stderr + said.encode(),
        phases=completed.phases,
    )
