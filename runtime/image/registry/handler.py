"""What a registry is asked for: the methods and routes of the OCI distribution-spec 1.1."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from runtime.errors import ImageError
from runtime.image.blob import Reader, digest_of
from runtime.image.document import MAX_DOCUMENT_BYTES
from runtime.image.manifest import Descriptor
from runtime.image.reference import is_digest
from runtime.image.registry.catalog import MissingPartError
from runtime.image.registry.exchange import CHUNK_BYTES, JSON_TYPE, Exchange
from runtime.image.registry.routes import (
    ProblemError,
    Route,
    check_content_range,
    page,
    parse_range,
)
from runtime.image.registry.uploads import Upload
from runtime.image.served import INDEX_TYPE, media_type_of, parts


class Handler(Exchange):
    """Answers the requests of one connection."""

    def dispatch(self, route: Route) -> None:
        """Do what is asked of *route*. Raises ProblemError, ImageError."""
        method = "GET" if self.command == "HEAD" else self.command
        actions: Mapping[tuple[str, str], Callable[[Route], None]] = {
            ("base", "GET"): lambda _: self.send_json({}),
            ("catalog", "GET"): self._list_repositories,
            ("manifest", "GET"): self._get_manifest,
            ("manifest", "PUT"): self._put_manifest,
            ("manifest", "DELETE"): self._delete_manifest,
            ("blob", "GET"): self._get_blob,
            ("blob", "DELETE"): self._delete_blob,
            ("uploads", "POST"): self._begin_upload,
            ("upload", "GET"): self._tell_upload,
            ("upload", "PATCH"): self._add_to_upload,
            ("upload", "PUT"): self._finish_upload,
            ("upload", "DELETE"): self._cancel_upload,
            ("tags", "GET"): self._list_tags,
            ("referrers", "GET"): self._list_referrers,
        }
        action = actions.get((route.kind, method))
        if action is None:
            raise ProblemError(405, "UNSUPPORTED", f"{self.command} means nothing here")
        action(route)

    # Manifests

    def _get_manifest(self, route: Route) -> None:
        found = self.shelf.catalog.find(route.name, route.item)
        if found is None:
            raise ProblemError(404, "MANIFEST_UNKNOWN", "there is no such manifest")
        raw = self.shelf.store.read_blob(found)
        self.send(200, raw, found.media_type, headers={"Docker-Content-Digest": found.digest})

    def _put_manifest(self, route: Route) -> None:
        raw = self.whole_body(MAX_DOCUMENT_BYTES)
        told = self.headers.get("Content-Type")
        if is_digest(route.item) and digest_of(raw) != route.item:
            raise ProblemError(400, "DIGEST_INVALID", "the manifest hashes to another digest")
        self._restore_parts(raw, told)
        try:
            done = self.shelf.catalog.put(route.name, route.item, raw, told)
        except MissingPartError as error:
            raise ProblemError(400, "MANIFEST_BLOB_UNKNOWN", error.message) from None
        except ImageError as error:
            raise ProblemError(400, "MANIFEST_INVALID", error.message) from None
        headers = {
            "Location": f"/v2/{route.name}/manifests/{done.digest}",
            "Docker-Content-Digest": done.digest,
        }
        if done.subject is not None:
            headers["OCI-Subject"] = done.subject
        self.send(201, headers=headers)

    def _restore_parts(self, raw: bytes, told: str | None) -> None:
        """Blobs of the manifest that a removal took since they were sent come back."""
        with suppress(ImageError):
            kind = media_type_of(raw, told, "manifest")
            descriptor = Descriptor(media_type=kind, digest="manifest", size_bytes=len(raw))
            for part in parts(descriptor, raw):
                self.shelf.uploads.restore(part.digest)

    def _delete_manifest(self, route: Route) -> None:
        self._require_deletion()
        catalog = self.shelf.catalog
        found = catalog.find(route.name, route.item)
        if found is None:
            raise ProblemError(404, "MANIFEST_UNKNOWN", "there is no such manifest")
        if running := self.service.in_use(found.digest):
            raise ProblemError(409, "DENIED", f"it is in use by {', '.join(running)}")
        if is_digest(route.item):
            catalog.delete(route.name, route.item)
        else:
            catalog.untag(route.name, route.item)
        self.send(202)

    # Blobs

    def _get_blob(self, route: Route) -> None:
        store = self.shelf.store
        try:
            opened = store.open_raw(route.item)
            with opened as (file, size_bytes):
                part = parse_range(self.headers.get("Range") or "", size_bytes)
                if part is not None:
                    file.seek(part[0])
                    self._send_stream(file, size_bytes, route.item, part)
                    return
            with store.open_blob(route.item) as reader:
                self._send_stream(reader, size_bytes, route.item, None)
        except ImageError as error:
            if self.sent:  # its hash came out wrong: the client must not have all of it
                self.close_connection = True
                print(f"isoscope: {error}", file=sys.stderr)  # noqa: T201 - the operator must know
                return
            raise ProblemError(404, "BLOB_UNKNOWN", "there is no such blob") from None

    def _send_stream(
        self, source: Reader, size_bytes: int, digest: str, part: tuple[int, int] | None
    ) -> None:
        first, last = part or (0, size_bytes - 1)
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            "Content-Length": str(last - first + 1),
        }
        if part is not None:
            headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
        self.send_head(200 if part is None else 206, headers)
        if self.command == "HEAD":
            return
        left = last - first + 1
        held = b""  # sent once what follows is known to be good: so a bad blob is cut short
        while left:
            chunk = source.read(min(left, CHUNK_BYTES) if part is not None else CHUNK_BYTES)
            if not chunk:
                self.close_connection = True
                return
            self.wfile.write(held)
            held = chunk
            left -= len(chunk)
        if part is None:
            source.read(1)  # lets it check its hash
        self.wfile.write(held)

    def _delete_blob(self, route: Route) -> None:
        self._require_deletion()
        kept = self.shelf.uploads.drop(route.item)
        if self.shelf.catalog.is_part(route.item):
            raise ProblemError(409, "DENIED", "an image needs this blob")
        if not kept and route.item not in self.shelf.store.sweep():
            raise ProblemError(404, "BLOB_UNKNOWN", "there is no such blob")
        self.send(202)

    # Uploads

    def _begin_upload(self, route: Route) -> None:
        mount, digest = route.query.get("mount"), route.query.get("digest")
        if mount is not None and is_digest(mount) and self._has(mount):
            self._send_created(route.name, mount)
            return
        upload = self.shelf.uploads.begin(route.name)
        if digest is None:
            self._send_progress(202, upload)
            return
        with self.shelf.uploads.using(route.name, upload.name):
            self._receive_last(upload, digest)

    def _tell_upload(self, route: Route) -> None:
        with self.shelf.uploads.using(route.name, route.item) as upload:
            self._send_progress(204, upload)

    def _add_to_upload(self, route: Route) -> None:
        with self.shelf.uploads.using(route.name, route.item) as upload:
            check_content_range(
                self.headers.get("Content-Range"), upload.size_bytes, self.body_bytes
            )
            self.shelf.uploads.append(upload, self.body)
            self._send_progress(202, upload)

    def _finish_upload(self, route: Route) -> None:
        digest = route.query.get("digest", "")
        with self.shelf.uploads.using(route.name, route.item) as upload:
            check_content_range(
                self.headers.get("Content-Range"), upload.size_bytes, self.body_bytes
            )
            self._receive_last(upload, digest)

    def _receive_last(self, upload: Upload, digest: str) -> None:
        receiving = self.shelf.uploads
        if not is_digest(digest):
            receiving.cancel(upload)
            raise ProblemError(400, "DIGEST_INVALID", "a digest is sha256: and 64 hex digits")
        receiving.append(upload, self.body)
        receiving.finish(upload, digest)
        self._send_created(upload.repository, digest)

    def _cancel_upload(self, route: Route) -> None:
        with self.shelf.uploads.using(route.name, route.item) as upload:
            self.shelf.uploads.cancel(upload)
        self.send(204)

    def _send_created(self, name: str, digest: str) -> None:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        self.send(201, headers=headers)

    def _send_progress(self, status: int, upload: Upload) -> None:
        headers = {
            "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.name}",
            "Range": f"0-{max(0, upload.size_bytes - 1)}",
            "Docker-Upload-UUID": upload.name,
        }
        self.send(status, headers=headers)

    def _has(self, digest: str) -> bool:
        try:
            with self.shelf.store.open_raw(digest):
                return True
        except ImageError:
            return False

    # Lists

    def _list_tags(self, route: Route) -> None:
        tags = self.shelf.catalog.tags(route.name)
        if not tags:
            raise ProblemError(404, "NAME_UNKNOWN", "there is no such repository")
        some, more = page(tags, route.query)
        following = f"/v2/{route.name}/tags/list"
        self._send_page({"name": route.name, "tags": list(some)}, following, some, more=more)

    def _list_repositories(self, route: Route) -> None:
        some, more = page(self.shelf.catalog.repositories(), route.query)
        self._send_page({"repositories": list(some)}, "/v2/_catalog", some, more=more)

    def _list_referrers(self, route: Route) -> None:
        lines = self.shelf.catalog.referrers(route.item)
        headers = {}
        if (kind := route.query.get("artifactType")) is not None:
            lines = [line for line in lines if line.get("artifactType") == kind]
            headers["OCI-Filters-Applied"] = "artifactType"
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": lines}
        self.send(200, json.dumps(document).encode(), INDEX_TYPE, headers=headers)

    def _send_page(
        self, document: object, target: str, some: tuple[str, ...], *, more: bool
    ) -> None:
        headers = {}
        if more:
            headers["Link"] = f'<{target}?n={len(some)}&last={some[-1]}>; rel="next"'
        self.send(200, json.dumps(document).encode(), JSON_TYPE, headers=headers)

    def _require_deletion(self) -> None:
        if not self.service.deletion:
            raise ProblemError(405, "UNSUPPORTED", "this registry deletes nothing")
