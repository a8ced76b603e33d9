"""From a registry into the store: chosen, bounded, verified, and only then named."""

from dataclasses import dataclass
from functools import partial

from runtime.errors import ImageError
from runtime.image.blob import CHUNK_BYTES
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.following import short_name
from runtime.image.manifest import Descriptor, Image, ImageConfig, Manifest, image_of
from runtime.image.progress import Transfer, Watcher
from runtime.image.reference import Reference
from runtime.image.registry.access import Access, Session
from runtime.image.registry.choice import (
    Platform,
    choose,
    parse_entries,
    platform_of_config,
    this_platform,
)
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.places import Place
from runtime.image.registry.repository import Document, Repository
from runtime.image.registry.transfers import Job, do_all
from runtime.image.room import Room
from runtime.image.served import INDEX_TYPES
from runtime.image.store import Store

MAX_INDEX_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull did. *downloaded_bytes* counts blobs that were not in the store before."""

    image: Image
    name: str
    source: str
    platform: Platform
    downloaded_bytes: int


def pull(
    store: Store,
    reference: Reference,
    access: Access,
    *,
    platform: Platform | None = None,
    watcher: Watcher | None = None,
) -> Pulled:
    """Get the image *reference* for *platform*, this machine's unless told.

    Mirrors are tried first. Blobs that are in the store and whole are not fetched; those that
    came before a failure stay there for the next try. Raises ImageError; then no name changed.
    """
    *mirrors, home = access.settings.pull_places(reference)
    for place in mirrors:
        try:
            return _pull_from(store, reference, access, place, platform, watcher)
        except ImageError:
            continue  # the registry itself has the last word
    return _pull_from(store, reference, access, home, platform, watcher)


def _pull_from(
    store: Store,
    reference: Reference,
    access: Access,
    place: Place,
    platform: Platform | None,
    watcher: Watcher | None,
) -> Pulled:
    with Session(access) as session, store.writing():
        repository = session.repository(place)
        document = repository.manifest(reference.digest or reference.tag or "latest")
        document = image_in(repository, document, platform or this_platform())
        digest = document.descriptor.digest
        manifest = Manifest.from_json(document.raw, digest)
        blobs = _blobs(manifest, digest)
        _fetch(store, repository, manifest.config, Transfer("config", manifest.config.size_bytes))
        found = _checked_config(store, document, manifest, platform)
        missing = [blob for blob in blobs if not _is_whole(store, blob)]
        room = Room(path=store.root, what=f"the image {reference}")
        room.require(sum(blob.size_bytes for blob in missing))
        transfers = {blob: Transfer(short_name(blob), blob.size_bytes) for blob in missing}
        jobs = [
            Job(
                transfer=transfer,
                action=partial(_fetch, store, repository, blob, transfer),
            )
            for blob, transfer in transfers.items()
        ]
        do_all(session.wire, jobs, watcher)
        store.write_blob(document.raw, manifest.media_type, expected=digest)
        name = _name(reference, digest)
        return Pulled(
            image=store.tag(digest, name),
            name=name,
            source=place.registry,
            platform=found,
            downloaded_bytes=sum(blob.size_bytes for blob in missing),
        )


def image_in(repository: Repository, document: Document, platform: Platform) -> Document:
    """The image for *platform* that *document* is, or leads to. Raises ImageError."""
    visited: set[str] = set()
    while document.descriptor.media_type in INDEX_TYPES:
        digest = document.descriptor.digest
        if digest in visited or len(visited) >= MAX_INDEX_DEPTH:
            raise RegistryError(f"{digest}: indexes in indexes without an end")
        visited.add(digest)
        chosen = choose(parse_entries(document.raw, digest), platform, digest)
        document = repository.manifest(chosen.digest, expected=chosen)
    return document


def _blobs(manifest: Manifest, digest: str) -> tuple[Descriptor, ...]:
    """The layers, each once. Raises ImageError if the manifest contradicts itself."""
    sizes: dict[str, Descriptor] = {}
    for layer in (manifest.config, *manifest.layers):
        known = sizes.setdefault(layer.digest, layer)
        if known.size_bytes != layer.size_bytes:
            raise RegistryError(f"{digest} gives {layer.digest} two sizes")
    if manifest.config.size_bytes > MAX_DOCUMENT_BYTES:
        raise RegistryError(f"{digest}: its configuration is too large")
    return tuple(blob for blob in sizes.values() if blob.digest != manifest.config.digest)


def _checked_config(
    store: Store, document: Document, manifest: Manifest, wanted: Platform | None
) -> Platform:
    """What the image runs on, once its configuration is one and fits. Raises ImageError."""
    raw = store.read_blob(manifest.config)
    digest = manifest.config.digest
    image_of(document.descriptor, manifest, ImageConfig.from_json(raw, digest), ())
    found = platform_of_config(raw, digest)
    if wanted is not None and not wanted.suits(found):
        raise RegistryError(f"the image is for {found}, not for {wanted}")
    return found


def _is_whole(store: Store, blob: Descriptor) -> bool:
    try:
        with store.open_blob(blob) as reader:
            while reader.read(CHUNK_BYTES):
                pass
    except ImageError:
        return False
    return True


def _fetch(store: Store, repository: Repository, blob: Descriptor, transfer: Transfer) -> None:
    if _is_whole(store, blob):
        return
    transfer.state = "downloading"
    with repository.download(blob, transfer) as source:
        store.write_blob(source, blob.media_type, expected=blob.digest)


def _name(reference: Reference, digest: str) -> str:
    """What the image is called in the store: as asked, but a digest is that of the image."""
    if reference.tag is not None and reference.digest in {None, digest}:
        return str(reference)
    return f"{reference.name}@{digest}"
