"""Blobs that clients are sending: in files of their own until they are whole and have a name.

What was sent is kept beside the store for a while, so that no removal of another image takes it
before the manifest that needs it has come. All of it goes when the server ends, and what a
killed server left goes when the next one starts.
"""

import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from runtime.image.blob import Reader
from runtime.image.durable import locked
from runtime.image.removal import remove_tree
from runtime.image.store import Store

CHUNK_BYTES = 256 << 10
MAX_UPLOADS = 64
IDLE_S = 600.0
KEPT_S = 3600.0
"""How long a blob that was sent waits for its manifest."""

_BUSY_S = 5.0
_SPARE_BYTES = 64 << 20
"""The disk is never filled further than this."""


class UploadRefusedError(Exception):
    """An upload cannot go on; *code* is the distribution-spec's word for why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(slots=True, kw_only=True)
class Upload:
    """One blob on its way. Only one request at a time works on it."""

    name: str
    repository: str
    path: Path
    file: BinaryIO
    size_bytes: int = 0
    touched_s: float = field(default_factory=time.monotonic)
    hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    busy: threading.Lock = field(default_factory=threading.Lock)


class Uploads:
    """The uploads of one server, in the directory *folder* of its own."""

    def __init__(self, store: Store, folder: Path, *, max_bytes: int) -> None:
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._uploads: dict[str, Upload] = {}
        self._kept_s: dict[str, float] = {}

    def begin(self, repository: str) -> Upload:
        """A new upload. Raises UploadRefusedError if there are too many."""
        self._sweep()
        with self._guard:
            if len(self._uploads) >= MAX_UPLOADS:
                raise UploadRefusedError(429, "TOOMANYREQUESTS", "too many uploads at once")
            name = secrets.token_hex(16)
            path = self._folder / name
            upload = Upload(name=name, repository=repository, path=path, file=path.open("xb"))
            self._uploads[name] = upload
        return upload

    @contextmanager
    def using(self, repository: str, name: str) -> Iterator[Upload]:
        """The upload *name* for one request. Raises UploadRefusedError if there is none."""
        with self._guard:
            upload = self._uploads.get(name)
        if upload is None or upload.repository != repository:
            raise UploadRefusedError(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        # A client may come with the next request before the thread of its last one is through.
        if not upload.busy.acquire(timeout=_BUSY_S):
            raise UploadRefusedError(409, "BLOB_UPLOAD_INVALID", "the upload is in use")
        try:
            yield upload
        finally:
            upload.touched_s = time.monotonic()
            upload.busy.release()

    def append(self, upload: Upload, source: Reader) -> None:
        """Add what *source* gives. Raises UploadRefusedError, and what *source* raises.

        What came before an end that is too early counts: a client may go on from there.
        """
        while chunk := source.read(CHUNK_BYTES):
            self._check_room(upload, len(chunk))
            upload.file.write(chunk)
            upload.hash.update(chunk)
            upload.size_bytes += len(chunk)
            upload.touched_s = time.monotonic()

    def finish(self, upload: Upload, digest: str) -> None:
        """Make the upload the blob *digest* of the store, or refuse and forget it."""
        found = f"sha256:{upload.hash.hexdigest()}"
        if found != digest:
            self.cancel(upload)
            message = f"what was sent hashes to {found}"
            raise UploadRefusedError(400, "DIGEST_INVALID", message)
        upload.file.flush()
        os.fsync(upload.file.fileno())
        kept = self._kept(digest)
        upload.path.replace(kept)
        self._store.keep_blob(kept, digest)
        with self._guard:
            self._kept_s[digest] = time.monotonic()
        self.cancel(upload)

    def cancel(self, upload: Upload) -> None:
        """Forget the upload and what it holds."""
        with self._guard:
            self._uploads.pop(upload.name, None)
        upload.file.close()
        upload.path.unlink(missing_ok=True)

    def restore(self, digest: str) -> None:
        """Put a blob that was sent lately back into the store if a removal has taken it."""
        with self._guard:
            known = digest in self._kept_s
        if known:
            with suppress(FileNotFoundError):  # it was swept just now
                self._store.keep_blob(self._kept(digest), digest)

    def drop(self, digest: str) -> bool:
        """No longer keep the blob *digest* for a manifest; whether it was kept."""
        with self._guard:
            known = self._kept_s.pop(digest, None) is not None
        self._kept(digest).unlink(missing_ok=True)
        return known

    def close(self) -> None:
        """Close every file; the directory is the caller's to remove."""
        with self._guard:
            uploads = tuple(self._uploads.values())
            self._uploads.clear()
        for upload in uploads:
            upload.file.close()

    def _kept(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def _check_room(self, upload: Upload, more_bytes: int) -> None:
        status = os.statvfs(self._folder)
        free_bytes = status.f_bavail * status.f_frsize
        if upload.size_bytes + more_bytes > self._max_bytes:
            self.cancel(upload)
            message = f"a blob may have {self._max_bytes} bytes"
            raise UploadRefusedError(413, "SIZE_INVALID", message)
        if free_bytes - more_bytes < _SPARE_BYTES:
            self.cancel(upload)
            raise UploadRefusedError(507, "SIZE_INVALID", "no room is left on the server's disk")

    def _sweep(self) -> None:
        now_s = time.monotonic()
        with self._guard:
            idle = [each for each in self._uploads.values() if now_s - each.touched_s > IDLE_S]
            old = [digest for digest, at_s in self._kept_s.items() if now_s - at_s > KEPT_S]
        for upload in idle:
            if upload.busy.acquire(blocking=False):
                self.cancel(upload)
        for digest in old:
            self.drop(digest)


@contextmanager
def uploads(store: Store, *, max_bytes: int) -> Iterator[Uploads]:
    """The uploads of a server, in a directory that is gone afterwards."""
    with store.writing():
        pass  # the store's directories are there
    root = store.root / "uploads"
    with locked(store.root / "uploads.lock"):
        root.mkdir(mode=0o700, exist_ok=True)
        _sweep_dead(root)
        folder = root / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # says that its server lives
    made = Uploads(store, folder, max_bytes=max_bytes)
    try:
        yield made
    finally:
        made.close()
        remove_tree(folder)
        os.close(descriptor)


def _sweep_dead(root: Path) -> None:
    """Remove the directories of servers that are gone; the caller holds the lock."""
    for folder in root.iterdir():
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            remove_tree(folder)
        finally:
            os.close(descriptor)
