"""What earlier builds left to be found again.

    ROOT/steps/KEY.json         what a step made: a layer, or no change
    ROOT/selections/KEY.json    what files chosen in a stage's layers hash to
    ROOT/layers/HEX             second names (hard links) of the layers' blobs in the image store,
                                so that they stay when the images that have them go
    ROOT/mounts/                what RUN --mount=type=cache keeps
    ROOT/lock                   shared by builds, exclusive for who empties the cache

Nothing here is needed: what is missing, cut off or altered is not found, and made again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.build.state import Layer
from runtime.errors import BuildError, ImageError
from runtime.image import Descriptor, Store, state_dir
from runtime.image.blob import CHUNK_BYTES
from runtime.image.document import MAX_DOCUMENT_BYTES, Node, parse_document, render_document
from runtime.image.durable import locked, locked_if_free, write_whole
from runtime.image.home import TRAVERSABLE
from runtime.image.reference import is_digest
from runtime.image.removal import remove_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a step came to; *layer* None is "no change"."""

    layer: Layer | None

    def to_json(self) -> dict[str, Any]:
        """As it is kept, and told from process to process."""
        if self.layer is None:
            return {"layer": None}
        return {"layer": {"blob": self.layer.blob.to_json(), "diff_id": self.layer.diff_id}}

    @classmethod
    def from_node(cls, node: Node) -> "Made":
        """Read it back. Raises ImageError."""
        layer = node["layer"]
        if not layer.present:
            return cls(layer=None)
        diff_id = layer["diff_id"].text()
        if not is_digest(diff_id):
            raise layer["diff_id"].wrong("a digest")
        return cls(layer=Layer(blob=Descriptor.from_node(layer["blob"]), diff_id=diff_id))


class Cache:
    """The build cache at *root* (default: ``build`` in the state directory) beside *store*."""

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self.root = state_dir() / "build" if root is None else root
        self._store = store

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Make what is missing, and hold off whoever would empty it."""
        try:
            self.root.parent.mkdir(mode=TRAVERSABLE, parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            for name in ("steps", "selections", "layers", "mounts"):
                (self.root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise BuildError(
                f"the build cache {self.root} cannot be made: {error.strerror}",
                remedy="set ISOSCOPE_HOME to a directory of yours with room in it",
            ) from error
        with locked(self.root / "lock", shared=True):
            yield

    def find(self, key: str) -> Made | None:
        """What the step *key* made, if its layer is still there, whole."""
        document = self._read("steps", key)
        if document is None:
            return None
        try:
            made = Made.from_node(document)
            if made.layer is not None:
                self.restore(made.layer.blob)
        except ImageError:
            return None
        with suppress(OSError):
            os.utime(self.root / "steps" / f"{key}.json")  # it is in use: others go before it
        return made

    def keep(self, key: str, made: Made) -> None:
        """Let the step *key* be found. Its layer's blob is in the store."""
        if made.layer is not None:
            self._link(made.layer.blob)
        self._write("steps", key, made.to_json())

    def recall(self, key: str) -> str | None:
        """A hash that was noted under *key*."""
        document = self._read("selections", key)
        with suppress(ImageError):
            return None if document is None else document["digest"].text()
        return None

    def note(self, key: str, digest: str) -> None:
        """Let the hash *digest* be recalled."""
        self._write("selections", key, {"digest": digest})

    def restore(self, blob: Descriptor) -> None:
        """Have *blob* in the store, from here if it is not there. Raises ImageError."""
        try:
            with self._store.open_blob(blob) as reader:
                while reader.read(CHUNK_BYTES):
                    pass
        except ImageError:
            self._put_back(blob)

    # Inside

    def _put_back(self, blob: Descriptor) -> None:
        try:
            with self._second_name(blob).open("rb") as file:
                found = self._store.write_blob(file, blob.media_type)
        except OSError as error:
            raise ImageError(f"blob {blob.digest} is neither in the store nor cached") from error
        if found != blob:
            raise ImageError(f"the cached blob {blob.digest} is corrupt")

    def _second_name(self, blob: Descriptor) -> Path:
        return self.root / "layers" / blob.digest.removeprefix("sha256:")

    def _link(self, blob: Descriptor) -> None:
        """Without hard links the store's copy is the only one, and goes with its images."""
        stored = self._store.root / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
        with suppress(OSError):
            self._second_name(blob).unlink(missing_ok=True)
            os.link(stored, self._second_name(blob))

    def _read(self, kind: str, key: str) -> Node | None:
        try:
            return record(self.root / kind / f"{key}.json")
        except (OSError, ImageError):
            return None

    def _write(self, kind: str, key: str, value: object) -> None:
        path = self.root / kind / f"{key}.json"
        with suppress(OSError), locked(self.root / f"{kind}.lock"):
            if path.is_dir():  # nobody of us made that, and no file could take its place
                remove_tree(path)
            write_whole(path, render_document(value))


def record(path: Path) -> Node:
    """What the file *path* of a cache says. Raises OSError, ImageError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
        return parse_document(file.read(MAX_DOCUMENT_BYTES + 1), path.stem)


def prune(store: Store) -> int:
    """Empty the build cache, cache mounts included; the bytes of disk that were given back.

    Raises BuildError while a build runs. Layers that images have stay in the store.
    """
    root = Cache(store).root
    if not root.is_dir():
        return 0
    with locked_if_free(root / "lock") as alone:
        if not alone:
            raise BuildError("a build is running", remedy="wait for its end, then try again")
        freed_bytes = disk_bytes(root)
        for name in ("steps", "selections", "layers", "mounts"):
            remove_tree(root / name)
    return freed_bytes


def disk_bytes(root: Path) -> int:
    """What goes with *root*: blocks of files whose every name is below it."""
    names: dict[tuple[int, int], int] = {}
    freed_bytes = 0
    for _, _, files, fd in os.fwalk(root):
        for name in files:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            inode = (status.st_dev, status.st_ino)
            names[inode] = names.get(inode, 0) + 1
            if names[inode] == status.st_nlink:
                freed_bytes += status.st_blocks * 512
    return freed_bytes
