"""What the VM backend raises.

    MachineError               anything a caller may want to show as one line
    ├── MachineUnavailable     this computer cannot run machines as asked; the remedy says how
    ├── MachineSpecError       what was asked for cannot be asked for (checked before any effect)
    ├── EngineError            libvirt or QEMU refused or died
    ├── GuestError             the guest's kernel failed, or what came is not the protocol
    └── DeadlineError          a deadline passed; the machine is dead when this is raised
        └── BootTimeout        ... before the guest's first process was ready

A missing or corrupt image is an ``ImageError`` of ``runtime.image``. Only ``cli.main`` turns these
into a message and an exit status.
"""

from runtime.fault import Fault


class MachineError(Fault):
    """A virtual machine, or what it is made with, failed."""


class MachineUnavailable(MachineError):  # noqa: N818 - named by what this computer is
    """This computer cannot run machines as asked; the remedy says what would make it able to."""


class MachineSpecError(MachineError):
    """The request contradicts itself or asks for what does not exist; nothing was done."""


class _Observed(MachineError):  # noqa: N818 - a base that is never raised
    """An error of a machine that had begun to exist, with what was seen of it until then."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        last_phase: str = "request",
        console_tail: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.last_phase = last_phase
        self.console_tail = console_tail


class EngineError(_Observed):
    """Libvirt or QEMU refused to start the machine, or died under it."""


class GuestError(_Observed):
    """The guest's kernel or first process failed, or it broke the protocol."""


class DeadlineError(_Observed):
    """A deadline passed. Carries what the command had written; nothing of the machine is left."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        last_phase: str = "request",
        console_tail: str = "",
        stdout: bytes = b"",
        stderr: bytes = b"",
    ) -> None:
        super().__init__(message, remedy=remedy, last_phase=last_phase, console_tail=console_tail)
        self.stdout = stdout
        self.stderr = stderr


class BootTimeout(DeadlineError):  # noqa: N818 - named by what happened
    """The guest's first process did not report in time."""
