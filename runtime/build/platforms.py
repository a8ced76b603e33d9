"""Platforms as ``os/architecture[/variant]``, and the arguments that every build has of them."""

import os
import re
from collections.abc import Iterator

_OTHER_NAMES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "arm64/v8": "arm64",
    "i386": "386",
    "i686": "386",
    "armhf": "arm/v7",
    "armv7l": "arm/v7",
}
_ARCHITECTURE = re.compile(
    r"(?:386|amd64|arm64|arm|loong64|mips64le|ppc64le|riscv64|s390x)(?:/v[0-9]{1,2})?"
)


def host_platform() -> str:
    """That of this machine."""
    return parse_platform(f"linux/{os.uname().machine}")


def parse_platform(text: str) -> str:
    """*text* in its one spelling, as ``linux/amd64``. Raises ValueError; all but Linux is none."""
    system, slash, rest = text.lower().partition("/")
    if not slash:
        system, rest = "linux", system if system != "linux" else os.uname().machine
    architecture = _OTHER_NAMES.get(rest, rest)
    if system != "linux" or not _ARCHITECTURE.fullmatch(architecture):
        raise ValueError(f"{text[:40]!r} is no platform, as linux/amd64")
    return f"linux/{architecture}"


def platform_arguments(build: str, target: str) -> Iterator[tuple[str, str]]:
    """``BUILDPLATFORM``, ``TARGETARCH`` and so on, as the Dockerfile reference lists them."""
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        name, architecture, variant = f"{platform}/".split("/")[:3]
        yield f"{prefix}PLATFORM", platform
        yield f"{prefix}OS", name
        yield f"{prefix}ARCH", architecture
        yield f"{prefix}VARIANT", variant
