"""Images from a file that another tool wrote: an OCI layout in a tar, or docker's own archive.

Everything is read and verified before the first blob enters the store: a file with one bad image
changes nothing. Sources: OCI image-spec ``image-layout.md``; moby ``image/spec/v1.2.md``.
"""

import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, BinaryIO

from isal import isal_zlib

from runtime.errors import ImageError
from runtime.image.blob import CHUNK_BYTES, Reader
from runtime.image.bundle import Bundle, bundle
from runtime.image.compression import LayerStream
from runtime.image.document import Node, parse_document, parse_list, render_document
from runtime.image.following import Following, short_name
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
    check_layers,
    image_of,
)
from runtime.image.progress import Showing, nobody
from runtime.image.reference import parse_reference
from runtime.image.registry.choice import choose, parse_entries, this_platform
from runtime.image.room import Room
from runtime.image.save import FULL_NAME
from runtime.image.served import INDEX_TYPES
from runtime.image.store import Store

MAX_INDEX_DEPTH = 4
"""Indexes in indexes: one is common, more are not seen."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS


Put = Callable[[Reader | bytes, str, str | None], Descriptor]
"""Writes a blob of a media type, and perhaps of a known digest, into the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A verified image in an archive: its names, and how its blobs get into a store."""

    references: tuple[str, ...]
    write: Callable[[Put], Descriptor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An image that was loaded. *replaced* has the digests that its names meant before."""

    image: Image
    replaced: Mapping[str, str]


def load(store: Store, source: BinaryIO, *, showing: Showing = nobody) -> tuple[Loaded, ...]:
    """Put every image of the archive *source* into *store*, under the names that it has there.

    A name that no reference may have is left out. *showing* gives who watches. Raises ImageError;
    then the store is as it was.
    """
    scratch = cache_dir("scratch")
    room = Room(path=scratch, what="the archive")
    with room.told(), showing() as watcher, bundle(source, scratch, room) as file:
        archive = Source(archive=file, following=Following(room=room, watcher=watcher))
        if "index.json" in file:
            found = _oci(archive)
        elif "manifest.json" in file:
            found = _docker(archive)
        else:
            raise ImageError(
                "it is neither an OCI nor a docker archive: no index.json, no manifest.json",
                remedy="make one with 'isoscope image save', or skopeo copy … oci-archive:FILE",
            )
        return _write(store, found)


def _write(store: Store, found: Sequence[Found]) -> tuple[Loaded, ...]:
    fresh: set[str] = set()

    def put(content: Reader | bytes, media_type: str, expected: str | None) -> Descriptor:
        blob = store.write_blob(content, media_type, expected=expected)
        fresh.add(blob.digest)
        return blob

    try:
        with store.writing():
            written = [(each.write(put).digest, each.references) for each in found]
            return tuple(_named(store, digest, names) for digest, names in written)
    except BaseException:
        with suppress(ImageError):  # the first error is the one to tell
            store.discard(fresh)
        raise


def _named(store: Store, digest: str, references: tuple[str, ...]) -> Loaded:
    known = {entry.reference: entry.descriptor.digest for entry in store.entries()}
    image = store.tag(digest, *references) if references else store.keep(digest)
    before = {name: known[name] for name in references if known.get(name, digest) != digest}
    return Loaded(image=image, replaced=before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive, and who follows the reading of its blobs."""

    archive: Bundle
    following: Following

    def open(self, name: str, shown: str, state: str) -> Reader:
        """The member *name*, called *shown*, which is read to do *state*."""
        section = self.archive.open(name)
        return self.following.reader(section, shown, self.archive.size_bytes(name), state)


# An OCI layout


def _oci(source: Source) -> list[Found]:
    document = parse_document(source.archive.read("index.json"), "index.json")
    names: dict[str, tuple[str, ...]] = {}
    manifests: dict[str, Descriptor] = {}
    for node in document["manifests"].items():
        descriptor = _manifest_of(source, Descriptor.from_node(node))
        manifests[descriptor.digest] = descriptor
        known = names.get(descriptor.digest, ())
        names[descriptor.digest] = tuple(dict.fromkeys((*known, *_names(node["annotations"]))))
    if not manifests:
        raise ImageError("the archive has no image")
    return [_verified(source, each, names[digest]) for digest, each in manifests.items()]


def _manifest_of(source: Source, descriptor: Descriptor) -> Descriptor:
    """The image that *descriptor* is, or that an index has for this machine."""
    for _ in range(MAX_INDEX_DEPTH):
        if descriptor.media_type not in INDEX_TYPES:
            return descriptor
        raw = _blob(source, descriptor)
        digest = descriptor.digest
        descriptor = choose(parse_entries(raw, digest), this_platform(), digest)
    raise ImageError(f"{descriptor.digest}: indexes in indexes without an end")


def _verified(source: Source, descriptor: Descriptor, names: tuple[str, ...]) -> Found:
    raw = _blob(source, descriptor)
    manifest = Manifest.from_json(raw, descriptor.digest)
    config = ImageConfig.from_json(_blob(source, manifest.config), manifest.config.digest)
    image_of(descriptor, manifest, config, ())  # raises where they contradict each other
    layers = tuple(dict.fromkeys(manifest.layers))  # one that stands there often is read once
    for layer in layers:
        source.following.expect(short_name(layer), layer.size_bytes)
    source.following.require()
    for layer in layers:
        _check(source, layer)

    def write(put: Put) -> Descriptor:
        for blob in (manifest.config, *layers):
            content = source.open(_path(blob), short_name(blob), "storing")
            put(content, blob.media_type, blob.digest)
        return put(raw, manifest.media_type, descriptor.digest)

    return Found(references=names, write=write)


def _path(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest.removeprefix('sha256:')}"


def _blob(source: Source, blob: Descriptor) -> bytes:
    _check(source, blob)
    return source.archive.read(_path(blob))


def _check(source: Source, blob: Descriptor) -> None:
    """That *blob* is in the archive, whole."""
    size_bytes = source.archive.size_bytes(_path(blob))
    if size_bytes != blob.size_bytes:
        raise ImageError(
            f"blob {blob.digest} has {size_bytes} bytes in the archive, not {blob.size_bytes}"
        )
    hasher = hashlib.sha256()
    section = source.open(_path(blob), short_name(blob), "checking")
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


def _docker(source: Source) -> list[Found]:
    lines = parse_list(source.archive.read("manifest.json"), "manifest.json")
    found = [_docker_image(source, line) for line in lines]
    if not found:
        raise ImageError("the archive has no image")
    return found


def _docker_image(source: Source, line: Node) -> Found:
    raw = source.archive.read(line["Config"].text())
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    config = ImageConfig.from_json(raw, digest)
    layers = line["Layers"].texts()
    if len(layers) != len(config.diff_ids):
        raise ImageError(
            f"{line['Layers'].path} has {len(layers)} layers, but its configuration {digest} has"
            f" {len(config.diff_ids)} diff_ids"
        )
    check_layers(layers, digest)
    pairs = tuple(zip(layers, config.diff_ids, strict=True))
    for name, diff_id in dict.fromkeys(pairs):
        with _tar(source, name, diff_id, "checking") as tar:
            tar.drain()

    def write(put: Put) -> Descriptor:
        once = {pair: _write_layer(put, source, *pair) for pair in dict.fromkeys(pairs)}
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": put(raw, CONFIG_TYPE, None).to_json(),
            "layers": [once[pair].to_json() for pair in pairs],
        }
        return put(render_document(manifest), MANIFEST_TYPE, None)

    return Found(references=_spelled(line["RepoTags"].texts()), write=write)


@contextmanager
def _tar(source: Source, name: str, diff_id: str, state: str) -> Iterator[LayerStream]:
    """The uncompressed layer *name*, which proves at its end to be *diff_id*."""
    try:
        shown = diff_id.removeprefix("sha256:")[:12]
        packed = source.open(name, shown, state)
        yield LayerStream(packed, diff_id=diff_id, limit_bytes=Limits().total_bytes)
    except ImageError as error:
        message = f"layer {name!r} ({diff_id}): {error.message}"
        raise ImageError(message, remedy=error.remedy) from error


def _write_layer(put: Put, source: Source, name: str, diff_id: str) -> Descriptor:
    """Layers are compressed by docker's archive or not; in the store they always are."""
    with tempfile.TemporaryFile(dir=cache_dir("scratch")) as packed:
        with _tar(source, name, diff_id, "packing") as tar:
            _gzip(tar, packed)
        packed.seek(0)
        return put(packed, LAYER_GZIP_TYPE, None)


def _gzip(source: LayerStream, target: IO[bytes]) -> None:
    engine = isal_zlib.compressobj(2, isal_zlib.DEFLATED, _GZIP_WINDOW)
    while chunk := source.read(CHUNK_BYTES):
        target.write(engine.compress(chunk))
    target.write(engine.flush())
