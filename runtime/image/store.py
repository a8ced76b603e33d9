"""The image store: an OCI image layout on disk that several processes may use at once.

    ROOT/oci-layout, ROOT/index.json      as the image-spec says; other tools read them
    ROOT/served.json                      manifests that only the registry serves, if any
    ROOT/blobs/sha256/HEX                 content, verified on every read
    ROOT/ingest/                          blobs being written; empty when nobody writes
    ROOT/index.lock                       held while index.json changes
    ROOT/blobs.lock                       shared by who writes blobs, exclusive for who deletes

A blob that is written is no garbage until its writer has left ``writing``: only then may a
removal see that nothing refers to it. Lock order: ``blobs.lock``, then ``index.lock``.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from runtime.errors import ImageError
from runtime.image import index
from runtime.image.blob import BlobReader, Reader, keep_blob, open_blob, open_raw, write_blob
from runtime.image.disks import remove_disk
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.durable import locked, locked_if_free, write_whole
from runtime.image.home import TRAVERSABLE, state_dir
from runtime.image.manifest import (
    MANIFEST_TYPES,
    Descriptor,
    Image,
    ImageConfig,
    Manifest,
    image_of,
)
from runtime.image.reference import is_digest, parse_reference
from runtime.image.room import Room
from runtime.image.rootfs import remove_rootfs
from runtime.image.served import Served, needed_by, parse_served, render_served
from runtime.image.slots import chain_ids, remove_slots, sweep_slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The digests of the images and of the blobs that went, and what the blobs occupied."""

    images: tuple[str, ...]
    blobs: tuple[str, ...]
    blob_bytes: int


class Store:
    """The images below *root* (default: ``images`` in the state directory).

    Making a Store touches nothing; the first write makes the directories.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (state_dir() / "images" if root is None else root).absolute()

    # Reading

    def images(self) -> tuple[Image, ...]:
        """Every image, in the order of the index. Raises ImageError at the first corrupt one."""
        entries = self._entries()
        manifests = {entry.descriptor.digest: entry.descriptor for entry in entries}
        return tuple(self._load(entries, descriptor) for descriptor in manifests.values())

    def resolve(self, name: str) -> Image:
        """The image that *name* means: a reference, a digest, or at least 12 digits of one.

        Raises ImageError if there is none, more than one, or it is corrupt.
        """
        entries = self._entries()
        return self._load(entries, index.find(entries, name))

    def open_blob(self, blob: Descriptor | str) -> AbstractContextManager[BlobReader]:
        """A blob, by descriptor or digest, as a stream that verifies itself at its end."""
        if isinstance(blob, Descriptor):
            return open_blob(self._blobs, blob.digest, blob.size_bytes)
        if not is_digest(blob):
            raise ImageError(f"{blob!r} is no digest", remedy="write sha256: and 64 hex digits")
        return open_blob(self._blobs, blob, None)

    def read_blob(self, blob: Descriptor | str, *, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """A whole verified blob of at most *limit_bytes*. Raises ImageError."""
        with self.open_blob(blob) as reader:
            raw = reader.read(limit_bytes + 1)
        if len(raw) > limit_bytes:
            digest = blob.digest if isinstance(blob, Descriptor) else blob
            raise ImageError(f"blob {digest} is larger than {limit_bytes} bytes")
        return raw

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off the deletion of blobs that nothing refers to yet; for writers of images."""
        with ExitStack() as held:
            with self._told():
                self._make()
                held.enter_context(locked(self.root / "blobs.lock", shared=True))
            yield

    def write_blob(
        self,
        source: bytes | Reader,
        media_type: str = "application/octet-stream",
        *,
        expected: str | None = None,
    ) -> Descriptor:
        """Store *source* durably; the descriptor that names it.

        Raises ImageError, also if *source* does not have the digest *expected*.
        """
        with self.writing(), self._told():
            return write_blob(self._blobs, self._ingest, source, media_type, expected=expected)

    def tag(self, digest: str, *references: str) -> Image:
        """Let *references* name the image whose manifest is the blob *digest*.

        An image that had a name keeps its place without it. Raises ImageError if the manifest,
        its configuration or one of its layers is not in the store.
        """
        names = [parse_reference(reference) for reference in references]
        for name in names:
            if name.digest not in {None, digest}:
                raise ImageError(f"{str(name)!r} names another digest than {digest}")
        return self._enter(digest, *map(str, names))

    def keep(self, digest: str) -> Image:
        """Make the image whose manifest is the blob *digest* one of the store's, without a name.

        One that has names keeps them. Raises ImageError as ``tag`` does.
        """
        return self._enter(digest)

    def remove(self, *names: str, guard: Callable[[str], None] | None = None) -> tuple[str, ...]:
        """Drop all *names* or none; delete what nothing needs any more; the blobs deleted.

        A reference is one name of an image, which goes with its last name; a digest is the image
        with all its names. What is unpacked of an image that goes is deleted too, except layers
        that others have or an instance uses. *guard* is asked for each image that would go, and
        raises to prevent it. Raises ImageError if there is no such image, or if a corrupt one
        forbids to say what is needed.
        """

        def rest(entries: tuple[index.Entry, ...]) -> tuple[index.Entry, ...]:
            after = index.without(entries, *names)
            for digest in index.gone(entries, after):
                if guard is not None:
                    guard(digest)
            return after

        rest(self._entries())  # an unknown name must not create the store
        return self._reduce(rest).blobs

    def prune(
        self, keep: Callable[[str, tuple[str, ...]], bool], *, dry_run: bool = False
    ) -> Pruned:
        """Drop each image that *keep*, asked with digest and names, denies; then unneeded blobs.

        With *dry_run* nothing is changed: the answer is what would go. Raises ImageError.
        """

        def rest(entries: tuple[index.Entry, ...]) -> tuple[index.Entry, ...]:
            wanted = {
                digest: keep(digest, index.references_of(entries, digest))
                for digest in {entry.descriptor.digest for entry in entries}
            }
            return tuple(entry for entry in entries if wanted[entry.descriptor.digest])

        if not (self.root / "index.json").exists():
            return Pruned(images=(), blobs=(), blob_bytes=0)
        if not dry_run:
            return self._reduce(rest)
        before = self._entries()  # without a lock, which a home that is only read cannot give
        after = rest(before)
        return self._pruned(index.gone(before, after), self._unneeded(after))

    # For the registry, which serves more than the images

    def entries(self) -> tuple[index.Entry, ...]:
        """The index: each manifest with each of its names; no manifest is read."""
        return self._entries()

    def open_raw(self, digest: str) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """A blob's file and its size in bytes, for parts of it: nothing vouches for those."""
        return open_raw(self._blobs, digest)

    def keep_blob(self, file: Path, digest: str) -> None:
        """Link *file* in as the blob *digest*, to which it is known to hash. Raises ImageError."""
        with self.writing(), self._told():
            keep_blob(self._blobs, self._ingest, file, digest)

    def served(self) -> tuple[Served, ...]:
        """What the registry serves besides the images: indexes, artifacts, nameless images."""
        try:
            return parse_served((self.root / "served.json").read_bytes())
        except FileNotFoundError:
            return ()

    def serve(self, change: Callable[[Sequence[Served]], Sequence[Served]]) -> None:
        """Let the registry serve what *change* makes of what it serves. Raises ImageError."""
        with self.writing(), self._told(), locked(self.root / "index.lock"):
            write_whole(self.root / "served.json", render_served(change(self.served())))

    def discard(self, digests: Collection[str]) -> None:
        """Delete those of the blobs *digests* that nothing needs. Raises ImageError."""
        blobs, names = self.root / "blobs.lock", self.root / "index.lock"
        with self._told(), locked(blobs), locked(names):
            for path in self._unneeded(self._entries()):
                if f"sha256:{path.name}" in digests:
                    path.unlink()

    def sweep(self) -> tuple[str, ...]:
        """Delete the blobs that nothing needs; their digests. Raises ImageError."""
        return self._reduce(lambda entries: entries).blobs

    def sweep_layers(self) -> tuple[str, ...]:
        """Delete unpacked layers that no image has, and what a killed unpacking left; their names.

        Nothing is deleted while somebody writes images: a layer may be about to be part of one.
        Raises ImageError.
        """
        if not self.root.is_dir():
            return ()
        with self._told(), locked_if_free(self.root / "blobs.lock") as alone:
            return sweep_slots(self._chain_ids(self._entries())) if alone else ()

    # Inside

    @property
    def _blobs(self) -> Path:
        return self.root / "blobs" / "sha256"

    @property
    def _ingest(self) -> Path:
        return self.root / "ingest"

    def _enter(self, digest: str, *references: str) -> Image:
        with self.writing():
            raw = self.read_blob(digest)
            manifest = Manifest.from_json(raw, digest)
            self._require_layers(manifest)
            descriptor = Descriptor(
                media_type=manifest.media_type, digest=digest, size_bytes=len(raw)
            )
            with self._told(), locked(self.root / "index.lock"):
                entries = index.listed(self._entries(), descriptor)
                for reference in references:
                    entries = index.tagged(entries, descriptor, reference)
                image = self._load(entries, descriptor)
                self._write_entries(entries)
        return image

    def _entries(self) -> tuple[index.Entry, ...]:
        try:
            with (self.root / "index.json").open("rb") as file:
                raw = file.read(MAX_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            message = f"cannot read the image store at {self.root}: {error.strerror}"
            raise ImageError(message) from error
        return index.parse_index(raw)

    def _write_entries(self, entries: Sequence[index.Entry]) -> None:
        raw = index.render_index(entries)
        if len(raw) > MAX_DOCUMENT_BYTES:  # who reads it would refuse all of it
            raise ImageError(
                "the image store is full of names",
                remedy="see 'isoscope image ls', and remove some with 'isoscope image rm'",
            )
        write_whole(self.root / "index.json", raw)

    def _load(self, entries: Sequence[index.Entry], descriptor: Descriptor) -> Image:
        manifest = self._manifest(descriptor)
        raw = self.read_blob(manifest.config)
        config = ImageConfig.from_json(raw, manifest.config.digest)
        references = index.references_of(entries, descriptor.digest)
        return image_of(descriptor, manifest, config, references)

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        if descriptor.media_type not in MANIFEST_TYPES:
            raise ImageError(
                f"{descriptor.digest} is a {descriptor.media_type!r}, not an image manifest",
                remedy="remove it with 'isoscope image rm DIGEST'",
            )
        return Manifest.from_json(self.read_blob(descriptor), descriptor.digest)

    def _require_layers(self, manifest: Manifest) -> None:
        for layer in manifest.layers:
            with self.open_blob(layer):
                pass  # that it is there; what it holds is verified whenever it is read

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the disk refuses into an ImageError that says where and what helps."""
        try:
            with Room(path=self.root, what="what was to be stored").told():
                yield
        except OSError as error:
            where = error.filename or self.root
            raise ImageError(
                f"cannot write the image store: {where}: {error.strerror}",
                remedy="set ISOSCOPE_HOME to a directory of yours with room in it",
            ) from error

    def _make(self) -> None:
        """The store's directories and files where they are missing; no leftovers in them."""
        # No stranger may reach what private images hold; parents may be passed through.
        self.root.parent.mkdir(mode=TRAVERSABLE, parents=True, exist_ok=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._ingest.mkdir(exist_ok=True)
        if not (self.root / "index.json").exists():
            with locked(self.root / "index.lock"):
                self._initialise()
        # With no writer alive, all that lies in ingest was left by one that was killed.
        with locked_if_free(self.root / "blobs.lock") as alone:
            for leftover in self._ingest.iterdir() if alone else ():
                leftover.unlink()

    def _initialise(self) -> None:
        if not (self.root / "index.json").exists():  # another process may have been faster
            write_whole(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            self._write_entries(())

    def _reduce(
        self, rest: Callable[[tuple[index.Entry, ...]], tuple[index.Entry, ...]]
    ) -> Pruned:
        """Make the index what *rest* leaves of it; delete the trees and blobs that go with it."""
        with self._told(), locked(self.root / "index.lock"):
            before = self._entries()
            after = rest(before)
            self._write_entries(after)
        gone = index.gone(before, after)
        for digest in gone:
            remove_rootfs(digest)
        with self._told():
            for digest in gone:
                remove_disk(digest)
            remove_slots(self._chain_ids(before) - self._chain_ids(after))
        blobs, names = self.root / "blobs.lock", self.root / "index.lock"
        with self._told(), locked(blobs), locked(names):
            doomed = self._unneeded(self._entries())
            pruned = self._pruned(gone, doomed)
            for path in doomed:
                path.unlink()
        return pruned

    def _chain_ids(self, entries: Sequence[index.Entry]) -> set[str]:
        """Of the layers of all images in *entries*; an image that cannot be read has none."""
        found: set[str] = set()
        for descriptor in {
            entry.descriptor.digest: entry.descriptor for entry in entries
        }.values():
            with suppress(ImageError):
                found.update(chain_ids(self._load(entries, descriptor).config.diff_ids))
        return found

    def _pruned(self, images: tuple[str, ...], blobs: Sequence[Path]) -> Pruned:
        return Pruned(
            images=images,
            blobs=tuple(f"sha256:{path.name}" for path in blobs),
            blob_bytes=sum(_size_bytes(path) for path in blobs),
        )

    def _unneeded(self, entries: Sequence[index.Entry]) -> list[Path]:
        """The blobs that no image of *entries* is made of, sorted."""
        needed = self._needed(entries)
        return sorted(
            path
            for path in self._blobs.iterdir()
            if is_digest(f"sha256:{path.name}") and f"sha256:{path.name}" not in needed
        )

    def _needed(self, entries: Sequence[index.Entry]) -> set[str]:
        needed: set[str] = set()
        for entry in entries:
            manifest = self._manifest(entry.descriptor)
            blobs = (entry.descriptor, manifest.config, *manifest.layers)
            needed.update(blob.digest for blob in blobs)
        return needed | needed_by(self.served(), self.read_blob)


def _size_bytes(path: Path) -> int:
    """How large *path* is; nothing if somebody deletes it just now."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
