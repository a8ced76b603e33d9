"""``served.json``: manifests that are no images of this machine, kept for the registry to serve.

Indexes of several platforms, signatures and other artifacts, and images pushed without a name:
nothing here runs them, so ``index.json`` does not have them. The file has its form (OCI
image-spec, ``image-layout.md``). Everything here is pure.

A name may stand in both files, since an index's image for this machine has its name too. Names
are given away in ``index.json`` only, so an entry here remembers what the name meant there when
it was made, and means nothing any more once that has changed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import ImageError
from runtime.image.document import Node, parse_document, render_document
from runtime.image.index import REFERENCE_NAME
from runtime.image.manifest import MANIFEST_TYPE, MANIFEST_TYPES, Descriptor, Manifest

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEX_TYPES = frozenset({INDEX_TYPE, DOCKER_LIST_TYPE})

_BESIDE = "isoscope.image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A manifest and one of its names, or None; *beside* is the image that had the name then."""

    descriptor: Descriptor
    reference: str | None = None
    beside: str | None = None


def parse_served(raw: bytes) -> tuple[Served, ...]:
    """The entries of ``served.json``. Raises ImageError."""
    return tuple(_entry(node) for node in parse_document(raw, "served.json")["manifests"].items())


def render_served(entries: Sequence[Served]) -> bytes:
    """``served.json`` for *entries*."""
    lines = [_to_json(entry) for entry in entries]
    return render_document({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": lines})


def holds(entry: Served, names: Mapping[str, str]) -> bool:
    """Whether *entry* still has its name; *names* maps those of the index to digests."""
    return entry.reference is not None and names.get(entry.reference) == entry.beside


def needed_by(entries: Sequence[Served], read_blob: Callable[[Descriptor], bytes]) -> set[str]:
    """The digests of all that *entries* need. Raises ImageError if one of them is corrupt.

    An index may list what was never pushed here, or was removed since: that needs nothing.
    """
    found: set[str] = set()
    waiting = [(entry.descriptor, True) for entry in entries]
    while waiting:
        descriptor, must_be = waiting.pop()
        if descriptor.digest in found:
            continue
        found.add(descriptor.digest)
        if descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES:
            try:
                made_of = parts(descriptor, read_blob(descriptor))
            except ImageError:
                if must_be:
                    raise
                continue
            waiting += [(part, False) for part in made_of]
    return found


def parts(descriptor: Descriptor, raw: bytes) -> tuple[Descriptor, ...]:
    """What the manifest or index *raw* is made of. Raises ImageError."""
    if descriptor.media_type in INDEX_TYPES:
        document = parse_document(raw, descriptor.digest)
        return tuple(Descriptor.from_node(node) for node in document["manifests"].items())
    manifest = Manifest.from_json(raw, descriptor.digest)
    return (manifest.config, *manifest.layers)


def subject_of(raw: bytes, digest: str) -> Descriptor | None:
    """What the manifest *raw* refers to, if it does. Raises ImageError."""
    subject = parse_document(raw, digest)["subject"]
    return Descriptor.from_node(subject) if subject.present else None


def described(descriptor: Descriptor, raw: bytes) -> dict[str, Any]:
    """The line of a list of referrers (distribution-spec, "Listing Referrers")."""
    document = parse_document(raw, descriptor.digest)
    kind = document["artifactType"].text_or("") or document["config"]["mediaType"].text_or("")
    line = descriptor.to_json()
    if kind:
        line["artifactType"] = kind
    if annotations := document["annotations"].mapping():
        line["annotations"] = annotations
    return line


def media_type_of(raw: bytes, told: str | None, digest: str) -> str:
    """What kind of manifest *raw* is: its own word, else what was *told*, else by its fields.

    Raises ImageError if it is none that can be read, or an image and an index at once.
    """
    document = parse_document(raw, digest)
    if document["schemaVersion"].value == 1:
        raise ImageError(
            f"{digest} is an image of docker's schema 1, which is obsolete",
            remedy="push the image again with a newer tool",
        )
    header = (told or "").partition(";")[0].strip().lower()
    shape = INDEX_TYPE if document["manifests"].present else MANIFEST_TYPE
    known = MANIFEST_TYPES | INDEX_TYPES
    kind = document["mediaType"].text_or("") or (header if header in known else shape)
    if kind not in known:
        raise ImageError(f"{digest} is a {json.dumps(kind[:80])}, not an image or index")
    if document["manifests"].present and (document["config"].present or kind in MANIFEST_TYPES):
        raise ImageError(f"{digest} is an image and an index at once")
    return kind


def _entry(node: Node) -> Served:
    annotations = node["annotations"]
    return Served(
        descriptor=Descriptor.from_node(node),
        reference=annotations[REFERENCE_NAME].text_or("") or None,
        beside=annotations[_BESIDE].text_or("") or None,
    )


def _to_json(entry: Served) -> dict[str, Any]:
    line = entry.descriptor.to_json()
    marks = {REFERENCE_NAME: entry.reference, _BESIDE: entry.beside}
    if annotations := {key: value for key, value in marks.items() if value is not None}:
        line["annotations"] = annotations
    return line
