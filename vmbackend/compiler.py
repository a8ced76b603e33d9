"""The C programs of this package: compiled once, kept by the digest of their source."""

import hashlib
import shutil
import subprocess
from functools import partial
from pathlib import Path

from vmbackend.cache import made_once, vm_cache
from vmbackend.errors import MachineUnavailable

AGENT_SOURCE = Path(__file__).parent / "guest" / "agent.c"
WATCHDOG_SOURCE = Path(__file__).parent / "watchdog.c"

_FLAGS = ("-static", "-O2", "-s", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
_REMEDY = "apt-get install gcc libc6-dev"


def compiled(source: Path) -> Path:
    """The static program made from *source*. Raises MachineUnavailable without a C compiler."""
    program = _target(source)
    made_once(program, partial(_compile, source))
    return program


def missing_compiler() -> MachineUnavailable | None:
    """Why the programs cannot be had here; None if they are cached or can be compiled."""
    if all(_target(source).exists() for source in (AGENT_SOURCE, WATCHDOG_SOURCE)):
        return None
    if shutil.which("gcc") is None:
        return MachineUnavailable(
            "no C compiler to make the guest's first process", remedy=_REMEDY
        )
    return None


def _target(source: Path) -> Path:
    recipe = source.read_bytes() + "\0".join(_FLAGS).encode()
    return vm_cache("programs", f"{source.stem}-{hashlib.sha256(recipe).hexdigest()[:32]}")


def _compile(source: Path, program: Path) -> None:
    try:
        subprocess.run(
            ["gcc", *_FLAGS, "-o", program, source], check=True, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise MachineUnavailable(
            "no C compiler to make the guest's first process", remedy=_REMEDY
        ) from None
    except subprocess.CalledProcessError as error:
        first = (error.stderr.strip() or "no message").splitlines()[0]
        raise MachineUnavailable(
            f"gcc could not make {source.name}: {first}", remedy=_REMEDY
        ) from error
