"""What the seam asks for, in the words of machines: for every backend that makes some."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path

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
from runtime.errors import RuntimeFault, SpecError
from vmbackend import probe as probing
from vmbackend.accelerator import Accelerator, accelerator
from vmbackend.command import Completed
from vmbackend.connection import EMBEDDED, Connection
from vmbackend.errors import DeadlineError, MachineError, MachineUnavailable
from vmbackend.hypervisor import hypervisor
from vmbackend.machine import Machine, machine
from vmbackend.network import Port
from vmbackend.parts import prepare
from vmbackend.share import Share, virtiofsd
from vmbackend.spec import BootProfile, MachineSpec


def machine_features(found: Accelerator, *, mounts: bool = False) -> Features:
    """A machine has as many processors and as much memory as it is given, by construction."""
    return Features(
        enforces=frozenset({"cpus", "memory"}),
        exec=True,
        stdin=True,
        mounts=mounts,
        ports=True,
        networks=frozenset({"none", "user"}),
        accelerator=found.name,
        accelerator_sentence=found.sentence,
    )


def machine_spec(spec: InstanceSpec) -> MachineSpec:
    """*spec* as a machine is asked for. Raises SpecError for what no machine can be given."""
    refused = ["limit of processes"] if spec.pids else []
    if spec.network not in ("none", "user"):
        refused.append(f"network {spec.network}")
    if refused:
        raise SpecError(f"machines offer no {', '.join(refused)}", remedy="ask for less of it")
    asked = MachineSpec(
        image=spec.image,
        argv=spec.argv,
        env=spec.env,
        cwd=spec.cwd,
        user=spec.user,
        stdin=spec.stdin,
        network="user" if spec.network == "user" else "none",
        ports=tuple(Port(host=host, guest=guest) for host, guest in spec.ports),
        shares=tuple(Share(source=Path(here), target=there) for here, there in spec.mounts),
    )
    if spec.cpus is not None:
        asked = replace(asked, cpus=ceil(spec.cpus))
    if spec.memory_bytes is not None:
        asked = replace(asked, memory_bytes=spec.memory_bytes)
    return asked


def warmed(connection: Connection = EMBEDDED) -> None:
    """Open libvirt's driver, where it can be opened, so that no clock has to wait for it."""
    if probing.probe(connection) is None:
        hypervisor(connection)


class MachineBackend:
    """See ``benchmarks.backend.Backend``: machines that boot, each variant with its profile."""

    name: str
    profile: BootProfile
    connection: Connection = EMBEDDED

    @property
    def features(self) -> Features:
        """See ``machine_features``."""
        return machine_features(accelerator(), mounts=_can_share())

    def probe(self) -> Unavailable | None:
        """See ``Backend.probe``."""
        why = probing.probe(self.connection, profile=self.profile)
        return None if why is None else Unavailable(reason=why[0], remedy=why[1])

    def prepare(self, image: str) -> Preparation:
        """The image's disk, and the kernel and first program that all machines share."""
        with translated():
            made = prepare(image, profile=self.profile)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method=made.method,
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator["MachineInstance"]:
        """Boot; leaving ends the machine and removes its overlay."""
        asked = replace(machine_spec(spec), profile=self.profile, connection=self.connection)
        with translated(), machine(asked) as booted:
            yield MachineInstance(booted)


class MachineInstance:
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
        with translated():
            completed = self._machine.wait(timeout_s=timeout_s)
        return _result(completed, self._machine.spec.argv)

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first byte of the workload's output; whether it came in time."""
        return self._machine.until_output(timeout_s=timeout_s)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        with translated():
            completed = self._machine.run(argv, stdin=stdin, timeout_s=timeout_s)
        return _result(completed, argv)

    def usage(self) -> Usage:
        """See ``Instance.usage``."""
        with translated():
            usage = self._machine.usage()
        readings = {n: Reading(value_bytes=v, method=m) for n, (v, m) in usage.readings.items()}
        return Usage(readings=readings, absent=usage.absent)


class VmFailed(RuntimeFault):
    """The machine could not do what was asked; the sentence is the engine's."""


@contextmanager
def translated() -> Iterator[None]:
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


def _can_share() -> bool:
    try:
        virtiofsd()
    except MachineUnavailable:
        return False
    return True
