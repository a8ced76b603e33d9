"""A repository at a registry: its manifests, blobs, tags and referrers.

Source: OCI distribution-spec 1.1, "Pull", "Push", "Content Discovery".
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeVar
from urllib.parse import quote

from runtime.errors import ImageError
from runtime.image.blob import Reader, digest_of
from runtime.image.document import MAX_DOCUMENT_BYTES, parse_document, render_document
from runtime.image.manifest import Descriptor
from runtime.image.progress import Transfer
from runtime.image.reference import is_digest
from runtime.image.registry.choice import ACCEPTED
from runtime.image.registry.endpoint import Endpoint
from runtime.image.registry.errors import RegistryError, TransientError
from runtime.image.registry.patience import pause, retried
from runtime.image.registry.places import Place
from runtime.image.registry.url import Url
from runtime.image.registry.wire import Body, Reply
from runtime.image.served import INDEX_TYPE, described, media_type_of, subject_of

MAX_TAGS = 1_000_000
MAX_PAGES = 10_000
MAX_RESUMES = 100
"""How often one download may be taken up again, however little each time brings."""

T = TypeVar("T")

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_NEXT = re.compile(r'\s*<([^>]*)>\s*;.*rel="?next"?', re.IGNORECASE)
_OK = frozenset({200})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A manifest or index as it came: *raw* hashes to the descriptor's digest."""

    raw: bytes
    descriptor: Descriptor


class Repository:
    """What is at *place*, seen through *endpoint*. Threads may share it."""

    def __init__(self, endpoint: Endpoint, place: Place) -> None:
        self.endpoint = endpoint
        self.place = place
        self._root = f"/v2/{place.path}"
        self._pull = frozenset({f"repository:{place.path}:pull"})
        self._push = frozenset({f"repository:{place.path}:pull,push"})

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.place.registry}/{self.place.repository}"

    def manifest(self, reference: str, *, expected: Descriptor | None = None) -> Document:
        """The manifest or index called *reference*, a tag or digest.

        Raises RegistryError, also if it is not what *expected* or the digest says.
        """
        limit_bytes = MAX_DOCUMENT_BYTES if expected is None else expected.size_bytes
        if limit_bytes > MAX_DOCUMENT_BYTES:
            raise RegistryError(f"{reference} is larger than {MAX_DOCUMENT_BYTES} bytes")

        def fetch() -> Document:
            target = f"{self._root}/manifests/{reference}"
            headers = {"Accept": ACCEPTED}
            with self._request("GET", target, accepted=_OK, headers=headers) as reply:
                raw = reply.document(limit_bytes)
                told = reply.header("Docker-Content-Digest")
                return _document(raw, reply.header("Content-Type"), _promised(reference, told))

        return self._asked(fetch, f"no image {self.name}{_joined(reference)}")

    def download(self, blob: Descriptor, transfer: Transfer) -> "Download":
        """The blob as a stream that goes on where a broken connection left off."""
        return Download(self, blob, transfer)

    def open_blob(self, blob: Descriptor, offset: int) -> AbstractContextManager[Reply]:
        """A reply with the bytes of *blob*, from *offset* on if the registry can."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        return self._request(
            "GET",
            f"{self._root}/blobs/{blob.digest}",
            accepted=frozenset({200, 206}),
            headers=headers,
        )

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the registry has *blob* in this repository, with the right size."""

        def look() -> bool:
            target = f"{self._root}/blobs/{blob.digest}"
            with self._writing("HEAD", target, accepted=frozenset({200, 404})) as reply:
                return reply.status == 200 and reply.size_bytes in {None, blob.size_bytes}

        return self._retried(look)

    def mount(self, blob: Descriptor, source: str) -> bool:
        """Have *blob* linked here from the repository *source* of the same registry, if it is."""
        scopes = self._push | {f"repository:{source}:pull"}

        def ask() -> bool:
            query = f"mount={blob.digest}&from={quote(source, safe='')}"
            target = f"{self._root}/blobs/uploads/?{query}"
            accepted = frozenset({201, 202, 401, 403, 404, 405})
            with self.endpoint.request("POST", target, scopes=scopes, accepted=accepted) as reply:
                status, location = reply.status, reply.header("Location")
            if status == 202 and location:
                self._cancel(location)  # it wants the bytes, which are sent another way
            return status == 201

        try:
            return self._retried(ask)
        except RegistryError as error:
            if error.status != 401:  # we may not read there: then the bytes are sent
                raise
            return False

    def upload(
        self,
        blob: Descriptor,
        open_source: Callable[[], AbstractContextManager[Reader]],
        transfer: Transfer,
    ) -> None:
        """Send *blob*, from a source that is opened anew for each attempt."""

        def send() -> None:
            transfer.done_bytes = 0
            with self._writing(
                "POST", f"{self._root}/blobs/uploads/", accepted=frozenset({202})
            ) as reply:
                location = self._location(reply)
            query = f"digest={quote(blob.digest, safe=':')}"
            target = str(location.with_query(query))
            with open_source() as source:
                body = Body(source=_Counted(source, transfer), size_bytes=blob.size_bytes)
                headers = {"Content-Type": "application/octet-stream"}
                with self._writing(
                    "PUT", target, accepted=frozenset({201, 204}), headers=headers, body=body
                ):
                    pass

        self._retried(send)

    def put_manifest(self, document: Document, reference: str) -> None:
        """Store *document* as *reference*. Raises RegistryError."""
        descriptor = document.descriptor
        body = Body(source=document.raw, size_bytes=len(document.raw))

        def put() -> None:
            target = f"{self._root}/manifests/{reference}"
            headers = {"Content-Type": descriptor.media_type}
            accepted = frozenset({200, 201, 202, 204})
            with self._writing(
                "PUT", target, accepted=accepted, headers=headers, body=body
            ) as reply:
                told = reply.header("Docker-Content-Digest")
                if told is not None and is_digest(told) and told != descriptor.digest:
                    raise RegistryError(
                        f"{self.name} stored {told} instead of {descriptor.digest}"
                    )

        self._retried(put)

    def announce(self, document: Document) -> None:
        """See to it that *document*, which is here, is found by who asks for its subject.

        Most registries do that themselves; for others a list is kept under a tag (as
        ``referrers`` reads it). Raises RegistryError.
        """
        descriptor = document.descriptor
        subject = subject_of(document.raw, descriptor.digest)
        if subject is None or self._lists_referrers(subject.digest):
            return
        tag = subject.digest.replace(":", "-")
        lines = [described(descriptor, document.raw)]
        try:
            known = parse_document(self.manifest(tag).raw, tag)["manifests"].items()
            lines += [each.value for each in known if each["digest"].value != descriptor.digest]
        except RegistryError as error:
            if error.status != 404:
                raise
        content = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": lines}
        raw = render_document(content)
        index = Descriptor(media_type=INDEX_TYPE, digest=digest_of(raw), size_bytes=len(raw))
        self.put_manifest(Document(raw=raw, descriptor=index), tag)

    def tags(self, *, page_size: int | None = None) -> Iterator[str]:
        """Every tag, in the registry's order; pages are asked for as they are needed."""
        target = f"{self._root}/tags/list"
        if page_size is not None:
            target = f"{target}?n={page_size}"
        seen = 0
        for document in self._pages(target):
            for node in parse_document(document, f"the tags of {self.name}")["tags"].items():
                seen += 1
                if seen > MAX_TAGS:
                    raise RegistryError(f"{self.name} lists more than {MAX_TAGS} tags")
                yield node.text()

    def referrers(self, digest: str) -> tuple[Descriptor, ...]:
        """The manifests whose subject is *digest*: signatures, bills of materials and such.

        A registry without that interface keeps them as the tag ``sha256-HEX`` (distribution-spec,
        "Referrers Tag Schema"). Raises RegistryError.
        """
        found: dict[str, Descriptor] = {}
        try:
            for raw in self._pages(f"{self._root}/referrers/{digest}"):
                _collect(raw, f"the referrers of {digest}", found)
        except RegistryError as error:
            if error.status not in {404, 405}:
                raise
            try:
                _collect(self.manifest(digest.replace(":", "-")).raw, digest, found)
            except RegistryError as missing:
                if missing.status != 404:
                    raise
        return tuple(found.values())

    def _lists_referrers(self, digest: str) -> bool:
        try:
            self._retried(lambda: self._page(f"{self._root}/referrers/{digest}"))
        except RegistryError as error:
            if error.status not in {404, 405}:
                raise
            return False
        return True

    def _pages(self, target: str) -> Iterator[bytes]:
        """The documents that begin at *target* and go on where its ``Link`` leads (RFC 8288)."""
        following: str | None = target
        visited: set[str] = set()
        while following is not None:
            if following in visited or len(visited) >= MAX_PAGES:
                raise RegistryError(f"{self.name} lists its pages without an end")
            visited.add(following)
            raw, following = self._asked(
                partial(self._page, following), f"no repository {self.name}"
            )
            yield raw

    def _page(self, target: str) -> tuple[bytes, str | None]:
        headers = {"Accept": f"application/json, {INDEX_TYPE}"}
        with self._request("GET", target, accepted=_OK, headers=headers) as reply:
            match = _NEXT.match(reply.header("Link") or "")
            following = None if match is None else str(reply.url.joined(match[1]))
            return reply.document(MAX_DOCUMENT_BYTES), following

    def _cancel(self, location: str) -> None:
        target = str(self.endpoint.base().joined(location))
        anything = frozenset(range(200, 600))
        with self._writing("DELETE", target, accepted=anything):
            pass

    def _location(self, reply: Reply) -> Url:
        location = reply.header("Location")
        if not location:
            raise RegistryError(f"{self.name} does not say where to upload to")
        return reply.url.joined(location)

    def _request(
        self, method: str, target: str, *, accepted: frozenset[int], headers: dict[str, str]
    ) -> AbstractContextManager[Reply]:
        return self.endpoint.request(
            method, target, scopes=self._pull, accepted=accepted, headers=headers
        )

    def _writing(
        self,
        method: str,
        target: str,
        *,
        accepted: frozenset[int],
        headers: dict[str, str] | None = None,
        body: Body | None = None,
    ) -> AbstractContextManager[Reply]:
        return self.endpoint.request(
            method, target, scopes=self._push, accepted=accepted, headers=headers, body=body
        )

    def _retried(self, operation: Callable[[], T]) -> T:
        wire = self.endpoint.wire
        return retried(wire.patience, wire.called_off, operation)

    def _asked(self, operation: Callable[[], T], missing: str) -> T:
        """As ``_retried``; a 404 becomes the sentence *missing*."""
        try:
            return self._retried(operation)
        except RegistryError as error:
            if error.status != 404:
                raise
            raise RegistryError(missing, remedy="check its spelling", status=404) from error


class Download:
    """A blob on its way: a stream that resumes, is never longer than it should be, and counts.

    What it gives is not verified yet: the store, or whoever reads, compares the digest.
    """

    def __init__(self, repository: Repository, blob: Descriptor, transfer: Transfer) -> None:
        self._repository = repository
        self._blob = blob
        self._transfer = transfer
        self._failures = 0
        self._resumes = 0
        self._reply: Reply | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most *size* of them; none at the end. Raises RegistryError."""
        wire = self._repository.endpoint.wire
        while True:
            try:
                chunk = self._chunk(self._left if size < 0 else min(size, self._left))
            except TransientError as error:
                self._close()
                self._failures += 1
                self._resumes += 1
                if self._resumes > MAX_RESUMES:
                    raise
                pause(wire.patience, wire.called_off, self._failures, error)
            else:
                self._transfer.done_bytes += len(chunk)
                return chunk

    def _close(self) -> None:
        """End the reply; what is left of it would only be waited for."""
        if self._reply is not None and self._left:
            self._reply.abandon()
        self._reply = None
        self._open.close()

    @property
    def _left(self) -> int:
        return self._blob.size_bytes - self._transfer.done_bytes

    def _chunk(self, size: int) -> bytes:
        if self._reply is None and not size:  # it broke after the last byte, or there is none
            return b""
        reply = self._reply or self._opened()
        chunk = reply.read(size or 1)
        if chunk and not size:
            raise self._wrong(f"is longer than its {self._blob.size_bytes} bytes")
        if not chunk and size:
            raise TransientError(f"{self._repository.place.registry} broke off in the middle")
        if chunk:
            self._failures = 0  # it gives something: that is no reason to lose patience
        return chunk

    def _opened(self) -> Reply:
        offset = self._transfer.done_bytes
        opened = self._repository.open_blob(self._blob, offset)
        self._reply = reply = self._open.enter_context(opened)
        if reply.status == 206:
            match = _CONTENT_RANGE.fullmatch(reply.header("Content-Range") or "")
            if match is None or int(match[1]) != offset:
                raise self._wrong("came with another part than was asked for")
        if reply.status == 200:
            if reply.size_bytes not in {None, self._blob.size_bytes}:
                raise self._wrong(f"has {reply.size_bytes} bytes, not {self._blob.size_bytes}")
            _skip(reply, offset)
        return reply

    def _wrong(self, why: str) -> RegistryError:
        return RegistryError(f"blob {self._blob.digest} of {self._repository.name} {why}")


class _Counted:
    """A source that says how much was taken from it."""

    def __init__(self, source: Reader, transfer: Transfer) -> None:
        self._source = source
        self._transfer = transfer

    def read(self, size: int = -1, /) -> bytes:
        chunk = self._source.read(size)
        self._transfer.done_bytes += len(chunk)
        return chunk


def _document(raw: bytes, told_type: str | None, promised: str | None) -> Document:
    digest = digest_of(raw)
    if promised not in {None, digest}:
        raise RegistryError(f"what came as {promised} hashes to {digest}")
    descriptor = Descriptor(
        media_type=media_type_of(raw, told_type, digest), digest=digest, size_bytes=len(raw)
    )
    return Document(raw=raw, descriptor=descriptor)


def _promised(reference: str, told: str | None) -> str | None:
    """The digest that must come out: the one asked for, else the one that the registry names."""
    if is_digest(reference):
        return reference
    return told if told is not None and is_digest(told) else None


def _joined(reference: str) -> str:
    return f"@{reference}" if is_digest(reference) else f":{reference}"


def _skip(reply: Reply, size: int) -> None:
    while size:
        chunk = reply.read(size)
        if not chunk:
            raise TransientError(f"{reply.url.authority} broke off in the middle")
        size -= len(chunk)


def _collect(raw: bytes, what: str, found: dict[str, Descriptor]) -> None:
    try:
        for node in parse_document(raw, what)["manifests"].items():
            descriptor = Descriptor.from_node(node)
            found.setdefault(descriptor.digest, descriptor)
    except ImageError as error:
        raise RegistryError(error.message) from error
