"""What goes wrong with a registry, and whether trying again may help."""

from runtime.errors import ImageError


class RegistryError(ImageError):
    """A registry cannot be reached, refuses, or answers what it must not.

    *status* is the HTTP status where there was an answer.
    """

    def __init__(
        self, message: str, *, remedy: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class TransientError(RegistryError):
    """A failure that may pass: a broken connection, 429 or 5xx. *after_s* is what was asked for.

    *at_once* says that nothing is wrong but a connection kept for too long.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        after_s: float | None = None,
        at_once: bool = False,
    ) -> None:
        super().__init__(message, remedy="try again later", status=status)
        self.after_s = after_s
        self.at_once = at_once


class InterruptedTransferError(RegistryError):
    """The transfer was called off, because another part of it failed or the user said so."""

    def __init__(self) -> None:
        super().__init__("the transfer was called off")
