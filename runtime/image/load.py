"""Images from a file that another tool wrote: an OCI layout in a tar, or docker's own archive.

Everything is read and verified before the first blob enters the store: a file with one bad image
changes nothing. Sources: OCI image-spec ``image-layout.md``; moby ``image/spec/v1.2.md``.
"""

import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from isal import isal_zlib

from runtime.errors import ImageError
from runtime.image.blob import CHUNK_BYTES
from runtime.image.bundle import Bundle, bundle
from runtime.image.compression import LayerStream
from runtime.image.document import Node, parse_document, parse_list, render_document
from runtime.image.home import cache_dir
from runtime.image.index import REFERENCE_NAME
from runtime.image.layer import Limits
from runtime.image.manifest import (
    CONFIG_TYPE,
    LAYER_GZIP_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Image,
    ImageConfig,
    Manifest,
    image_of,
)
from runtime.image.reference import parse_reference
from runtime.image.registry.choice import choose, parse_entries, this_platform
from runtime.image.save import FULL_NAME
from runtime.image.served import INDEX_TYPES
from runtime.image.store import Store

MAX_INDEX_DEPTH = 4
"""Indexes in indexes: one is common, more are not seen."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A verified image in an archive: its names, and how its blobs get into a store."""

    references: tuple[str, ...]
    write: Callable[[Store], Descriptor]


def load(store: Store, source: BinaryIO) -> tuple[Image, ...]:
    """Put every image of the archive *source* into *store*, under the names that it has there.

    A name that no reference may have is left out. Raises ImageError.
    """
    with bundle(source, cache_dir("scratch")) as archive:
        if "index.json" in archive:
            found = _oci(archive)
        elif "manifest.json" in archive:
            found = _docker(archive)
        else:
            raise ImageError(
                "it is neither an OCI nor a docker archive: no index.json, no manifest.json",
                remedy="make one with 'isoscope image save', or skopeo copy … oci-archive:FILE",
            )
        with store.writing():
            written = [(each.write(store).digest, each.references) for each in found]
            return tuple(_named(store, digest, names) for digest, names in written)


def _named(store: Store, digest: str, references: tuple[str, ...]) -> Image:
    return store.tag(digest, *references) if references else store.keep(digest)


# An OCI layout


def _oci(archive: Bundle) -> list[Found]:
    document = parse_document(archive.read("index.json"), "index.json")
    names: dict[str, tuple[str, ...]] = {}
    manifests: dict[str, Descriptor] = {}
    for node in document["manifests"].items():
        descriptor = _manifest_of(archive, Descriptor.from_node(node))
        manifests[descriptor.digest] = descriptor
        known = names.get(descriptor.digest, ())
        names[descriptor.digest] = tuple(dict.fromkeys((*known, *_names(node["annotations"]))))
    if not manifests:
        raise ImageError("the archive has no image")
    return [_verified(archive, each, names[digest]) for digest, each in manifests.items()]


def _manifest_of(archive: Bundle, descriptor: Descriptor) -> Descriptor:
    """The image that *descriptor* is, or that an index has for this machine."""
    for _ in range(MAX_INDEX_DEPTH):
        if descriptor.media_type not in INDEX_TYPES:
            return descriptor
        raw = _blob(archive, descriptor)
        digest = descriptor.digest
        descriptor = choose(parse_entries(raw, digest), this_platform(), digest)
    raise ImageError(f"{descriptor.digest}: indexes in indexes without an end")


def _verified(archive: Bundle, descriptor: Descriptor, names: tuple[str, ...]) -> Found:
    raw = _blob(archive, descriptor)
    manifest = Manifest.from_json(raw, descriptor.digest)
    config = ImageConfig.from_json(_blob(archive, manifest.config), manifest.config.digest)
    image_of(descriptor, manifest, config, ())  # raises where they contradict each other
    layers = tuple(dict.fromkeys(manifest.layers))  # one that stands there often is read once
    for layer in layers:
        _check(archive, layer)

    def write(store: Store) -> Descriptor:
        for blob in (manifest.config, *layers):
            store.write_blob(archive.open(_path(blob)), blob.media_type, expected=blob.digest)
        return store.write_blob(raw, manifest.media_type, expected=descriptor.digest)

    return Found(references=names, write=write)


def _path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"


def _blob(archive: Bundle, blob: Descriptor) -> bytes:
    _check(archive, blob)
    return archive.read(_path(blob))


def _check(archive: Bundle, blob: Descriptor) -> None:
    """That *blob* is in the archive, whole."""
    size_bytes = archive.size_bytes(_path(blob))
    if size_bytes != blob.size_bytes:
        raise ImageError(
            f"blob {blob.digest} has {size_bytes} bytes in the archive, not {blob.size_bytes}"
        )
    hasher = hashlib.sha256()
    section = archive.open(_path(blob))
    while chunk := section.read(CHUNK_BYTES):
        hasher.update(chunk)
    if blob.digest != f"sha256:{hasher.hexdigest()}":
        raise ImageError(f"blob {blob.digest} in the archive hashes to {hasher.hexdigest()}")


def _names(annotations: Node) -> tuple[str, ...]:
    """The whole name that docker and containerd write, else the one of the image-spec."""
    for key in (FULL_NAME, REFERENCE_NAME):
        if annotations[key].present:
            return _spelled((annotations[key].text(),))
    return ()


def _spelled(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for text in names if (name := _reference(text)) is not None))


def _reference(text: str) -> str | None:
    try:
        return str(parse_reference(text))
    except ImageError:
        return None


# Docker's archive


def _docker(archive: Bundle) -> list[Found]:
    lines = parse_list(archive.read("manifest.json"), "manifest.json")
    found = [_docker_image(archive, line) for line in lines]
    if not found:
        raise ImageError("the archive has no image")
    return found


def _docker_image(archive: Bundle, line: Node) -> Found:
    raw = archive.read(line["Config"].text())
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    config = ImageConfig.from_json(raw, digest)
    layers = line["Layers"].texts()
    if len(layers) != len(config.diff_ids):
        raise ImageError(
            f"{line['Layers'].path} has {len(layers)} layers, but its configuration {digest} has"
            f" {len(config.diff_ids)} diff_ids"
        )
    pairs = tuple(zip(layers, config.diff_ids, strict=True))
    for name, diff_id in dict.fromkeys(pairs):
        with _tar(archive, name, diff_id) as tar:
            tar.drain()

    def write(store: Store) -> Descriptor:
        once = {pair: _write_layer(store, archive, *pair) for pair in dict.fromkeys(pairs)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": store.write_blob(raw, CONFIG_TYPE).to_json(),
            "layers": [once[pair].to_json() for pair in pairs],
        }
        return store.write_blob(render_document(manifest), MANIFEST_TYPE)

    return Found(references=_spelled(line["RepoTags"].texts()), write=write)


@contextmanager
def _tar(archive: Bundle, name: str, diff_id: str) -> Iterator[LayerStream]:
    """The uncompressed layer *name*, which proves at its end to be *diff_id*."""
    try:
        section = archive.open(name)
        yield LayerStream(section, diff_id=diff_id, limit_bytes=Limits().total_bytes)
    except ImageError as error:
        message = f"layer {name!r} ({diff_id}): {error.message}"
        raise ImageError(message, remedy=error.remedy) from error


def _write_layer(store: Store, archive: Bundle, name: str, diff_id: str) -> Descriptor:
    """Layers are compressed by docker's archive or not; in the store they always are."""
    with tempfile.TemporaryFile(dir=cache_dir("scratch")) as packed:
        with _tar(archive, name, diff_id) as tar:
            _gzip(tar, packed)
        packed.seek(0)
        return store.write_blob(packed, LAYER_GZIP_TYPE)


def _gzip(source: LayerStream, target: IO[bytes]) -> None:
    engine = isal_zlib.compressobj(2, isal_zlib.DEFLATED, _GZIP_WINDOW)
    while chunk := source.read(CHUNK_BYTES):
        target.write(engine.compress(chunk))
    target.write(engine.flush())
