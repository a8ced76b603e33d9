"""What a machine is asked to be: the image, the command, and the sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from vmbackend.connection import EMBEDDED, Connection
from vmbackend.errors import MachineSpecError
from vmbackend.network import NetworkChoice, Port, check_network
from vmbackend.share import Share, check_targets

BootProfile = Literal["minimal", "distro", "ordinary"]
AcceleratorChoice = Literal["auto", "kvm", "tcg"]

MIB = 1 << 20
SMALLEST_MEMORY_BYTES = 96 * MIB
"""Debian's cloud kernel boots in 72 MiB and not in 64; the rest is for the workload."""

MOST_CPUS = 255
"""What a PC machine has without x2APIC interrupt remapping."""

MOST_ARGUMENT_BYTES = 2 * MIB
"""argv and env together: a quarter of the default 8 MiB stack, see execve(2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """One machine. ``argv`` empty: it stays idle and runs what it is asked to later.

    ``image`` is a digest. ``env`` overlays the environment of the image's config and nothing else
    is added. ``cwd`` and ``user`` None are the image's own; ``user`` is ``uid[:gid]`` or a name in
    the image. ``accelerator`` ``auto`` takes KVM where a guest runs well under it, else TCG.
    ``profile`` ``minimal``: our program is the first process; ``distro``: the image's own init,
    and commands begin when that has reached its multi-user target; ``ordinary``: as ``minimal``,
    on the machine, kernel and initrd that one gets without choosing. ``connection`` is the libvirt
    that is asked for it. ``has_balloon``: a device by which the guest gives free pages back to
    this computer (free page reporting) and tells what it has. ``is_trial``: how little memory
    suffices is to be found out, so any amount may be asked for.
    """

    image: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None
    stdin: bytes = b""
    cpus: int = 1
    memory_bytes: int = 256 * MIB
    accelerator: AcceleratorChoice = "auto"
    network: NetworkChoice = "none"
    ports: tuple[Port, ...] = ()
    shares: tuple[Share, ...] = ()
    profile: BootProfile = "minimal"
    connection: Connection = EMBEDDED
    is_trial: bool = False
    has_balloon: bool = False

    def __post_init__(self) -> None:
        """Raises MachineSpecError for what no machine can be."""
        _check_sizes(self)
        check_command(self.argv, self.env, self.cwd)
        check_network(self.network, self.ports)
        check_targets(self.shares)
        _check_profile(self)

    @property
    def has_network(self) -> bool:
        """Whether it has an interface besides its loopback."""
        return self.network != "none" or bool(self.ports)


def _check_profile(spec: MachineSpec) -> None:
    if spec.profile not in get_args(BootProfile):
        raise MachineSpecError(
            f"{spec.profile!r} is no boot profile", remedy="use minimal, distro or ordinary"
        )
    if spec.profile == "distro" and spec.has_network:
        raise MachineSpecError(
            "in the profile distro a network is the image's own to set up, and it is not told how",
            remedy="use the profile minimal",
        )
    if spec.profile == "ordinary" and (spec.has_network or spec.shares):
        raise MachineSpecError(
            "the profile ordinary is there to be compared: it has no network and no shares",
            remedy="use the profile minimal",
        )


def check_command(argv: tuple[str, ...], env: Mapping[str, str], cwd: str | None) -> None:
    """Raises MachineSpecError unless the three can be given to execve(2)."""
    strings = [*argv, *env, *env.values(), cwd or "/"]
    if any("\0" in string for string in strings):
        raise MachineSpecError("an argument, a variable or a directory contains a NUL byte")
    if any(not name or "=" in name for name in env):
        raise MachineSpecError("the name of a variable is empty or contains '='")
    if cwd is not None and not cwd.startswith("/"):
        raise MachineSpecError(
            f"the working directory {cwd!r} is not absolute", remedy="begin it with /"
        )
    if sum(len(string.encode("utf-8", "surrogateescape")) + 1 for string in strings) > (
        MOST_ARGUMENT_BYTES
    ):
        raise MachineSpecError(
            "arguments and environment exceed 2 MiB", remedy="give large input by stdin"
        )


def _check_sizes(spec: MachineSpec) -> None:
    if not 1 <= spec.cpus <= MOST_CPUS:
        raise MachineSpecError(f"a machine has 1 to {MOST_CPUS} processors, not {spec.cpus}")
    if spec.memory_bytes < SMALLEST_MEMORY_BYTES and not (spec.is_trial and spec.memory_bytes > 0):
        raise MachineSpecError(
            f"{spec.memory_bytes} bytes of memory are too few for the guest's kernel",
            remedy=f"give at least {SMALLEST_MEMORY_BYTES // MIB} MiB",
        )
    if spec.accelerator not in get_args(AcceleratorChoice):
        raise MachineSpecError(
            f"{spec.accelerator!r} is no accelerator", remedy="use auto, kvm or tcg"
        )
