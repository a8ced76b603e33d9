"""Platforms as ``os/architecture[/variant]``, and the arguments that every build has of them."""

import os
import re
from collections.abc import Iterator

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armv7l": "arm/v7",
    "armhf": "arm/v7",
}
_PLATFORM = re.compile(r"linux/[a-z0-9_-]{1,32}(?:/v[0-9]{1,2})?")


def host_platform() -> str:
    """That of this machine."""
    return parse_platform(f"linux/{os.uname().machine}")


def parse_platform(text: str) -> str:
    """*text* in its one spelling, as ``linux/amd64``. Raises ValueError; all but Linux is none."""
    name, _, rest = text.lower().partition("/")
    if not rest:
        name, rest = "linux", name if name != "linux" else os.uname().machine
    architecture, slash, variant = rest.partition("/")
    architecture = _ARCHITECTURES.get(architecture, architecture)
    platform = f"{name}/{architecture}{slash}{variant}".removesuffix("arm64/v8")
    platform = f"{platform}arm64" if platform == "linux/" else platform
    if not _PLATFORM.fullmatch(platform):
        raise ValueError(f"{text!r} is no platform, as linux/amd64")
    return platform


def platform_arguments(build: str, target: str) -> Iterator[tuple[str, str]]:
    """``BUILDPLATFORM``, ``TARGETARCH`` and so on, as the Dockerfile reference lists them."""
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        name, architecture, variant = f"{platform}/".split("/")[:3]
        yield f"{prefix}PLATFORM", platform
        yield f"{prefix}OS", name
        yield f"{prefix}ARCH", architecture
        yield f"{prefix}VARIANT", variant
