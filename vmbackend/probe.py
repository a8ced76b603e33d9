"""Whether machines can run here: each part is tried, and the first that fails says why."""

import platform

from runtime.image import ImageError
from vmbackend.compiler import missing_compiler
from vmbackend.errors import MachineError
from vmbackend.hypervisor import missing
from vmbackend.kernel import cached_kernel, downloadable

ARCHITECTURE = "x86_64"


def probe() -> tuple[str, str] | None:
    """None if machines can run here, else reason and remedy.

    Nothing is downloaded and no guest is booted. What is opened stays open and warm.
    """
    if platform.machine() != ARCHITECTURE:
        return (
            f"machines run on {ARCHITECTURE} only, and this computer is {platform.machine()}",
            "use --on container here",
        )
    try:
        obstacle = missing_compiler() or missing()
    except (MachineError, ImageError) as error:
        return error.message, error.remedy or "see isoscope doctor"
    if obstacle is not None:
        return obstacle.message, obstacle.remedy or "see isoscope doctor"
    if cached_kernel() is None and not downloadable():
        return "no kernel for the guest, and apt knows none", "apt-get update, on Debian"
    return None
