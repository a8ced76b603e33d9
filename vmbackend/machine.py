"""A machine from request to gone: what the rest of the project uses.

    prepared = prepare(digest)                     # once per image
    with machine(MachineSpec(image=digest, argv=("uname", "-r"))) as guest:
        done = guest.wait(timeout_s=10)

Phases are ns on the host's monotonic clock since ``machine()`` was entered:

    prepared        the instance's overlay disk exists
    engine          QEMU's process exists: it has connected its console
    engine.created  libvirt has created the machine; its processors run
    kernel          derived: ``init`` minus the guest's own CLOCK_BOOTTIME in that line. This clock
                    starts inside the kernel's start: the true entry is a little earlier;
                    absent if that would be before the machine was
    init            the first line of the guest's PID 1 reached the host, by the serial console
    init.agent      its HELLO reached the host, by the virtio port: modules loaded, disk mounted;
                    in the profile ``distro``: the image's init has reached its multi-user target
    exec output exit   the frame that says so reached the host; of ``spec.argv``
    gone            QEMU is dead and reaped, its sockets and its overlay are removed
    gone.forgotten  libvirt has closed its books; the block ends now
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

from vmbackend.accelerator import Accelerator, accelerator, emulator_path
from vmbackend.command import Command, Completed, OutputSink
from vmbackend.disk import allocated_bytes
from vmbackend.domain import Domain
from vmbackend.errors import BootTimeout, DeadlineError, EngineError, GuestError, MachineError
from vmbackend.kernel import cached_kernel
from vmbackend.link import Link
from vmbackend.parts import Parts, parts_of, request_of
from vmbackend.share import tag_of
from vmbackend.spec import MachineSpec
from vmbackend.vmm import description, served, vmm

BOOT_LIMIT_S = 60.0
_ANSWERS_WITHIN_S = 5.0
DISTRO_BOOT_LIMIT_S = 240.0
"""A distribution does in its start what ours does not: ten times as long, emulated."""

_GUEST_SAYS = {
    "guest_total": (
        "MemTotal",
        "MemTotal in the guest: what it was given, less what its kernel took as it started",
    ),
    "guest_available": (
        "MemAvailable",
        "MemAvailable in the guest: its kernel's estimate of what a command could still have",
    ),
}
"""Definition -> field of proc_meminfo(5), and how it is read."""

_LAST_WORDS = re.compile(r"^isoscope: fatal: (.{1,200})", re.MULTILINE)
"""What our program in the guest says before it ends; see ``guest/wire.c``."""

_PHASES = (
    "request", "prepared", "engine", "engine.created", "kernel", "init", "init.agent",
    "exec", "output", "exit", "gone", "gone.forgotten",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Definition -> (bytes, how they were read). What has no meaning here is absent, with why."""

    readings: Mapping[str, tuple[int, str]]
    absent: Mapping[str, str]


class _Observed(TypedDict):
    last_phase: str
    console_tail: str


class Engine(Protocol):
    """The computer's side of a machine: ``vmm.Vmm`` by libvirt, ``emulator.Emulator`` without."""

    domain: Domain
    accelerator: Accelerator
    link: Link
    marks_ns: dict[str, int]

    def balloon(self) -> Mapping[str, int]:
        """What the guest last told by its balloon, in bytes."""

    def kill(self) -> None:
        """End it, whatever state it is in; when this returns, QEMU is dead and reaped."""


class Machine:
    """A booted guest. It runs ``spec.argv``, or stays idle if that is empty."""

    def __init__(self, *, spec: MachineSpec, parts: Parts, engine: Engine) -> None:
        self.spec = spec
        self.accelerator = engine.accelerator
        self.kernel_release = parts.kernel.release
        self._parts = parts
        self._vmm = engine
        self._main: Command | None = None

    @property
    def requested_ns(self) -> int:
        """When the machine was asked for, on CLOCK_MONOTONIC: what ``phases`` count from."""
        return self._vmm.marks_ns["request"]

    @property
    def phases(self) -> Mapping[str, int]:
        """Nanoseconds since the request by phase, in the order listed above; grows with time."""
        marks = self._vmm.marks_ns | self._vmm.link.marks_ns
        if self._main is not None:
            marks |= self._main.marks_ns
        return {name: marks[name] - marks["request"] for name in _PHASES if name in marks}

    def _repr_html_(self) -> str:
        """The machine as a notebook shows it: its kernel, what runs it, the phases it reached."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook needs it

        reached = "; ".join(f"{name} {at}" for name, at in markup.in_time(self.phases))
        return markup.facts(
            {
                "virtual machine": f"under {self.accelerator.name}",
                "kernel of its own": self.kernel_release,
                "command": " ".join(self.spec.argv) or "none: it idles",
                "phases": reached,
            }
        )

    def wait(self, *, timeout_s: float) -> Completed:
        """The end of ``spec.argv``.

        Raises DeadlineError after *timeout_s*, GuestError if the machine ends first; it is dead
        then.
        """
        if self._main is None:
            raise MachineError("this machine runs nothing to wait for", remedy="use run()")
        self._await(self._main, timeout_s)
        return _completed(self._main, self.phases)

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first byte of ``spec.argv``'s output; whether it came in time."""
        return self._main is not None and self._main.spoke.wait(timeout_s)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """One more command, with the environment, directory and user of the spec.

        Phases count from this call. Raises as ``wait`` does.
        """
        start_ns = time.monotonic_ns()
        request = request_of(self._parts, self.spec, tuple(argv))
        command = self._vmm.link.run(request, stdin, None)
        self._await(command, timeout_s)
        marks = {name: at_ns - start_ns for name, at_ns in command.marks_ns.items()}
        return _completed(command, {"request": 0, **marks})

    def feed(self, data: bytes) -> None:
        """More standard input for ``spec.argv``, if ``feeding`` left it open; b"" ends it."""
        if self._main is not None:
            self._vmm.link.feed(self._main, data)

    def signal(self, number: int) -> None:
        """Send a signal to the process group of ``spec.argv``."""
        if self._main is not None:
            self._vmm.link.signal(self._main, number)

    def usage(self) -> Usage:
        """What QEMU takes of this computer's memory and the instance of its disk, now."""
        source = f"/proc/{self._vmm.link.emulator_pid}/smaps_rollup of QEMU"
        rollup = _smaps_rollup(self._vmm.link.emulator_pid)
        overlay = allocated_bytes(self._vmm.domain.overlay)
        base = allocated_bytes(self._vmm.domain.disk)
        unique = rollup["Private_Clean"] + rollup["Private_Dirty"]
        readings, absent = self._told_by_guest()
        for field, value_bytes in self._vmm.balloon().items():
            how = f"{field} in the statistics of its balloon, by libvirt: at most a second old"
            readings[f"guest_{field}"] = (value_bytes, how)
        return Usage(
            readings={
                "pss": (rollup["Pss"], f"Pss in {source}"),
                "uss": (unique, f"Private_Clean + Private_Dirty in {source}"),
                "rss": (rollup["Rss"], f"Rss in {source}"),
                "disk_instance": (overlay, "blocks allocated to the qcow2 overlay"),
                "disk_image": (base, "blocks allocated to the file system all its machines share"),
                **readings,
            },
            absent={
                "cgroup": "the cgroup belongs to the process that started the machine", **absent,
            },
        )  # fmt: skip

    def _told_by_guest(self) -> tuple[dict[str, tuple[int, str]], dict[str, str]]:
        """What only the guest can know. It is asked last: an answer costs it memory, too."""
        told = self._vmm.link.memory(timeout_s=_ANSWERS_WITHIN_S)
        if told is None:
            return {}, dict.fromkeys(
                _GUEST_SAYS, f"the guest did not answer in {_ANSWERS_WITHIN_S:g} s"
            )
        return {name: (told[field], how) for name, (field, how) in _GUEST_SAYS.items()}, {}

    def console_tail(self, lines: int = 50) -> str:
        """The last *lines* of the guest's console."""
        return self._vmm.link.console_tail(lines)

    def start_main(self, *, feeding: bool, sink: OutputSink | None) -> None:
        """Ask for ``spec.argv``; for who makes the machine, and before it is started."""
        for index, share in enumerate(self.spec.shares):
            self._vmm.link.share(tag_of(index), share.target)
        if self.spec.argv:
            request = request_of(self._parts, self.spec, self.spec.argv)
            stdin = None if feeding else self.spec.stdin
            self._main = self._vmm.link.run(request, stdin, sink)

    def await_boot(self, limit_s: float) -> None:
        """Wait until the guest is ready; for who makes the machine. Raises as ``machine`` does."""
        booted = self._vmm.link.ready.wait(limit_s)
        self._raise_failure()
        if not booted:
            self._vmm.kill()
            raise BootTimeout(f"the machine did not boot within {limit_s:g} s", **self._observed())

    def _await(self, command: Command, timeout_s: float) -> None:
        ended = command.ended.wait(timeout_s)
        if command.exit_status is not None:
            return
        self._raise_failure()
        if not ended:
            self._vmm.kill()
            raise DeadlineError(
                f"the command did not end within {timeout_s:g} s",
                stdout=bytes(command.stdout),
                stderr=bytes(command.stderr),
                **self._observed(),
            )

    def _raise_failure(self) -> None:
        failure = self._vmm.link.failure
        if isinstance(failure, GuestError):
            self._vmm.kill()
            said = _LAST_WORDS.search(self.console_tail())
            message = failure.message if said is None else f"the guest gave up: {said[1]}"
            raise GuestError(message, **self._observed())
        if isinstance(failure, EngineError):
            self._vmm.kill()
            raise EngineError(failure.message, remedy=failure.remedy, **self._observed())
        if failure is not None:  # a sink's, or ours: not about the guest
            raise failure

    def _observed(self) -> _Observed:
        return {"last_phase": list(self.phases)[-1], "console_tail": self.console_tail()}


@contextmanager
def machine(
    spec: MachineSpec,
    *,
    boot_limit_s: float | None = None,
    feeding: bool = False,
    sink: OutputSink | None = None,
) -> Iterator[Machine]:
    """A machine that is booted when the block begins and gone when it ends, however it ends.

    *sink* is given the output of ``spec.argv`` as it arrives (it is then not kept). *feeding*
    leaves its standard input open for ``Machine.feed``. Raises ImageError for the image,
    MachineUnavailable for this computer, EngineError, GuestError or BootTimeout for the boot.
    """
    start_ns = time.monotonic_ns()
    parts = parts_of(spec)
    with vmm(spec, parts, start_ns=start_ns) as engine:
        guest = Machine(spec=spec, parts=parts, engine=engine)
        guest.start_main(feeding=feeding, sink=sink)
        engine.start()
        usual_s = DISTRO_BOOT_LIMIT_S if spec.profile == "distro" else BOOT_LIMIT_S
        guest.await_boot(usual_s if boot_limit_s is None else boot_limit_s)
        yield guest


def explain(spec: MachineSpec) -> str:
    """The XML that libvirt would be given for *spec*; nothing is made, fetched or started.

    What a machine has of its own, and what is not in the cache, stands there in capitals.
    """
    chosen = accelerator(spec.accelerator)
    known = cached_kernel()
    own = Path("/INSTANCE")
    domain = Domain(
        name="isoscope-NAME",
        accelerator=chosen.name,
        cpus=spec.cpus,
        memory_bytes=spec.memory_bytes,
        emulator=emulator_path(),
        kernel=Path("/KERNEL") if known is None else known.image,
        initramfs=Path("/INITRAMFS"),
        disk=Path("/DISK"),
        overlay=own / "OVERLAY",
        console_socket=own / "CONSOLE",
        port_socket=own / "PORT",
        network=spec.network,
        ports=spec.ports,
        shares=served(spec.shares),
        profile=spec.profile,
        image=spec.image,
        has_balloon=spec.has_balloon,
    )
    return description(domain)


def _completed(command: Command, phases: Mapping[str, int]) -> Completed:
    return Completed(
        exit_status=-1 if command.exit_status is None else command.exit_status,
        stdout=bytes(command.stdout),
        stderr=bytes(command.stderr),
        phases=phases,
        failure=command.failure,
    )


def _smaps_rollup(pid: int | None) -> dict[str, int]:
    """Bytes by field. Source: proc_pid_smaps_rollup(5). Raises MachineError if QEMU is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError as error:
        raise MachineError(f"QEMU's memory cannot be read: {error.strerror}") from error
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): int(kibibytes) * 1024 for name, kibibytes, _ in fields}
