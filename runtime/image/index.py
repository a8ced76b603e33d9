"""The ``index.json`` of an image layout: which manifests there are and what they are called.

A manifest stands once for each of its names, the name in the annotation that other tools read
too; one that has lost its last name to another stands once without. Everything here is pure.
Source: OCI image-spec, ``image-layout.md`` and ``annotations.md``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import ImageError
from runtime.image.document import parse_document, render_document
from runtime.image.manifest import Descriptor
from runtime.image.reference import is_digest, parse_reference

REFERENCE_NAME = "org.opencontainers.image.ref.name"

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the index: a manifest and one of its names, or None where it has none."""

    descriptor: Descriptor
    reference: str | None


def parse_index(raw: bytes) -> tuple[Entry, ...]:
    """The entries of ``index.json``. Raises ImageError."""
    document = parse_document(raw, "index.json")
    if document["schemaVersion"].value != 2:
        raise document["schemaVersion"].wrong("2")
    entries = []
    for node in document["manifests"].items():
        name = node["annotations"][REFERENCE_NAME]
        reference = name.text() if name.present else None
        entries.append(Entry(descriptor=Descriptor.from_node(node), reference=reference))
    return tuple(entries)


def render_index(entries: Sequence[Entry]) -> bytes:
    """``index.json`` for *entries*."""
    return render_document(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [_to_json(entry) for entry in entries],
        }
    )


def tagged(entries: Sequence[Entry], descriptor: Descriptor, reference: str) -> tuple[Entry, ...]:
    """*entries* with *reference* naming *descriptor*; who had the name before stays, unnamed."""
    robbed = [entry.descriptor for entry in entries if entry.reference == reference]
    kept = [
        entry
        for entry in entries
        if entry.reference != reference
        and not (entry.reference is None and entry.descriptor.digest == descriptor.digest)
    ]
    kept.append(Entry(descriptor=descriptor, reference=reference))
    present = {entry.descriptor.digest for entry in kept}
    kept += [Entry(descriptor=old, reference=None) for old in robbed if old.digest not in present]
    return tuple(kept)


def listed(entries: Sequence[Entry], descriptor: Descriptor) -> tuple[Entry, ...]:
    """*entries* with *descriptor* among them, without a name if it has none yet."""
    if descriptor.digest in {entry.descriptor.digest for entry in entries}:
        return tuple(entries)
    return (*entries, Entry(descriptor=descriptor, reference=None))


def without(entries: Sequence[Entry], *names: str) -> tuple[Entry, ...]:
    """*entries* after the removal of each of *names*: one name if it is one, else the manifest."""
    dropped = {entry for name in names for entry in _meant(entries, name)}
    return tuple(entry for entry in entries if entry not in dropped)


def gone(before: Sequence[Entry], after: Sequence[Entry]) -> tuple[str, ...]:
    """The digests of the manifests that are in *before* only, in its order."""
    left = {entry.descriptor.digest for entry in after}
    digests = (entry.descriptor.digest for entry in before)
    return tuple(dict.fromkeys(digest for digest in digests if digest not in left))


def find(entries: Sequence[Entry], name: str) -> Descriptor:
    """The manifest that *name* means: a reference, a digest, or 12 and more digits of one.

    Raises ImageError if there is none or more than one.
    """
    reference = _reference_in(entries, name)
    if reference is not None:
        return next(entry.descriptor for entry in entries if entry.reference == reference)
    found = {entry.descriptor.digest: entry.descriptor for entry in _by_digest(entries, name)}
    if len(found) > 1:
        raise ImageError(
            f"{name!r} begins the digests of {len(found)} images", remedy="give more digits"
        )
    if not found:
        raise ImageError(
            f"no image named {name!r}",
            remedy="see 'isoscope image ls'; 'isoscope image pull' and 'isoscope image bootstrap"
            " busybox|debian' get one",
        )
    return next(iter(found.values()))


def references_of(entries: Sequence[Entry], digest: str) -> tuple[str, ...]:
    """The names of the manifest *digest*, sorted."""
    names = (entry.reference for entry in entries if entry.descriptor.digest == digest)
    return tuple(sorted(name for name in names if name is not None))


def _meant(entries: Sequence[Entry], name: str) -> list[Entry]:
    reference = _reference_in(entries, name)
    if reference is not None:
        return [entry for entry in entries if entry.reference == reference]
    digest = find(entries, name).digest
    return [entry for entry in entries if entry.descriptor.digest == digest]


def _reference_in(entries: Sequence[Entry], name: str) -> str | None:
    """The spelling under which *name* stands in the index, or None if it is no name there."""
    names = {entry.reference for entry in entries}
    if is_digest(name):  # nobody's name for an image can be a digest of another
        return None
    if name in names:  # also one that another tool wrote and our grammar refuses
        return name
    if _PREFIX.fullmatch(name) and f"{name}:latest" not in names:
        return None
    normal = str(parse_reference(name))
    return normal if normal in names else None


def _by_digest(entries: Sequence[Entry], name: str) -> list[Entry]:
    repository, at, digest = name.rpartition("@")
    if at and is_digest(digest):
        # NAME@DIGEST means the digest, provided that it is an image of that name.
        wanted = parse_reference(repository).name
        same = [entry for entry in entries if entry.descriptor.digest == digest]
        return [entry for entry in same if _repository(entry.reference) == wanted]
    match = _PREFIX.fullmatch(name)
    if match is None:
        return []
    prefix = f"sha256:{match[1]}"
    return [entry for entry in entries if entry.descriptor.digest.startswith(prefix)]


def _repository(reference: str | None) -> str | None:
    try:
        return None if reference is None else parse_reference(reference).name
    except ImageError:  # written by another tool, with another idea of a name
        return None


def _to_json(entry: Entry) -> dict[str, Any]:
    line = entry.descriptor.to_json()
    if entry.reference is not None:
        line["annotations"] = {REFERENCE_NAME: entry.reference}
    return line
