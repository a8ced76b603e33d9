"""What the registry serves: the store's images under their names, and what was pushed besides.

``HOST/a/b:tag`` at this registry is the name ``a/b:tag`` of the store, and the reverse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import ImageError
from runtime.image.blob import digest_of
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.manifest import MANIFEST_TYPES, Descriptor, ImageConfig, Manifest, image_of
from runtime.image.reference import is_digest, parse_reference
from runtime.image.registry.choice import choose, parse_entries, this_platform
from runtime.image.served import (
    INDEX_TYPES,
    Served,
    described,
    holds,
    media_type_of,
    parts,
    subject_of,
)
from runtime.image.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A manifest that was stored, and the digest that it refers to, if it does."""

    digest: str
    subject: str | None


class MissingPartError(ImageError):
    """A manifest names a blob that the store does not have."""


class Catalog:
    """The names and manifests of *store*, as a registry sees them. Threads may share it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # Both by digest, so never out of date.
        self._subjects: dict[str, str | None] = {}
        self._listed: dict[str, tuple[Descriptor, ...]] = {}

    def find(self, repository: str, reference: str) -> Descriptor | None:
        """The manifest that *reference*, a tag or digest, means in *repository*, if any."""
        if is_digest(reference):
            return self._by_digest().get(reference)
        return self._by_name().get(_name(repository, reference))

    def tags(self, repository: str) -> tuple[str, ...]:
        """The tags in *repository*, sorted."""
        wanted = parse_reference(repository).name
        found = (parse_reference(name) for name in self._by_name())
        return tuple(sorted(each.tag for each in found if each.name == wanted and each.tag))

    def repositories(self) -> tuple[str, ...]:
        """Every repository that has a tag, sorted."""
        found = (parse_reference(name) for name in self._by_name())
        return tuple(sorted({each.name for each in found if each.tag}))

    def put(self, repository: str, reference: str, raw: bytes, told_type: str | None) -> Accepted:
        """Store the manifest *raw* as *reference*. Raises ImageError, MissingPartError.

        A runnable image with a tag becomes an image of the store. An index does with the image
        in it that this machine can run, if there is one.
        """
        digest = digest_of(raw)
        kind = media_type_of(raw, told_type, digest)
        descriptor = Descriptor(media_type=kind, digest=digest, size_bytes=len(raw))
        made_of, subject = parts(descriptor, raw), subject_of(raw, digest)
        robbed = None
        with self.store.writing():
            for part in made_of:
                self._require(part)
            self.store.write_blob(raw, expected=digest)
            if is_digest(reference):
                self._serve(Served(descriptor=descriptor))
            else:
                robbed = self._tag(descriptor, raw, _name(repository, reference))
        if robbed is not None:  # a removal waits until nobody writes: not while we do
            self.store.remove(robbed)
        return Accepted(digest=digest, subject=None if subject is None else subject.digest)

    def untag(self, repository: str, tag: str) -> bool:
        """Take the name away; whether it was there. Raises ImageError."""
        name = _name(repository, tag)
        if name not in self._by_name():
            return False
        self.store.serve(lambda known: [each for each in known if each.reference != name])
        if any(entry.reference == name for entry in self.store.entries()):
            self.store.remove(name)
        else:
            self.store.sweep()
        return True

    def delete(self, repository: str, digest: str) -> bool:
        """Take all names in *repository* from a manifest, and forget it if that were all.

        Whether it was there. Raises ImageError.
        """
        if digest not in self._by_digest():
            return False
        wanted = parse_reference(repository).name
        images = [each for each in self.store.entries() if each.descriptor.digest == digest]
        ours = [each.reference for each in images if _is_in(each.reference, wanted)]
        self.store.serve(
            lambda known: [
                each
                for each in known
                if each.descriptor.digest != digest
                or not (each.reference is None or _is_in(each.reference, wanted))
            ]
        )
        for name in ours:
            if name is not None:
                self.store.remove(name)
        if images and all(each.reference is None for each in images):
            self.store.remove(digest)
        self.store.sweep()
        return True

    def names_of(self, digest: str) -> tuple[str, ...]:
        """The names that lead to the image *digest* in the store."""
        entries = self.store.entries()
        return tuple(
            each.reference
            for each in entries
            if each.reference is not None and each.descriptor.digest == digest
        )

    def is_part(self, digest: str) -> bool:
        """Whether the blob *digest* belongs to something that is served. Raises ImageError."""
        for descriptor in self._by_digest().values():
            raw = self.store.read_blob(descriptor)
            if any(part.digest == digest for part in (descriptor, *parts(descriptor, raw))):
                return True
        return False

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """What refers to *digest*, as lines of an index, each with its ``artifactType``."""
        lines = []
        for descriptor in self._by_digest().values():
            if descriptor.digest not in self._subjects:
                raw = self.store.read_blob(descriptor)
                subject = subject_of(raw, descriptor.digest)
                self._subjects[descriptor.digest] = None if subject is None else subject.digest
            if self._subjects[descriptor.digest] == digest:
                lines.append(described(descriptor, self.store.read_blob(descriptor)))
        return lines

    def _tag(self, descriptor: Descriptor, raw: bytes, name: str) -> str | None:
        """Give the name away; it again if an image must lose it that nothing here replaces."""
        image = self._runnable(descriptor, raw)
        if image is not None:
            self.store.tag(image, name)
        if image == descriptor.digest:
            self.store.serve(
                lambda known: [
                    each
                    for each in known
                    if each.reference != name
                    and not (each.reference is None and each.descriptor.digest == image)
                ]
            )
            return None
        self._serve(Served(descriptor=descriptor, reference=name, beside=image))
        named = any(entry.reference == name for entry in self.store.entries())
        return name if image is None and named else None

    def _serve(self, entry: Served) -> None:
        """Add *entry*; nameless ones that it holds together from now on go."""
        digest, name = entry.descriptor.digest, entry.reference
        held = {digest, *(part.digest for part in self._children(entry.descriptor))}

        def change(known: Sequence[Served]) -> Sequence[Served]:
            if name is None and any(each.descriptor.digest == digest for each in known):
                return known
            kept = [
                each
                for each in known
                if each.reference != name
                if each.reference is not None or each.descriptor.digest not in held
            ]
            return [*(kept if name is not None else known), entry]

        self.store.serve(change)

    def _runnable(self, descriptor: Descriptor, raw: bytes) -> str | None:
        """The image that this machine can run: *raw* itself, or one in an index; else None."""
        try:
            if descriptor.media_type in INDEX_TYPES:
                entries = parse_entries(raw, descriptor.digest)
                chosen = choose(entries, this_platform(), descriptor.digest)
                return self._runnable(chosen, self.store.read_blob(chosen))
            manifest = Manifest.from_json(raw, descriptor.digest)
            config = self.store.read_blob(manifest.config)
            parsed = ImageConfig.from_json(config, manifest.config.digest)
            image_of(descriptor, manifest, parsed, ())
        except (ImageError, RecursionError):
            return None
        return descriptor.digest

    def _require(self, part: Descriptor) -> None:
        try:
            with self.store.open_raw(part.digest) as (_, size_bytes):
                if size_bytes == part.size_bytes:
                    return
        except ImageError:
            pass
        raise MissingPartError(f"{part.digest} of {part.size_bytes} bytes was not pushed before")

    def _by_name(self) -> Mapping[str, Descriptor]:
        images = {
            entry.reference: entry.descriptor
            for entry in self.store.entries()
            if entry.reference is not None and _is_name(entry.reference)
        }
        digests = {name: descriptor.digest for name, descriptor in images.items()}
        others = {
            each.reference: each.descriptor
            for each in self.store.served()
            if each.reference is not None and holds(each, digests)
        }
        return {**images, **others}

    def _by_digest(self) -> Mapping[str, Descriptor]:
        """Every manifest that can be had, those that only an index lists included."""
        waiting = [entry.descriptor for entry in self.store.entries()]
        waiting += [entry.descriptor for entry in self.store.served()]
        found: dict[str, Descriptor] = {}
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest not in found and _is_manifest(descriptor):
                found[descriptor.digest] = descriptor
                waiting += self._children(descriptor)
        return found

    def _children(self, descriptor: Descriptor) -> tuple[Descriptor, ...]:
        """What an index lists and is here; nothing for what is no index."""
        if descriptor.media_type not in INDEX_TYPES:
            return ()
        if descriptor.digest not in self._listed:
            listed = parts(descriptor, self.store.read_blob(descriptor))
            self._listed[descriptor.digest] = listed
        return self._listed[descriptor.digest]


def _name(repository: str, tag: str) -> str:
    return str(parse_reference(f"{repository}:{tag}"))


def _is_manifest(descriptor: Descriptor) -> bool:
    known = descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES
    return known and descriptor.size_bytes <= MAX_DOCUMENT_BYTES


def _is_name(text: str) -> bool:
    """Whether our grammar has it: another tool may have written the index."""
    try:
        return str(parse_reference(text)) == text
    except ImageError:
        return False


def _is_in(name: str | None, repository: str) -> bool:
    return name is not None and _is_name(name) and parse_reference(name).name == repository
