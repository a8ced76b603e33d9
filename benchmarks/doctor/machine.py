"""The rungs that belong to no engine: Python and its packages, disk space, an image to run."""

import platform
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.doctor.rung import Rung
from runtime.image import ImageError, Store, state_dir
from runtime.image.bootstrap import BUSYBOX
from runtime.image.elf import read_elf

PART = "machine"
NEEDED_BYTES = 1 << 30
"""For the guest's kernel (100 MB), disks and trees of small images, and a run's overlays."""

_OWN = ("host", "container", "vm")
_SETUP = "./isoscope setup"
_LIMIT_S = 10.0
_SHOWN = 3


def python_rung() -> Rung:
    """The interpreter; one that is too old would not have come this far."""
    return Rung(part=PART, name="Python", ok=True, found=platform.python_version())


def packages_rung() -> Rung:
    """What measuring and reporting import; the engines' own packages are their rungs."""
    wanted = ("numpy", "rich", "jinja2", "matplotlib")
    lacking = [name for name in wanted if find_spec(name) is None]
    return Rung(
        part=PART,
        name="Python packages",
        ok=not lacking,
        found=f"without {', '.join(lacking)}" if lacking else ", ".join(wanted),
        remedy=_SETUP if lacking else None,
        costs=("bench", "report"),
    )


def disk_rung() -> Rung:
    """Whether the state directory can be written, and how much room there is."""
    name, home = "disk space", "set ISOSCOPE_HOME to a directory of yours"
    try:
        directory = state_dir()
    except ImageError as error:
        return _no_disk(name, error.message, error.remedy or home)
    place = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as trial:
            trial.write(b"isoscope")
        free_bytes = shutil.disk_usage(place).free
    except OSError as error:
        return _no_disk(name, f"{directory} cannot be written: {error.strerror}", home)
    found = f"{free_bytes / (1 << 30):,.1f} GiB free for {directory}"
    if free_bytes < NEEDED_BYTES:
        return _no_disk(name, found, f"free {NEEDED_BYTES >> 30} GiB there, or {home}")
    return Rung(part=PART, name=name, ok=True, found=found, costs=_OWN)


def image_rung() -> Rung:
    """Whether there is an image to run, or this machine can make one."""
    name = "an image"
    try:
        references = [r for image in Store().images() for r in image.references]
        if references:
            more = len(references) - _SHOWN
            shown = ", ".join(references[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
            return Rung(part=PART, name=name, ok=True, found=shown, costs=_OWN)
        _try_busybox(BUSYBOX)
    except ImageError as error:
        return Rung(
            part=PART,
            name=name,
            ok=False,
            found=error.message,
            remedy=error.remedy or "see isoscope image ls",
            costs=_OWN,
        )
    found = f"none yet; busybox is made of {BUSYBOX} when it is first named"
    return Rung(part=PART, name=name, ok=True, found=found, costs=_OWN)


def notebooks_rung() -> Rung:
    """Whether the course can be opened. Nothing else needs it."""
    has_jupyter = find_spec("jupyterlab") is not None
    return Rung(
        part="course",
        name="Jupyter",
        ok=has_jupyter or None,
        found="jupyterlab" if has_jupyter else "not installed",
        remedy=None if has_jupyter else "./isoscope setup --notebooks",
        costs=("lab",),
    )


def _no_disk(name: str, found: str, remedy: str) -> Rung:
    return Rung(part=PART, name=name, ok=False, found=found, remedy=remedy, costs=_OWN)


def _try_busybox(binary: Path) -> None:
    """It is there, needs nothing of this machine's libraries, and runs. Raises ImageError."""
    remedy = "apt-get install busybox-static"
    try:
        is_static = read_elf(binary).static
        if is_static:
            subprocess.run([binary, "true"], check=True, timeout=_LIMIT_S)
    except (OSError, subprocess.SubprocessError) as error:
        why = f"no image here, and {binary} does not run: {error}"
        raise ImageError(why, remedy=remedy) from error
    if not is_static:
        raise ImageError(f"no image here, and {binary} is not static", remedy=remedy)
