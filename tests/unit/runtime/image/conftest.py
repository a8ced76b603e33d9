"""Real stores, tars made by tarfile, images made of them; all below tmp_path."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.image import Image, Store
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("ISOSCOPE_HOME", str(path))
    return path


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home / "images")


@pytest.fixture
def member() -> Callable[..., tuple[tarfile.TarInfo, bytes]]:
    """member(name, data, kind, link, mode, ...) -> what ``pack`` takes."""

    def make(
        name: str,
        data: bytes = b"",
        kind: bytes = tarfile.REGTYPE,
        link: str = "",
        mode: int = 0o644,
        **fields: Any,
    ) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.linkname, info.mode = kind, len(data), link, mode
        for key, value in fields.items():
            setattr(info, key, value)
        return info, data

    return make


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """pack(member, ...) -> the tar."""

    def make(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        return packed.getvalue()

    return make


@pytest.fixture
def make_image(store: Store) -> Callable[..., Image]:
    """make_image(tar, ..., name=, config=, blobs=, diff_ids=) -> an image of these layers."""

    def make(
        *tars: bytes,
        name: str = "sample",
        config: dict[str, Any] | None = None,
        blobs: tuple[bytes, ...] = (),
        diff_ids: tuple[str, ...] = (),
    ) -> Image:
        hashes = tuple(f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars)
        packed = blobs or tuple(gzip.compress(tar, mtime=0) for tar in tars)
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids or hashes},
        }
        config_blob = store.write_blob(json.dumps(document).encode(), CONFIG_TYPE)
        layers = [store.write_blob(blob, LAYER_GZIP_TYPE).to_json() for blob in packed]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config_blob.to_json(),
            "layers": layers,
        }
        digest = store.write_blob(json.dumps(manifest).encode(), MANIFEST_TYPE).digest
        return store.tag(digest, name)

    return make
