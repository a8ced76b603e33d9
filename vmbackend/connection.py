"""Whose libvirt a machine is asked of: the three that there are, by the URIs libvirt gives them.

    qemu:///embed      libvirt's driver inside this process: no daemon; the usual way
    qemu:///session    the user's own libvirtd, which libvirt starts by itself if need be
    qemu:///system     the computer's libvirtd; QEMU is the daemon's child, not ours

``qemu+unix:///system?socket=/PATH`` names a daemon that listens elsewhere. One of another computer
is refused: the guest's console and port are sockets of this one.
Source: https://libvirt.org/uri.html, https://libvirt.org/drvqemu.html.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vmbackend.errors import MachineSpecError, MachineUnavailable

Driver = Literal["embed", "session", "system"]
URIS = ("qemu:///embed", "qemu:///session", "qemu:///system")

_WRITTEN = re.compile(
    r"qemu:///(?P<plain>embed|session|system)"
    r"|qemu\+unix:///(?P<driver>session|system)\?socket=(?P<socket>/[\w./+-]{1,100})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A libvirt of this computer; its daemon listens at *socket*, if not where it usually does."""

    driver: Driver = "embed"
    socket: Path | None = None

    @property
    def uri(self) -> str:
        """What libvirt is given; the embedded driver's is completed by its root."""
        if self.socket is None:
            return f"qemu:///{self.driver}"
        return f"qemu+unix:///{self.driver}?socket={self.socket}"

    @property
    def has_daemon(self) -> bool:
        """Whether QEMU is the child of another process than ours."""
        return self.driver != "embed"


EMBEDDED = Connection()


def parse_connection(uri: str) -> Connection:
    """Raises MachineSpecError for what names no libvirt of this computer. Pure."""
    match = _WRITTEN.fullmatch(uri)
    if match is None:
        raise MachineSpecError(
            f"{uri[:80]!r} is no libvirt that machines can be asked of",
            remedy=f"use {', '.join(URIS)} or qemu+unix:///system?socket=/PATH",
        )
    driver: Driver = "embed"
    for known in ("session", "system"):
        if known in (match["plain"], match["driver"]):
            driver = known
    return Connection(driver=driver, socket=Path(match["socket"]) if match["socket"] else None)


def check_user(connection: Connection, *, is_root: bool) -> None:
    """Raises MachineUnavailable where such a user's machines could not work there. Pure."""
    if connection.driver == "session" and is_root:
        raise MachineUnavailable(
            "root has no session of libvirt's: its driver takes root for the system",
            remedy="use qemu:///system, or become an ordinary user",
        )
    if connection.driver == "system" and not is_root:
        raise MachineUnavailable(
            "QEMU of the system's libvirtd runs as an account that cannot reach an ordinary"
            " user's files and sockets",
            remedy="use qemu:///session, or become root",
        )
