"""Whether machines can run here: each part is tried, and the first that fails says why."""

import platform
import shutil
from collections.abc import Iterator

from runtime.image import ImageError, state_dir
from vmbackend.compiler import missing_compiler
from vmbackend.connection import EMBEDDED, Connection
from vmbackend.disk import administrators_path
from vmbackend.distribution import missing_initrd_tool
from vmbackend.errors import MachineError
from vmbackend.hypervisor import missing
from vmbackend.kernel import cached_kernel, downloadable
from vmbackend.spec import BootProfile

ARCHITECTURE = "x86_64"


def probe(
    connection: Connection = EMBEDDED, *, profile: BootProfile = "minimal"
) -> tuple[str, str] | None:
    """None if machines can run here, by *connection*, else reason and remedy.

    Nothing is downloaded and no guest is booted. What is opened stays open and warm.
    """
    try:
        return next(_obstacles(connection, profile), None)
    except (MachineError, ImageError) as error:
        return error.message, error.remedy or "see isoscope doctor"
    except OSError as error:
        where = error.filename or state_dir()
        return (
            f"{where} cannot be used: {error.strerror}",
            "set ISOSCOPE_HOME to a folder of yours",
        )


def _obstacles(connection: Connection, profile: BootProfile) -> Iterator[tuple[str, str]]:
    """What stands in the way, the cheapest to see first; nothing is tried beyond the first."""
    if (machine := platform.machine()) != ARCHITECTURE:
        reason = f"machines run on {ARCHITECTURE} only, and this computer is {machine}"
        yield reason, "use --on container here"
    if shutil.which("mkfs.ext4", path=administrators_path()) is None:
        yield "mkfs.ext4 is missing", "apt-get install e2fsprogs"
    for error in filter(None, (missing_compiler(), missing(connection))):
        yield error.message, error.remedy or "see isoscope doctor"
    if profile == "ordinary" and (why := missing_initrd_tool()) is not None:
        yield why.message, why.remedy or "see isoscope doctor"
    if cached_kernel() is None and not downloadable():
        yield "no kernel for the guest, and apt knows none", "apt-get update, on Debian"
