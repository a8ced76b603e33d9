"""The C programs of this package: compiled once, kept by the digest of their source."""

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vmbackend.cache import made_once, vm_cache
from vmbackend.errors import MachineUnavailable

_HERE = Path(__file__).parent
AGENT = (*sorted(_HERE.glob("guest/*.c")), *sorted(_HERE.glob("guest/*.h")))
"""The sources of the guest's first process."""

WATCHDOG = (_HERE / "watchdog.c",)
"""The source of what cleans up after a killed owner of machines."""

READONLY = (_HERE / "readonly.c",)
"""The source of what makes a share read-only."""

_FLAGS = ("-static", "-O2", "-s", "-std=gnu11")
_REMEDY = "apt-get install gcc libc6-dev"


def compiled(sources: Sequence[Path]) -> Path:
    """The static program made from *sources*. Raises MachineUnavailable without a C compiler."""
    program = _target(sources)
    made_once(program, partial(_compile, sources))
    return program


def missing_compiler() -> MachineUnavailable | None:
    """Why the programs cannot be had here; None if they are cached or can be compiled."""
    if all(_target(sources).exists() for sources in (AGENT, WATCHDOG)):
        return None
    if shutil.which("gcc") is None:
        return MachineUnavailable(
            "no C compiler to make the guest's first process", remedy=_REMEDY
        )
    return None


def _target(sources: Sequence[Path]) -> Path:
    recipe = hashlib.sha256("\0".join(_FLAGS).encode())
    for source in sources:
        recipe.update(b"\0" + source.name.encode() + b"\0" + source.read_bytes())
    return vm_cache("programs", f"{sources[0].stem}-{recipe.hexdigest()[:32]}")


def _compile(sources: Sequence[Path], program: Path) -> None:
    units = [source for source in sources if source.suffix == ".c"]
    try:
        subprocess.run(
            ["gcc", *_FLAGS, "-o", program, *units], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise MachineUnavailable(
            "no C compiler to make the guest's first process", remedy=_REMEDY
        ) from None
    except subprocess.CalledProcessError as error:
        first = (error.stderr.strip() or "no message").splitlines()[0]
        raise MachineUnavailable(
            f"gcc could not make {sources[0].name}: {first}", remedy=_REMEDY
        ) from error
