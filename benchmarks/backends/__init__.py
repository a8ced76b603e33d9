"""One adapter per way to run an image. ``opened(name)`` imports that one and nothing else."""

import importlib
from contextlib import AbstractContextManager
from typing import cast

from benchmarks.backend import Backend
from benchmarks.errors import BenchmarkError

OWN = ("host", "container", "vm")
"""What this project makes itself, the baseline first: the arms of a run that names none."""

VARIANTS = ("vm:restored", "vm:distro", "vm:ordinary", "vm:session", "vm:system")
"""Our own ones in another way; each is its own subject in results."""

PEERS = ("runc", "crun", "bwrap", "nspawn", "podman", "docker", "qemu")
"""Other people's ways to run the same image, each used where it is installed."""

BACKENDS = (*OWN, *VARIANTS, *PEERS)
"""Every backend there is; each is a module of this package, ``_`` for the colon of a variant."""


def opened(name: str, *, within: str | None = None) -> AbstractContextManager[Backend]:
    """The backend *name*, warmed: what it needs once per process is done when this is entered.

    *within* is where control groups of its own may be made, below ours. Raises BenchmarkError
    for a name that is none.
    """
    if name not in BACKENDS:
        raise BenchmarkError(
            f"unknown backend {name!r}", remedy=f"choose from {', '.join(BACKENDS)}"
        )
    module = importlib.import_module(f"benchmarks.backends.{name.replace(':', '_')}")
    return cast("AbstractContextManager[Backend]", module.backend(within))
