"""What strangers send, mutated by coverage: never another error than ours, nothing outside.

Not part of any other check, and Atheris is no dependency of the project. To run it::

    .venv/bin/pip install atheris
    .venv/bin/python tests/fuzz/fuzz_images.py documents -max_total_time=300
    .venv/bin/python tests/fuzz/fuzz_images.py archive -max_total_time=300
    .venv/bin/python tests/fuzz/fuzz_images.py load -max_total_time=300

An input that breaks something is written to ``crash-HASH`` in the current folder; the same command
with that file at its end repeats it.
"""

import gzip
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import atheris

with atheris.instrument_imports(include=["runtime.image", "runtime.errors"]):
    from runtime.errors import ImageError
    from runtime.image import ImageConfig, Manifest, Store, parse_reference
    from runtime.image.archive import ArchiveReader
    from runtime.image.compression import LayerStream
    from runtime.image.document import parse_list
    from runtime.image.index import parse_index, render_index
    from runtime.image.load import load
    from runtime.image.registry.choice import choose, parse_entries, this_platform

DIGEST = "sha256:" + "0" * 64


def documents(data: bytes) -> None:
    """Every parser of JSON and of names on the same bytes."""
    readers: list[Callable[[], Any]] = [
        lambda: Manifest.from_json(data, DIGEST),
        lambda: ImageConfig.from_json(data, DIGEST),
        lambda: parse_index(render_index(parse_index(data))),
        lambda: choose(parse_entries(data, DIGEST), this_platform(), DIGEST),
        lambda: parse_list(data, DIGEST),
        lambda: parse_reference(data.decode("latin-1")),
    ]
    for read in readers:
        try:
            read()
        except ImageError as error:
            if not str(error).isprintable():
                raise AssertionError(str(error)) from error


def archive(data: bytes) -> None:
    """The tar reader, which must end, and must not read more than there is."""
    reader = ArchiveReader(cast("LayerStream", io.BytesIO(data)))
    try:
        for entry in reader:
            size_bytes = sum(map(len, reader.chunks()))
            if size_bytes != entry.size_bytes:
                raise AssertionError(f"{entry.size_bytes} announced, {size_bytes} read")
    except ImageError:
        pass


def load_archive(data: bytes) -> None:
    """A whole archive into a store of its own."""
    with tempfile.TemporaryDirectory() as home:
        with suppress(ImageError):
            load(Store(Path(home) / "images"), io.BytesIO(data))
        odd = {path.name for path in Path(home).iterdir()} - {"images"}
        if odd:
            raise AssertionError(f"left {odd}")


def seed() -> bytes:
    """A small valid docker archive, for mutations to begin with."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"))
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [DIGEST]}}
    line = {"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l.tar"]}
    members = {
        "manifest.json": json.dumps([line]).encode(),
        "c.json": json.dumps(config).encode(),
        "l.tar": gzip.compress(layer.getvalue(), mtime=0),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return packed.getvalue()


if __name__ == "__main__":
    targets = {"documents": documents, "archive": archive, "load": load_archive}
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(targets)} [libFuzzer's options]")
    target = targets[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "seed").write_bytes(seed())
        atheris.Setup([*sys.argv, corpus], target)
        atheris.Fuzz()
