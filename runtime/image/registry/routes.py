"""What a request to a registry asks for. Everything here is pure.

Source: OCI distribution-spec 1.1, "Endpoints" and "Error Codes".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from runtime.errors import ImageError
from runtime.image.reference import is_digest, parse_reference

MAX_QUERY_CHARACTERS = 4096

_ROUTES = (
    ("base", re.compile(r"/v2/?")),
    ("catalog", re.compile(r"/v2/_catalog")),
    ("manifest", re.compile(r"/v2/(?P<name>[^%]+)/manifests/(?P<item>[^/%]+)")),
    ("uploads", re.compile(r"/v2/(?P<name>[^%]+)/blobs/uploads/?")),
    ("upload", re.compile(r"/v2/(?P<name>[^%]+)/blobs/uploads/(?P<item>[0-9a-f]{32})")),
    ("blob", re.compile(r"/v2/(?P<name>[^%]+)/blobs/(?P<item>[^/%]+:[^/%]+)")),
    ("tags", re.compile(r"/v2/(?P<name>[^%]+)/tags/list")),
    ("referrers", re.compile(r"/v2/(?P<name>[^%]+)/referrers/(?P<item>[^/%]+)")),
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d{1,18})-(\d{1,18})(?:/\*|/\d{1,18})?")


class ProblemError(Exception):
    """What a client is told: an HTTP status and the specification's code and our sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def body(self) -> bytes:
        """The document that the specification gives an error."""
        error = {"code": self.code, "message": str(self), "detail": None}
        return json.dumps({"errors": [error]}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An address of the interface: *kind* says which, *name* the repository, *item* what in it."""

    kind: str
    name: str = ""
    item: str = ""
    query: Mapping[str, str] = field(default_factory=dict)


def parse_target(target: str) -> Route:
    """The route of a request's target. Raises ProblemError.

    Nothing is decoded: no name, tag or digest has a character that needs it, so what has one,
    has ``..`` or an empty part is no name.
    """
    path, _, query = target.partition("?")
    for kind, pattern in _ROUTES:
        if (match := pattern.fullmatch(path)) is not None:
            parts = match.groupdict()
            route = Route(
                kind=kind,
                name=parts.get("name", ""),
                item=parts.get("item", ""),
                query=_query(query),
            )
            _check(route)
            return route
    raise ProblemError(404, "UNSUPPORTED", "there is nothing at this address")


def parse_range(header: str, size_bytes: int) -> tuple[int, int] | None:
    """The first and the last byte that a ``Range`` asks for; None if it is to be ignored.

    Raises ProblemError 416 if there is nothing in it. Source: RFC 9110, 14.1.2.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first = int(match[1])
    last = min(int(match[2]), size_bytes - 1) if match[2] else size_bytes - 1
    if first > last:
        raise ProblemError(416, "SIZE_INVALID", f"the blob has {size_bytes} bytes")
    return first, last


def check_content_range(header: str | None, offset: int, size_bytes: int | None) -> None:
    """Let a chunk only follow the one before it. Raises ProblemError 416, 400."""
    if header is None:
        return
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise ProblemError(400, "BLOB_UPLOAD_INVALID", "the range of the chunk cannot be read")
    first, last = int(match[1]), int(match[2])
    if first != offset:
        raise ProblemError(416, "BLOB_UPLOAD_INVALID", f"the upload goes on at byte {offset}")
    if size_bytes is not None and last - first + 1 != size_bytes:
        raise ProblemError(400, "SIZE_INVALID", "the chunk's range and length differ")


def page(items: tuple[str, ...], query: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """What of the sorted *items* ``last`` and ``n`` ask for, and whether more follow."""
    last, limit = query.get("last"), query.get("n")
    rest = tuple(item for item in items if last is None or item > last)
    if limit is None:
        return rest, False
    if not re.fullmatch(r"\d{1,9}", limit):
        raise ProblemError(400, "UNSUPPORTED", "'n' is no number")
    count = int(limit)
    return rest[:count], 0 < count < len(rest)


def _check(route: Route) -> None:
    if route.name:
        try:
            parsed = parse_reference(route.name)
        except ImageError as error:
            raise ProblemError(400, "NAME_INVALID", error.message) from None
        if parsed.tag != "latest" or ":" in route.name:
            raise ProblemError(400, "NAME_INVALID", "a repository has no tag and no port")
    if route.kind in {"blob", "referrers"} and not is_digest(route.item):
        raise ProblemError(400, "DIGEST_INVALID", "a digest is sha256: and 64 hex digits")
    if route.kind == "manifest" and not (is_digest(route.item) or _TAG.fullmatch(route.item)):
        status = 400 if ":" in route.item else 404
        raise ProblemError(status, "MANIFEST_UNKNOWN", "this is neither a tag nor a digest")


def _query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text[:MAX_QUERY_CHARACTERS], max_num_fields=10, errors="strict"))
    except ValueError:
        raise ProblemError(400, "UNSUPPORTED", "the query cannot be read") from None
