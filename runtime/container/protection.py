"""How far a container is locked in beyond its namespaces; the default is the strictest."""

from dataclasses import dataclass

from runtime.container.capabilities import CAPABILITIES, KEPT
from runtime.container.devices import Device
from runtime.container.ulimits import Ulimit
from runtime.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What its root may, what it sees of the kernel, what it is given of the machine.

    *capabilities* are kept as far as we have them. *profile* is a system call filter instead of
    our own, a BPF program; empty is our own. With *is_privileged* nothing of the kernel's files
    is masked or read-only, set-user-ID programs raise, device files work everywhere, and there
    is no filter but a *profile*. With *read_only* the image's own files cannot be changed.
    """

    capabilities: frozenset[str] = frozenset(KEPT)
    profile: bytes = b""
    is_privileged: bool = False
    read_only: bool = False
    devices: tuple[Device, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()

    def __post_init__(self) -> None:
        """Raise SpecError for what contradicts itself."""
        if unknown := self.capabilities - set(CAPABILITIES):
            raise SpecError(f"{min(unknown)!r} is no capability")
        for what, names in (
            ("devices at", [device.path for device in self.devices]),
            ("limits of", [ulimit.name for ulimit in self.ulimits]),
        ):
            if twice := {name for name in names if names.count(name) > 1}:
                raise SpecError(f"two {what} {min(twice)}", remedy="leave one out")

    @property
    def lists_devices(self) -> bool:
        """Whether the kernel must be told which devices it may reach: see ``devices``."""
        can_reach = bool(self.devices) or "mknod" in self.capabilities
        return can_reach and not self.is_privileged
