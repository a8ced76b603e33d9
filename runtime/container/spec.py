"""What is asked of a container (frozen, complete, checked where it is made)."""

from dataclasses import dataclass

from runtime.container.protection import Protection
from runtime.container.terminal import Terminal
from runtime.errors import SpecError
from runtime.image import Identity
from runtime.volume.mount import Mount

OWN_NETWORK, HOST_NETWORK = "own", "host"
"""A network namespace of its own with nothing but a loopback device; the one we are in."""

MIN_MEMORY_BYTES = 4 << 20
"""Below this not even the smallest program starts; the kernel would kill it without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an instance may use; None is no limit. ``cpus`` is in cores, 0.5 is half of one."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None

    def __post_init__(self) -> None:
        """Raise SpecError for a limit that nothing could live under."""
        if self.memory_bytes is not None and self.memory_bytes < MIN_MEMORY_BYTES:
            raise SpecError(
                f"a memory limit of {self.memory_bytes} bytes is too small to start a program",
                remedy=f"ask for at least {MIN_MEMORY_BYTES} (4m)",
            )
        if self.cpus is not None and not self.cpus >= 0.01:  # also catches NaN
            raise SpecError(
                f"a cpu limit of {self.cpus} is not usable", remedy="give 0.01 or more"
            )
        if self.pids is not None and self.pids < 1:
            raise SpecError(
                f"a limit of {self.pids} processes is not usable", remedy="give 1 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A program to run inside: *env* is exact (``NAME=value``), *argv* empty means: stay idle.

    With a *terminal* its standard streams are that, and its master is sent over the socket that
    ``launch.process.start`` is given as console.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    identity: Identity
    terminal: Terminal | None = None

    def __post_init__(self) -> None:
        """Raise SpecError for strings that no kernel call can carry."""
        for text in (*self.argv, *self.env, self.cwd):
            if "\0" in text:
                raise SpecError(f"{text!r} holds a NUL character", remedy="remove it")
        if not self.cwd.startswith("/"):
            raise SpecError(
                f"working directory {self.cwd!r} is not absolute", remedy="begin with /"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container: *lower* makes the image's tree, *directory* holds what is its own.

    *lower* are the directories that overlayfs lays over each other, topmost first. *directory*
    must exist with ``upper``, ``work`` and ``root`` in it, all on one file system that overlayfs
    takes as upper. *within* is a path of groups, made before, that the container's own are made
    in. *protection* is how far it is locked in, *seccomp* whether calls are filtered. *network* is
    OWN_NETWORK, HOST_NETWORK, or a path that opens a network namespace made before. What a kept
    one writes is to survive a crash of the machine.
    """

    id: str
    process: ProcessSpec
    lower: tuple[str, ...]
    directory: str
    hostname: str
    limits: Limits = Limits()
    within: str | None = None
    seccomp: bool = True
    network: str = OWN_NETWORK
    mounts: tuple[Mount, ...] = ()
    protection: Protection = Protection()  # noqa: RUF009 - a frozen value
    is_kept: bool = False

    def __post_init__(self) -> None:
        """Raise SpecError for paths that overlayfs's option string cannot carry."""
        for path in (*self.lower, self.directory):
            if set(path) & set(",:\\"):
                raise SpecError(
                    f"{path!r} holds one of , : \\ which overlayfs cannot mount",
                    remedy="set ISOSCOPE_HOME to a path without them",
                )
