"""QEMU by hand: the machine of ``vm`` without libvirt, so that libvirt's share can be seen.

Same kernel, initramfs, disk, accelerator, account, sandbox and guest agent; QEMU is our own child
and is told everything on its command line.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from benchmarks import meters
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
from benchmarks.peers.instance import Timeline, home, refuse_more
from benchmarks.peers.probing import PATH, found, path_of
from benchmarks.peers.program import PeerFailed
from vmbackend.accelerator import accelerator, emulator_path
from vmbackend.account import check_readable, emulator_account, open_to_emulator
from vmbackend.command import Command
from vmbackend.compiler import missing_compiler
from vmbackend.disk import allocated_bytes, instance_overlay
from vmbackend.domain import Domain
from vmbackend.emulator import emulator_words
from vmbackend.errors import MachineError, MachineUnavailable
from vmbackend.kernel import cached_kernel, downloadable
from vmbackend.link import Link
from vmbackend.network import check_free
from vmbackend.parts import Parts, parts_of, prepare, request_of
from vmbackend.spec import MachineSpec

_BOOT_LIMIT_S = 60.0
_CONSOLE_CHARACTERS = 400


@contextmanager
def backend(within: str | None = None) -> Iterator["QemuBackend"]:
    """The backend; it needs nothing to be warmed."""
    yield QemuBackend(within)


class QemuBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "qemu"

    def __init__(self, within: str | None) -> None:
        self._within = within

    @property
    def features(self) -> Features:
        """See ``machine_features``."""
        return machine_features(accelerator())

    def probe(self) -> Unavailable | None:
        """Run the accelerator's trial guest; look for what a real one is made of."""
        if os.uname().machine != "x86_64":
            return Unavailable(
                reason=f"machines are x86_64 only, and this is {os.uname().machine}",
                remedy="use container here",
            )
        try:
            emulator_path()
            accelerator()
            if (obstacle := missing_compiler()) is not None:
                raise obstacle
            if cached_kernel() is None and not downloadable():
                raise MachineUnavailable(
                    "no kernel for the guest, and apt knows none",
                    remedy="apt-get update, on Debian",
                )
        except MachineError as why:
            return Unavailable(reason=why.message, remedy=why.remedy or "see isoscope doctor")
        return found("setpriv", package="util-linux")

    def prepare(self, image: str) -> Preparation:
        """The disk that ``vm`` uses too."""
        with _translated():
            made = prepare(image)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method=made.method,
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator["QemuInstance"]:
        """Boot; leaving ends QEMU and removes its overlay."""
        refuse_more(spec, self.features, self.name)
        life = Timeline()
        with _translated(), ExitStack() as undo:
            undo.callback(life.mark, "gone")
            asked = machine_spec(spec)
            parts = parts_of(asked)
            directory = undo.enter_context(home(self._within))
            domain, held = undo.enter_context(_domain(asked, parts, directory))
            link = undo.enter_context(Link(domain.console_socket, domain.port_socket))
            overlay = undo.enter_context(instance_overlay(parts.disk, domain.overlay))
            life.mark("prepared")
            instance = QemuInstance(life=life, parts=parts, spec=asked, link=link, overlay=overlay)
            undo.callback(instance.kill)
            instance.boot(domain, held, directory / "qemu.log")
            yield instance


class QemuInstance:
    """See ``benchmarks.backend.Instance``."""

    def __init__(
        self, *, life: Timeline, parts: Parts, spec: MachineSpec, link: Link, overlay: Path
    ) -> None:
        self._life = life
        self._parts = parts
        self._spec = spec
        self._link = link
        self._overlay = overlay
        self._main: Command | None = None
        self._pid: int | None = None

    @property
    def requested_ns(self) -> int:
        """See ``Instance.requested_ns``."""
        return self._life.requested_ns

    @property
    def phases(self) -> dict[str, int]:
        """See ``Instance.phases``."""
        marks = self._link.marks_ns | (self._main.marks_ns if self._main is not None else {})
        for phase, at_ns in marks.items():
            self._life.mark(phase, at_ns)
        return self._life.phases

    def boot(self, domain: Domain, held: int, log: Path) -> None:
        """Start QEMU and wait for its guest. Raises PeerFailed, InstanceTimeout."""
        if self._spec.argv:
            request = request_of(self._parts, self._spec, self._spec.argv)
            self._main = self._link.run(request, self._spec.stdin, None)
        self._pid = _spawn(domain, held, log)
        self._life.mark("engine")
        booted = self._link.ready.wait(_BOOT_LIMIT_S)
        if self._link.failure is not None:
            said = log.read_text(errors="replace").strip()[-_CONSOLE_CHARACTERS:]
            raise PeerFailed(f"{self._link.failure}{f'; QEMU: {said}' if said else ''}")
        if not booted:
            raise self._timed_out(f"the machine did not boot within {_BOOT_LIMIT_S:g} s", None)

    def wait(self, *, timeout_s: float) -> ExecResult:
        """See ``Instance.wait``."""
        if self._main is None:
            raise PeerFailed("this machine runs nothing to wait for", remedy="use run()")
        self._await(self._main, timeout_s)
        return _result(self._main, self._spec.argv, self.phases)

    def until_output(self, *, timeout_s: float) -> bool:
        """See ``Instance.until_output``."""
        return self._main is not None and self._main.spoke.wait(timeout_s)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        start_ns = time.monotonic_ns()
        with _translated():
            request = request_of(self._parts, self._spec, tuple(argv))
            command = self._link.run(request, stdin, None)
        self._await(command, timeout_s)
        marks = {phase: at_ns - start_ns for phase, at_ns in command.marks_ns.items()}
        return _result(command, argv, {"request": 0} | marks)

    def usage(self) -> Usage:
        """QEMU is all there is of it."""
        readings = dict(meters.memory([self._pid] if self._pid is not None else []))
        readings["disk_instance"] = Reading(
            value_bytes=allocated_bytes(self._overlay),
            method="blocks allocated to the qcow2 overlay",
        )
        return Usage(readings=readings)

    def kill(self) -> None:
        """End QEMU, whatever state it is in; when this returns, it is dead and reaped."""
        if self._link.emulator_pid is not None:
            self._link.kill_emulator()
        elif self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)  # our child, not reaped yet: the number is its own
            os.waitpid(self._pid, 0)
        self._pid = None

    def _await(self, command: Command, timeout_s: float) -> None:
        ended = command.ended.wait(timeout_s)
        if command.exit_status is not None:
            return
        if self._link.failure is not None:
            tail = self._link.console_tail()[-_CONSOLE_CHARACTERS:]
            raise PeerFailed(f"{self._link.failure}; console: {tail}")
        if not ended:
            raise self._timed_out(f"no end after {timeout_s:g} s, so it was killed", command)

    def _timed_out(self, message: str, command: Command | None) -> InstanceTimeout:
        last = max(self.phases.items(), key=lambda phase: phase[1])[0]
        self.kill()
        return InstanceTimeout(
            message,
            stdout=b"" if command is None else bytes(command.stdout),
            stderr=b"" if command is None else bytes(command.stderr),
            last_phase=last,
            console_tail=self._link.console_tail(),
        )


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the machine's parts as those of the seam."""
    try:
        yield
    except MachineError as error:
        raise PeerFailed(error.message, remedy=error.remedy) from error


@contextmanager
def _domain(spec: MachineSpec, parts: Parts, directory: Path) -> Iterator[tuple[Domain, int]]:
    """The machine's description, and a descriptor of *directory*, which QEMU is to inherit.

    By it both sides name what is in there: paths of sockets end at 108 bytes, and QEMU's account
    may not walk to the directory.
    """
    chosen: Literal["kvm", "tcg"] = accelerator(spec.accelerator).name
    check_readable(parts.kernel.image, parts.initramfs, parts.disk.path)
    check_free(spec.ports)
    open_to_emulator(directory, 0o710)
    held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    short = Path(f"/proc/self/fd/{held}")
    try:
        yield Domain(
            name=directory.name,
            accelerator=chosen,
            cpus=spec.cpus,
            memory_bytes=spec.memory_bytes,
            emulator=emulator_path(),
            kernel=parts.kernel.image,
            initramfs=parts.initramfs,
            disk=parts.disk.path,
            overlay=short / "overlay.qcow2",
            console_socket=short / "console",
            port_socket=short / "port",
            network=spec.network,
            ports=spec.ports,
        ), held  # fmt: skip
    finally:
        os.close(held)


def _spawn(domain: Domain, held: int, log: Path) -> int:
    """QEMU, which dies when we die."""
    return os.posix_spawn(
        path_of("setpriv"),
        ["setpriv", *_privileges(), str(domain.emulator), *emulator_words(domain)],
        {"PATH": PATH},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, held, held),  # onto itself: it is inherited
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT, 0o600),
        ],
    )


def _privileges() -> tuple[str, ...]:
    """What libvirt takes from QEMU too. The signal comes last: a change of user would undo it."""
    account = emulator_account()
    user = () if account is None else (
        "--reuid", str(account.uid), "--regid", str(account.started_as),
        "--groups", ",".join(map(str, sorted(account.groups))), "--no-new-privs",
    )  # fmt: skip
    return (*user, "--pdeathsig", "KILL")


def _result(command: Command, argv: Sequence[str], phases: dict[str, int]) -> ExecResult:
    said = f"isoscope: cannot run {argv[0]!r}: {command.failure}\n" if command.failure else ""
    return ExecResult(
        exit_status=-1 if command.exit_status is None else command.exit_status,
        stdout=bytes(command.stdout),
        stderr=bytes(command.stderr) + said.encode(),
        phases=phases,
    )
