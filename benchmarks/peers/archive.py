"""An image of our store as one file that docker or podman loads: the same blobs, byte for byte.

docker reads its own format, in which a ``manifest.json`` points to the blobs; podman reads an OCI
layout. Both name what they loaded by the digest of the image's configuration. Sources: image-spec
``image-layout.md``; moby, image/tarexport.
"""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from runtime.image import Descriptor, Image, Store


def write_docker_archive(store: Store, image: Image, target: Path) -> None:
    """The image for ``docker load``. Raises ImageError for a corrupt blob."""
    manifest = [
        {
            "Config": _path(image.manifest.config.digest),
            "RepoTags": None,
            "Layers": [_path(layer.digest) for layer in image.manifest.layers],
        }
    ]
    with tarfile.open(target, "w") as archive:
        for blob in _blobs(image):
            _add_blob(archive, store, blob)
        _add_document(archive, "manifest.json", manifest)


def write_oci_archive(store: Store, image: Image, target: Path) -> None:
    """The image as a packed OCI layout, for ``podman load``. Raises as its neighbour does."""
    raw = store.read_blob(image.digest)
    manifest = Descriptor(
        media_type=image.manifest.media_type, digest=image.digest, size_bytes=len(raw)
    )
    with tarfile.open(target, "w") as archive:
        _add_document(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})
        for blob in (manifest, *_blobs(image)):
            _add_blob(archive, store, blob)
        index = {"schemaVersion": 2, "manifests": [manifest.to_json()]}
        _add_document(archive, "index.json", index)


def _blobs(image: Image) -> tuple[Descriptor, ...]:
    """Configuration and layers, each once."""
    blobs = (image.manifest.config, *image.manifest.layers)
    return tuple({blob.digest: blob for blob in blobs}.values())


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add_blob(archive: tarfile.TarFile, store: Store, blob: Descriptor) -> None:
    entry = tarfile.TarInfo(_path(blob.digest))
    entry.size = blob.size_bytes
    with store.open_blob(blob) as reader:
        archive.addfile(entry, reader)


def _add_document(archive: tarfile.TarFile, name: str, document: Any) -> None:
    raw = json.dumps(document).encode()
    entry = tarfile.TarInfo(name)
    entry.size = len(raw)
    archive.addfile(entry, io.BytesIO(raw))
