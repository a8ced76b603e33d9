"""Images as one file: an OCI layout in a tar, or what ``docker save`` has always written.

The same images give the same bytes: entries have a fixed order, no time and no owner.
Sources: OCI image-spec ``image-layout.md``; moby ``image/spec/v1.2.md``.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from runtime.errors import ImageError
from runtime.image.blob import Reader
from runtime.image.compression import LayerStream
from runtime.image.document import render_document
from runtime.image.following import Following, short_name
from runtime.image.index import REFERENCE_NAME
from runtime.image.layer import Limits
from runtime.image.manifest import Descriptor, Image
from runtime.image.reference import parse_reference
from runtime.image.store import Store

Form = Literal["oci", "docker"]

FULL_NAME = "io.containerd.image.name"
"""The annotation in which docker and containerd look for a whole name."""

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """An image and the names that it is saved under."""

    image: Image
    references: tuple[str, ...]


def choose(store: Store, names: Sequence[str]) -> tuple[Chosen, ...]:
    """What *names* mean: a reference is saved under that name, a digest under all it has.

    An image that is meant several times is there once. Raises ImageError.
    """
    chosen: dict[str, Chosen] = {}
    for name in names:
        image = store.resolve(name)
        before = chosen.get(image.digest)
        known = before.references if before else ()
        meant = _own_name(image, name)
        chosen[image.digest] = Chosen(
            image=image, references=tuple(dict.fromkeys((*known, *meant)))
        )
    return tuple(chosen.values())


def save(
    store: Store,
    chosen: Sequence[Chosen],
    target: BinaryIO,
    *,
    form: Form,
    following: Following | None = None,
) -> None:
    """Write the images to *target*, every blob verified on the way. Raises ImageError, OSError."""
    following = following or Following(room=None)
    for blob in {blob for each in chosen for blob in each.image.manifest.layers}:
        following.expect(short_name(blob), blob.size_bytes)
    following.require()
    with tarfile.open(mode="w|", fileobj=target, format=tarfile.PAX_FORMAT) as archive:
        for name, size_bytes, content in _MEMBERS[form](store, chosen, following):
            info = tarfile.TarInfo(name)
            info.size, info.mode = size_bytes, 0o644
            with content as reader:
                archive.addfile(info, reader)  # type: ignore[arg-type]
                if reader.read(1):  # a blob is verified where its end is read
                    raise ImageError(f"{name} is longer than it says")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets the name *path* if the block ends well, and is nowhere if it does not.

    Until then it has no name at all, so not even a kill leaves a part of it (open(2), O_TMPFILE).
    """
    descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o666)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - wraps a descriptor
        yield file
        file.flush()
        os.fsync(descriptor)
        _name(descriptor, path)


def _name(descriptor: int, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fresh = f".{os.urandom(16).hex()}"
        # With a directory's descriptor it is linkat(2), which can follow the link in /proc.
        os.link(f"/proc/self/fd/{descriptor}", fresh, dst_dir_fd=folder, follow_symlinks=True)
        os.replace(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(folder)


_Content = AbstractContextManager[Reader | LayerStream]
_Members = Iterator[tuple[str, int, _Content]]


def _oci(store: Store, chosen: Sequence[Chosen], following: Following) -> _Members:
    blobs: dict[str, Descriptor] = {}
    manifests = []
    for each in chosen:
        manifest = each.image.manifest
        own = Descriptor(
            media_type=manifest.media_type,
            digest=each.image.digest,
            size_bytes=_manifest_bytes(each.image),
        )
        blobs |= {blob.digest: blob for blob in (own, manifest.config, *manifest.layers)}
        manifests += [_line(own, reference) for reference in each.references or (None,)]
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
    yield _document("oci-layout", _LAYOUT)
    yield _document("index.json", render_document(index))
    for digest in sorted(blobs):
        blob = blobs[digest]
        name = f"blobs/sha256/{digest.removeprefix('sha256:')}"
        yield name, blob.size_bytes, _followed(store, blob, following)


@contextmanager
def _followed(store: Store, blob: Descriptor, following: Following) -> Iterator[Reader]:
    with store.open_blob(blob) as reader:
        yield following.reader(reader, short_name(blob), blob.size_bytes, "saving")


def _docker(store: Store, chosen: Sequence[Chosen], following: Following) -> _Members:
    lines = []
    layers: dict[str, Descriptor] = {}
    configs: dict[str, Descriptor] = {}
    for each in chosen:
        config, diff_ids = each.image.manifest.config, each.image.config.diff_ids
        layers |= zip(map(_tar_name, diff_ids), each.image.manifest.layers, strict=True)
        configs[f"{config.digest.removeprefix('sha256:')}.json"] = config
        lines.append(
            {
                "Config": f"{config.digest.removeprefix('sha256:')}.json",
                "RepoTags": [name for name in each.references if "@" not in name] or None,
                "Layers": [_tar_name(diff_id) for diff_id in diff_ids],
            }
        )
    for name in sorted(layers):
        diff_id = f"sha256:{name.removesuffix('.tar')}"
        layer = layers[name]
        size_bytes = _tar_bytes(store, layer, diff_id, following)
        yield name, size_bytes, _tar(store, layer, diff_id, following, "saving")
    for name in sorted(configs):
        yield name, configs[name].size_bytes, store.open_blob(configs[name])
    yield _document("manifest.json", render_document(lines))


_MEMBERS = {"oci": _oci, "docker": _docker}


def _document(name: str, raw: bytes) -> tuple[str, int, _Content]:
    return name, len(raw), nullcontext(BytesIO(raw))


def _line(own: Descriptor, reference: str | None) -> dict[str, object]:
    line = own.to_json()
    if reference is not None:
        line["annotations"] = {REFERENCE_NAME: reference, FULL_NAME: _full_name(reference)}
    return line


def _full_name(reference: str) -> str:
    """*reference* with the registry and the folder that people leave out."""
    try:
        parsed = parse_reference(reference)
    except ImageError:  # another tool named it so
        return reference
    if parsed.registry is not None:
        return str(parsed)
    folder = "" if "/" in parsed.repository else "library/"
    return f"docker.io/{folder}{parsed}"


def _own_name(image: Image, name: str) -> tuple[str, ...]:
    if name in image.references:
        return (name,)
    try:
        normal = str(parse_reference(name))
    except ImageError:
        normal = name
    return (normal,) if normal in image.references else image.references


def _manifest_bytes(image: Image) -> int:
    others = (image.manifest.config, *image.manifest.layers)
    return image.size_bytes - sum(blob.size_bytes for blob in others)


def _tar_name(diff_id: str) -> str:
    return f"{diff_id.removeprefix('sha256:')}.tar"


@contextmanager
def _tar(
    store: Store, layer: Descriptor, diff_id: str, following: Following, state: str
) -> Iterator[LayerStream]:
    """The uncompressed *layer*, verified at its end."""
    try:
        with store.open_blob(layer) as blob:
            source = following.reader(blob, short_name(layer), layer.size_bytes, state)
            yield LayerStream(source, diff_id=diff_id, limit_bytes=Limits().total_bytes)
    except ImageError as error:
        message = f"layer {layer.digest}: {error.message}"
        raise ImageError(message, remedy=error.remedy) from error


def _tar_bytes(store: Store, layer: Descriptor, diff_id: str, following: Following) -> int:
    """How long the tar of *layer* is, which stands before it in an archive."""
    size_bytes = 0
    with _tar(store, layer, diff_id, following, "measuring") as tar:
        while chunk := tar.read(1 << 20):
            size_bytes += len(chunk)
    return size_bytes
