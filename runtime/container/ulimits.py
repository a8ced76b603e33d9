"""Resource limits of processes, as docker's ``--ulimit`` writes them (pure).

Source: getrlimit(2) for names and meaning; numbers are those of asm-generic/resource.h, which
x86-64 and aarch64 share. Sizes are in the kernel's own units: bytes, seconds, counts.
"""

import re
from dataclasses import dataclass

from runtime.errors import SpecError

RESOURCES = (
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks",
    "sigpending", "msgqueue", "nice", "rtprio", "rttime",
)  # fmt: skip
"""In the order of their numbers."""

UNLIMITED = (1 << 64) - 1
_WRITTEN = re.compile(r"([a-z]{1,16})=(-1|unlimited|[0-9]{1,20})(?::(-1|unlimited|[0-9]{1,20}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """*soft* is enforced, and may be raised up to *hard* by whoever has it."""

    name: str
    soft: int
    hard: int

    @property
    def number(self) -> int:
        """The number by which the kernel knows it."""
        return RESOURCES.index(self.name)


def parse_ulimit(text: str) -> Ulimit:
    """``nofile=1024`` or ``nofile=1024:4096``, ``unlimited`` and -1 without bound.

    Raises SpecError.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None or match[1] not in RESOURCES:
        raise SpecError(
            f"{text[:80]!r} is no limit of a resource",
            remedy=f"write NAME=SOFT[:HARD]; names are {', '.join(RESOURCES)}",
        )
    soft = _amount(match[2], text)
    hard = soft if match[3] is None else _amount(match[3], text)
    if soft > hard:
        raise SpecError(
            f"{text!r}: the soft limit is above the hard one", remedy="write the smaller first"
        )
    return Ulimit(name=match[1], soft=soft, hard=hard)


def _amount(text: str, whole: str) -> int:
    if text in {"-1", "unlimited"}:
        return UNLIMITED
    if int(text) > UNLIMITED:
        raise SpecError(f"{whole!r}: {text} is more than the kernel counts")
    return int(text)
