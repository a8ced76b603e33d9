"""ADD of an address: fetched over http or https only, bounded, checked before anything is kept."""

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from runtime.build.model import Download
from runtime.errors import BuildError

MOST_BYTES = 16 << 30
TIMEOUT_S = 60.0
"""How long nothing may arrive."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A file that was fetched, what its bytes hash to, and what it would be called."""

    path: Path
    digest: str
    name: str


def name_of(url: str) -> str:
    """The file name that an address ends with; empty where it has none."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
    return "" if "/" in name or "\0" in name or name in {".", ".."} else name


def download(source: Download, path: Path, *, limit_bytes: int = MOST_BYTES) -> Downloaded:
    """Fetch *source* into the new file *path*. Raises BuildError; then *path* is not complete."""
    shown = _shown(source.url)
    if urllib.parse.urlsplit(source.url).scheme not in {"http", "https"}:
        raise BuildError(f"{shown} is neither http nor https")
    try:
        with _opener().open(source.url, timeout=TIMEOUT_S) as answer, path.open("xb") as file:
            digest = _receive(answer, file, limit_bytes, shown)
    except urllib.error.HTTPError as error:
        raise BuildError(f"{shown} answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise BuildError(f"{shown} cannot be fetched: {why}") from error
    if source.checksum is not None and source.checksum != digest:
        raise BuildError(
            f"{shown} hashes to {digest}, not to its --checksum {source.checksum}",
            remedy="find out who changed it before you change the checksum",
        )
    return Downloaded(path=path, digest=digest, name=name_of(source.url))


def _receive(answer: BinaryIO, file: BinaryIO, limit_bytes: int, shown: str) -> str:
    hasher = hashlib.sha256()
    seen_bytes = 0
    while chunk := answer.read(_CHUNK_BYTES):  # raises IncompleteRead for a body cut short
        seen_bytes += len(chunk)
        if seen_bytes > limit_bytes:
            raise BuildError(f"{shown} is larger than {limit_bytes} bytes")
        hasher.update(chunk)
        file.write(chunk)
    length = getattr(answer, "headers", {}).get("Content-Length")
    if length is not None and length.isdigit() and int(length) != seen_bytes:
        raise BuildError(f"{shown} ended after {seen_bytes} of {length} bytes")
    return f"sha256:{hasher.hexdigest()}"


def _opener() -> urllib.request.OpenerDirector:
    """What opens http and https and nothing else: a redirect to a file leads nowhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "isoscope"), ("Accept-Encoding", "identity")]
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows at most ten redirects, to http and https only, never from https down to http."""

    max_redirections = 10

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in {"http", "https"} or (req.type == "https" and scheme == "http"):
            raise BuildError(f"{_shown(req.full_url)} redirects to {_shown(newurl)}, unfollowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _shown(url: str) -> str:
    """An address without the password that it may hold, and not endless."""
    parts = urllib.parse.urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return shown if len(shown) <= 200 else f"{shown[:199]}…"
