"""Which of an index's images is meant. Everything here is pure.

Source: OCI image-spec, ``image-index.md``; variants after Go's GOARM and GOAMD64 habits.
"""

import platform as machine
import re
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.errors import ImageError
from runtime.image.document import Node, parse_document
from runtime.image.manifest import MANIFEST_TYPES, Descriptor
from runtime.image.registry.errors import RegistryError
from runtime.image.served import INDEX_TYPES

ACCEPTED = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
"""For the ``Accept`` header: all that we read."""

_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_DEFAULT_VARIANTS = {"arm64": "v8", "amd64": "v1", "arm": "v7"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def meant(self) -> tuple[str, str, str]:
        """Its parts, with the variant that is meant where none is given."""
        default = _DEFAULT_VARIANTS.get(self.architecture, "")
        return self.os, self.architecture, self.variant or default

    def suits(self, image: "Platform") -> bool:
        """Whether *image* is for this platform: an older variant is, another is not."""
        ours, theirs = self.meant, image.meant
        return ours[:2] == theirs[:2] and theirs[2] <= ours[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One manifest of an index; *platform* is None where the index does not say."""

    descriptor: Descriptor
    platform: Platform | None


def parse_platform(text: str) -> Platform:
    """``os/architecture`` or ``os/architecture/variant``. Raises RegistryError."""
    match = _PLATFORM.fullmatch(text.lower())
    if match is None:
        raise RegistryError(f"{text!r} is no platform", remedy="write one such as linux/arm64")
    architecture = _MACHINES.get(match[2], match[2])
    return Platform(os=match[1], architecture=architecture, variant=match[3] or "")


def this_platform() -> Platform:
    """What this machine runs."""
    name = machine.machine()
    return Platform(os="linux", architecture=_MACHINES.get(name, name))


def parse_entries(raw: bytes, digest: str) -> tuple[IndexEntry, ...]:
    """What the index *digest* lists, in its order. Raises ImageError."""
    document = parse_document(raw, digest)
    return tuple(_entry(node) for node in document["manifests"].items())


def choose(entries: Sequence[IndexEntry], wanted: Platform, digest: str) -> Descriptor:
    """The manifest for *wanted*: the first that is exactly so, else the newest variant that runs.

    An index that says nothing of platforms and has one entry means that one. Raises ImageError
    that names what there is.
    """
    known = [(entry.platform, entry.descriptor) for entry in entries if entry.platform is not None]
    suiting = [(platform, found) for platform, found in known if wanted.suits(platform)]
    if suiting:
        return max(suiting, key=lambda pair: pair[0].meant[2])[1]  # the first of equal ones
    if not known and len(entries) == 1:
        return entries[0].descriptor
    names = sorted({str(platform) for platform, _ in known if platform.os != "unknown"})
    there = ", ".join(names[:20]) or "none that says so"
    raise RegistryError(
        f"{digest} has no image for {wanted}, only for: {there}", remedy="choose with --platform"
    )


def _entry(node: Node) -> IndexEntry:
    platform = node["platform"]
    return IndexEntry(
        descriptor=Descriptor.from_node(node),
        platform=_platform(platform) if platform.present else None,
    )


def _platform(node: Node) -> Platform:
    return Platform(
        os=node["os"].text_or(""),
        architecture=node["architecture"].text_or(""),
        variant=node["variant"].text_or(""),
    )


def platform_of_config(raw: bytes, digest: str) -> Platform:
    """What the image with this configuration runs on. Raises ImageError."""
    try:
        return _platform(parse_document(raw, digest))
    except ImageError as error:
        raise RegistryError(error.message) from error
