"""From one registry to another, without the store: streamed, verified on the way."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.image.manifest import Descriptor, Manifest
from runtime.image.progress import Transfer, Watcher
from runtime.image.reference import Reference
from runtime.image.registry.access import Access, Session
from runtime.image.registry.choice import Platform, parse_entries
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.pull import MAX_INDEX_DEPTH, image_in
from runtime.image.registry.repository import Document, Download, Repository
from runtime.image.registry.transfers import Job, do_all
from runtime.image.served import INDEX_TYPES

MAX_MANIFESTS = 1000
"""Images, indexes and referrers that one copy may come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy did. *manifests* counts images, indexes and what refers to them."""

    digest: str
    name: str
    manifests: int
    moved_bytes: int


def copy(
    source: Reference,
    target: Reference,
    access: Access,
    *,
    platform: Platform | None = None,
    referrers: bool = False,
    watcher: Watcher | None = None,
) -> Copied:
    """Copy *source* to *target* with the same digest: all of an index, or one *platform* of it.

    With *referrers* the signatures and such that refer to what is copied come too. The name
    *target* is set last. Raises ImageError.
    """
    with Session(access) as session:
        there = session.repository(access.settings.place(source))
        here = session.repository(access.settings.place(target))
        document = there.manifest(source.digest or source.tag or "latest")
        if platform is not None:
            document = image_in(there, document, platform)
        documents = _closure(there, document, referrers=referrers)
        transfers = _blobs(documents)
        jobs = [_job(there, here, blob, transfer) for blob, transfer in transfers]
        do_all(session.wire, jobs, watcher)
        for part in documents[:-1]:
            here.put_manifest(part, part.descriptor.digest)
        here.put_manifest(document, target.tag or document.descriptor.digest)
        for part in documents:
            here.announce(part)
    return Copied(
        digest=document.descriptor.digest,
        name=str(target),
        manifests=len(documents),
        moved_bytes=sum(transfer.done_bytes for _, transfer in transfers),
    )


def _closure(source: Repository, top: Document, *, referrers: bool) -> list[Document]:
    """*top* and all it needs, parts before wholes, *top* last; what refers to it before it too."""
    ordered: dict[str, Document] = {}
    visited: set[str] = set()

    def visit(document: Document, depth: int) -> None:
        digest = document.descriptor.digest
        if digest in visited:
            return
        visited.add(digest)
        if depth > MAX_INDEX_DEPTH or len(visited) > MAX_MANIFESTS:
            raise RegistryError(f"{top.descriptor.digest}: indexes in indexes without an end")
        if document.descriptor.media_type in INDEX_TYPES:
            for entry in parse_entries(document.raw, digest):
                child = entry.descriptor
                if child.digest not in visited:
                    visit(source.manifest(child.digest, expected=child), depth + 1)
        for found in source.referrers(digest) if referrers else ():
            if found.digest not in visited:
                visit(source.manifest(found.digest, expected=found), depth + 1)
        ordered[digest] = document

    visit(top, 0)
    return list(ordered.values())


def _blobs(documents: list[Document]) -> list[tuple[Descriptor, Transfer]]:
    found: dict[str, Descriptor] = {}
    for document in documents:
        if document.descriptor.media_type not in INDEX_TYPES:
            manifest = Manifest.from_json(document.raw, document.descriptor.digest)
            for blob in (manifest.config, *manifest.layers):
                found.setdefault(blob.digest, blob)
    return [
        (blob, Transfer(blob.digest.removeprefix("sha256:")[:12], blob.size_bytes))
        for blob in found.values()
    ]


def _job(there: Repository, here: Repository, blob: Descriptor, transfer: Transfer) -> Job:
    same_registry = there.place.registry == here.place.registry

    def act() -> None:
        if here.has_blob(blob):
            transfer.state = "existing"
        elif same_registry and here.mount(blob, there.place.path):
            transfer.state = "mounted"
        else:
            transfer.state = "copying"
            here.upload(blob, lambda: _verified(there, blob), transfer)
            transfer.state = "copied"

    return Job(transfer=transfer, action=act)


@contextmanager
def _verified(source: Repository, blob: Descriptor) -> Iterator["_Verified"]:
    with source.download(blob, Transfer(blob.digest, blob.size_bytes)) as download:
        yield _Verified(download, blob)


class _Verified:
    """A download that ends only if it hashes to its digest; the last bytes wait for that."""

    def __init__(self, source: Download, blob: Descriptor) -> None:
        self._source = source
        self._blob = blob
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._source.read(size)
        self._hash.update(chunk)
        if not chunk:
            found = f"sha256:{self._hash.hexdigest()}"
            if found != self._blob.digest:
                raise RegistryError(f"what came as {self._blob.digest} hashes to {found}")
        return chunk
