"""Directories of this computer inside a machine, by virtiofs: the same files, seen by both.

libvirt starts a virtiofsd for each, which reads and writes as root what the guest's root asks
for, as a bind mount of a container would. A share that is read-only is so here, not in the guest,
which could mount it again: see ``readonly.c``. Source: https://libvirt.org/kbase/virtiofs.html.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vmbackend.errors import MachineSpecError, MachineUnavailable

MODULES = ("virtiofs",)
"""What the guest loads for it, besides what every guest loads."""

_SERVERS = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))
_WRITTEN = re.compile(r"(?P<source>/[^:]*):(?P<target>/[^:]*)(?::(?P<mode>ro|rw))?", re.DOTALL)
_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The directory *source* of this computer is at *target* in the machine."""

    source: Path
    target: str
    is_readonly: bool = False


def parse_share(text: str) -> Share:
    """``HOST:PATH[:ro]``, both absolute. Raises MachineSpecError."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise MachineSpecError(
            f"{text[:80]!r} shares nothing", remedy="write /HOST:/PATH or /HOST:/PATH:ro"
        )
    return Share(
        source=Path(match["source"]), target=match["target"], is_readonly=match["mode"] == "ro"
    )


def check_targets(shares: Iterable[Share]) -> None:
    """Raises MachineSpecError unless a machine can have *shares* together. Pure."""
    targets = [os.path.normpath(share.target) for share in shares]
    if len(targets) > _MOST:
        raise MachineSpecError(f"a machine has at most {_MOST} shares, not {len(targets)}")
    if len(set(targets)) < len(targets):
        raise MachineSpecError("two shares have the same place in the machine")
    for share in shares:
        if "\0" in share.target or not os.path.normpath(share.target).strip("/"):
            raise MachineSpecError(f"nothing can be shared at {share.target!r}")
        if set(str(share.source)) & set(",\\\0"):
            raise MachineSpecError(
                f"{str(share.source)!r} holds a comma or a backslash: virtiofsd cannot be told it",
                remedy="share the directory it is in",
            )


def check_sources(shares: Iterable[Share]) -> None:
    """Raises MachineSpecError for what cannot be shared, MachineUnavailable if nothing can."""
    for share in shares:
        virtiofsd()
        if not share.source.is_dir():
            raise MachineSpecError(
                f"{share.source} is no directory here", remedy="make it, or share the one it is in"
            )


def tag_of(index: int) -> str:
    """The name by which the guest knows the share."""
    return f"isoscope{index}"


def virtiofsd() -> Path:
    """The program that serves a share. Raises MachineUnavailable."""
    if os.geteuid() != 0:
        raise MachineUnavailable(
            "libvirt's virtiofs is root's alone before version 10", remedy="run it as root"
        )
    for program in _SERVERS:
        if os.access(program, os.X_OK):
            return program
    raise MachineUnavailable(
        "virtiofsd is missing", remedy="apt-get install virtiofsd, or qemu-system-common"
    )
