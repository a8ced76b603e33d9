"""What images occupy, and how much of it they share: the same layer is stored once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.image.disks import disk_bytes, disks_bytes, disks_limit_bytes
from runtime.image.manifest import Image
from runtime.image.rootfs import rootfs_bytes
from runtime.image.slots import slot_bytes
from runtime.image.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Bytes of one image: those that other images use as well, and those that go with it."""

    shared_bytes: int
    unique_bytes: int

    @property
    def total_bytes(self) -> int:
        """What the image would occupy if it were alone."""
        return self.shared_bytes + self.unique_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUsage:
    """One image: its blobs, compressed, what of it is unpacked now, and its machines' disk."""

    image: Image
    stored: Share
    unpacked: Share
    disk_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """All images. The totals count what is shared once; ``unneeded_bytes`` a prune would free."""

    images: tuple[ImageUsage, ...]
    stored_bytes: int
    unpacked_bytes: int
    unneeded_bytes: int
    disks_bytes: int
    disks_limit_bytes: int


def usage(store: Store) -> Usage:
    """What the images of *store* occupy. Raises ImageError at a corrupt one."""
    images = store.images()
    stored = {image.digest: _blobs(image) for image in images}
    unpacked = {image.digest: _unpacked(image) for image in images}
    return Usage(
        images=tuple(
            ImageUsage(
                image=image,
                stored=_share(stored[image.digest], stored.values()),
                unpacked=_share(unpacked[image.digest], unpacked.values()),
                disk_bytes=sum(disk_bytes(image.digest).values()),
            )
            for image in images
        ),
        stored_bytes=_once(stored.values()),
        unpacked_bytes=_once(unpacked.values()),
        unneeded_bytes=store.prune(lambda *_: True, dry_run=True).blob_bytes,
        disks_bytes=disks_bytes(),
        disks_limit_bytes=disks_limit_bytes(),
    )


def _unpacked(image: Image) -> dict[str, int]:
    return rootfs_bytes(image.digest) | slot_bytes(image.config.diff_ids)


def _blobs(image: Image) -> dict[str, int]:
    manifest = image.manifest
    others = {blob.digest: blob.size_bytes for blob in (manifest.config, *manifest.layers)}
    named_bytes = sum(blob.size_bytes for blob in (manifest.config, *manifest.layers))
    return {image.digest: image.size_bytes - named_bytes, **others}


def _share(mine: dict[str, int], everyone: Iterable[dict[str, int]]) -> Share:
    users = Counter(name for parts in everyone for name in parts)
    shared_bytes = sum(size for name, size in mine.items() if users[name] > 1)
    return Share(shared_bytes=shared_bytes, unique_bytes=sum(mine.values()) - shared_bytes)


def _once(everyone: Iterable[dict[str, int]]) -> int:
    parts: dict[str, int] = {}
    for each in everyone:
        parts |= each
    return sum(parts.values())
