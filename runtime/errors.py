"""What the runtime raises.

    RuntimeFault               anything a caller may want to show as one line
    ├── ImageError             an image, reference, blob or layer is missing, corrupt or hostile
    ├── SpecError              what was asked for cannot be asked for (checked before any effect)
    ├── BuildError             a Dockerfile is wrong, or a step of it failed
    ├── Unsupported            this machine cannot do it; the remedy says how it could
    └── SyscallError           the kernel refused one call
        └── StepError          ... while the executor did one step of a plan

Only a ``cli.main`` turns these into a message and an exit status.
"""

import os

from runtime.fault import Fault


class RuntimeFault(Fault):
    """The container runtime, or an image, failed."""


class ImageError(RuntimeFault):
    """An image, a reference, a blob or a layer is missing, corrupt or hostile."""


class SpecError(RuntimeFault):
    """The request contradicts itself or names what does not exist; nothing was done."""


class BuildError(RuntimeFault):
    """A Dockerfile or ignore file is wrong, asks for what is not supported, or a step failed.

    Where it is known, *line* is the first line of the instruction at fault; the message has it.
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, line: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.line = line


class Unsupported(RuntimeFault):
    """This machine cannot do what was asked; the remedy says what would make it able to."""


class SyscallError(RuntimeFault):
    """The kernel refused a call: *call* on *subject* failed with *errno* (see errno(3))."""

    def __init__(self, errno: int, call: str, subject: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{call}({subject}): {os.strerror(errno)}", remedy=remedy)
        self.errno = errno
        self.call = call
        self.subject = subject


class StepError(SyscallError):
    """A step of a container's plan failed; *index* counts from 0 in the plan that was run."""

    def __init__(
        self, errno: int, call: str, subject: str, *, index: int, reason: str, remedy: str | None
    ) -> None:
        super().__init__(errno, call, subject, remedy=remedy)
        self.index = index
        self.reason = reason
        self.message = f"step {index} ({reason}): {self.message}"
