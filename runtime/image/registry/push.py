"""From the store to a registry: what it lacks is linked from its other repositories, or sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.errors import ImageError
from runtime.image.manifest import Descriptor
from runtime.image.progress import Transfer, Watcher
from runtime.image.reference import Reference, parse_reference
from runtime.image.registry.access import Access, Session
from runtime.image.registry.places import Place, Settings
from runtime.image.registry.repository import Document, Repository
from runtime.image.registry.transfers import Job, do_all
from runtime.image.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did: how many blobs were sent, linked, or there already."""

    digest: str
    name: str
    uploaded_bytes: int
    uploaded: int
    mounted: int
    existing: int


def push(
    store: Store,
    name: str,
    target: Reference,
    access: Access,
    *,
    watcher: Watcher | None = None,
) -> Pushed:
    """Send the image *name* of *store* to where *target* is at home. Raises ImageError.

    Blobs are verified as they are read, so a registry is never given a damaged one.
    """
    image = store.resolve(name)
    manifest = image.manifest
    place = access.settings.place(target)
    document = Document(
        raw=store.read_blob(image.digest),
        descriptor=Descriptor(
            media_type=manifest.media_type,
            digest=image.digest,
            size_bytes=len(store.read_blob(image.digest)),
        ),
    )
    neighbours = _neighbours(store, access.settings, place)
    blobs = {blob.digest: blob for blob in (*manifest.layers, manifest.config)}
    with Session(access) as session:
        repository = session.repository(place)
        jobs = []
        for blob in blobs.values():
            transfer = Transfer(blob.digest.removeprefix("sha256:")[:12], blob.size_bytes)
            source = neighbours.get(blob.digest)
            jobs.append(_job(store, repository, blob, transfer, source))
        do_all(session.wire, jobs, watcher)
        repository.put_manifest(document, target.tag or image.digest)
    states = [job.transfer.state for job in jobs]
    return Pushed(
        digest=image.digest,
        name=str(target),
        uploaded_bytes=sum(job.transfer.done_bytes for job in jobs),
        uploaded=states.count("uploaded"),
        mounted=states.count("mounted"),
        existing=states.count("existing"),
    )


def _job(
    store: Store, repository: Repository, blob: Descriptor, transfer: Transfer, source: str | None
) -> Job:
    def act() -> None:
        if repository.has_blob(blob):
            transfer.state = "existing"
        elif source is not None and repository.mount(blob, source):
            transfer.state = "mounted"
        else:
            transfer.state = "uploading"
            repository.upload(blob, lambda: store.open_blob(blob), transfer)
            transfer.state = "uploaded"

    return Job(transfer=transfer, action=act)


def _neighbours(store: Store, settings: Settings, place: Place) -> Mapping[str, str]:
    """For each blob a repository of the same registry that probably has it: by our own names."""
    found: dict[str, str] = {}
    try:
        images = store.images()
    except ImageError:  # another image is damaged: its names are no help
        return found
    for image in images:
        for name in image.references:
            try:
                other = settings.place(parse_reference(name))
            except ImageError:
                continue
            if other.registry == place.registry and other.repository != place.repository:
                for blob in (image.manifest.config, *image.manifest.layers):
                    found[blob.digest] = other.path
    return found
