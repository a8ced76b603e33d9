"""What a lesson looks at: instances of one image as seen on one machine, live or recorded (pure).

All of one evidence comes from one machine. A container of this machine is never set beside a
virtual machine of another.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.backend import Reading
from benchmarks.results import Arm, Scalar
from reports.notebook import Badge
from reports.words import Words
from runtime.image import Descriptor, Image, ImageConfig, Manifest

SCHEMA = 2
SUBJECTS = ("host", "container", "vm")
"""The three ways of running that the first lesson compares, the plain process first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One instance, looked at while it idled; if it failed, only *error* says something.

    ``limit_bytes`` is the memory it was given, where its backend enforces that. ``alive`` is how
    many instances of the same image ran on the same backend when the memory was read. ``phases``
    are ns since the request and end with the first output.
    """

    backend: str
    block: int
    limit_bytes: int
    alive: int
    phases: Mapping[str, int]
    facts: Mapping[str, Scalar]
    memory: Mapping[str, Reading]
    absent: Mapping[str, str]
    error: str | None = None

    @property
    def memory_bytes(self) -> dict[str, int]:
        """Definition -> bytes, of those definitions that have a meaning here."""
        return {name: reading.value_bytes for name, reading in self.memory.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """An image's documents, byte for byte: its digest can be computed from them again."""

    reference: str
    manifest: str
    config: str

    @property
    def image(self) -> Image:
        """The image of these documents. Raises ImageError if they contradict each other."""
        raw = self.manifest.encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        manifest = Manifest.from_json(raw, digest)
        blob = Descriptor(media_type=manifest.media_type, digest=digest, size_bytes=len(raw))
        config = ImageConfig.from_json(self.config.encode(), manifest.config.digest)
        parts = (blob, manifest.config, *manifest.layers)
        return Image(
            digest=digest,
            references=(self.reference,),
            manifest=manifest,
            config=config,
            created=config.created,
            size_bytes=sum(part.size_bytes for part in parts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a lesson shows numbers of. ``recorded`` is the day, or None: just now.

    ``looks`` ran alone and with the same limits; ``pairs`` two at once; ``others`` alone, with
    other amounts of memory. ``plan`` is the container's plan as it prints. ``note`` says why a
    recording is shown.
    """

    schema: int
    recorded: str | None
    environment: Mapping[str, Any]
    versions: Mapping[str, str]
    accelerator: str | None
    accelerator_sentence: str | None
    cpus: float
    limit_bytes: int
    image: ImageRecord
    plan: str
    looks: tuple[Look, ...]
    pairs: tuple[Look, ...]
    others: tuple[Look, ...]
    note: str | None = None

    def badge(self, words: Words) -> Badge:
        """Where these numbers come from; it belongs on everything that shows some of them."""
        said = {
            "day": self.recorded,
            "cpu": self.environment["cpu"] or words("notebook.unnamed"),
            "accelerator": self.accelerator or words("lesson.no_accelerator"),
        }
        is_live = self.recorded is None
        sentence = words("lesson.live" if is_live else "lesson.recorded", **said)
        return Badge(live=is_live, sentence=sentence, words=words)

    def of(self, backend: str) -> tuple[Look, ...]:
        """The instances of *backend* that ran alone and did not fail, in order."""
        return tuple(look for look in self.looks if look.backend == backend and look.error is None)

    def pair_of(self, backend: str) -> tuple[Look, ...]:
        """Two instances of *backend* that ran at the same time; empty if one of them failed."""
        found = tuple(look for look in self.pairs if look.backend == backend)
        return () if any(look.error is not None for look in found) else found

    def pss_by_limit(self, backend: str) -> dict[int, int]:
        """Memory given -> PSS of one instance alone (a median), in bytes; smallest limit first."""
        seen: dict[int, list[int]] = {}
        for look in (*self.looks, *self.others):
            if look.backend == backend and "pss" in look.memory:
                seen.setdefault(look.limit_bytes, []).append(look.memory_bytes["pss"])
        return {limit: round(median(seen[limit])) for limit in sorted(seen)}

    @property
    def everyone(self) -> tuple[Look, ...]:
        """All instances, those that failed included."""
        return (*self.looks, *self.pairs, *self.others)

    @property
    def failures(self) -> tuple[Look, ...]:
        """The instances that gave nothing, with why: they count too."""
        return tuple(look for look in self.everyone if look.error is not None)

    def arm(self, backend: str) -> Arm:
        """*backend* as a subject: the accelerator belongs to the vm's name."""
        accelerator = self.accelerator if backend == "vm" else None
        return Arm(label=backend, backend=backend, accelerator=accelerator, note=None)
