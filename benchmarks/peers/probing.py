"""Whether a peer can be used here, and where its programs are."""

import os
import shutil
from collections.abc import Callable

from benchmarks.backend import Unavailable
from runtime.errors import RuntimeFault

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
"""Where peers are looked for, and what they are given to find their own helpers."""


def found(*programs: str, package: str) -> Unavailable | None:
    """None if all *programs* are installed, else the package that brings the first missing one."""
    for program in programs:
        if shutil.which(program, path=PATH) is None:
            return Unavailable(
                reason=f"{program} is not installed", remedy=f"apt-get install {package}"
            )
    return None


def path_of(program: str) -> str:
    """Where *program* is; its bare name if it is not installed, which fails with that name."""
    return shutil.which(program, path=PATH) or program


def tried(name: str, trial: Callable[[], None]) -> Unavailable | None:
    """None if *trial* succeeds, else what it failed with."""
    try:
        trial()
    except (RuntimeFault, OSError) as failed:
        remedy = (
            getattr(failed, "remedy", None) or f"see whether {name} works by hand on this machine"
        )
        return Unavailable(reason=f"{name} was tried and failed: {failed}", remedy=remedy)
    return None
