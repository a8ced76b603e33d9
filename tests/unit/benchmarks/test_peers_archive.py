"""The files that engines load hold the image's own blobs, byte for byte."""

import hashlib
import json
import tarfile
from pathlib import Path

from benchmarks.peers.archive import write_docker_archive, write_oci_archive
from runtime.image import Image, Store


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
        return {name: file.read() for name, file in files.items() if file is not None}


def blobs(files: dict[str, bytes]) -> set[str]:
    """The digests in the archive, each proved by its content."""
    found = {name: raw for name, raw in files.items() if name.startswith("blobs/sha256/")}
    for name, raw in found.items():
        assert name.rpartition("/")[2] == hashlib.sha256(raw).hexdigest()
    return {f"sha256:{name.rpartition('/')[2]}" for name in found}


def of(image: Image) -> set[str]:
    return {blob.digest for blob in (image.manifest.config, *image.manifest.layers)}


def test_docker_reads_the_configuration_and_the_layers(busybox: Image, tmp_path: Path) -> None:
    write_docker_archive(Store(), busybox, tmp_path / "image.tar")
    files = contents(tmp_path / "image.tar")
    assert blobs(files) == of(busybox)
    (manifest,) = json.loads(files["manifest.json"])
    assert manifest["Config"].endswith(busybox.manifest.config.digest.removeprefix("sha256:"))
    assert len(manifest["Layers"]) == len(busybox.manifest.layers)


def test_an_oci_archive_keeps_the_manifest(busybox: Image, tmp_path: Path) -> None:
    write_oci_archive(Store(), busybox, tmp_path / "image.tar")
    files = contents(tmp_path / "image.tar")
    assert blobs(files) == {busybox.digest, *of(busybox)}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == busybox.digest
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
