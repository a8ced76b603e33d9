"""One registry as a client sees it: which scheme, who we are there, what its answers mean."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock

from runtime.errors import ImageError
from runtime.image.document import parse_document
from runtime.image.registry.authorization import Authorization, login_needed
from runtime.image.registry.credentials import Known
from runtime.image.registry.errors import RegistryError, TransientError
from runtime.image.registry.places import Place
from runtime.image.registry.url import Url
from runtime.image.registry.wire import Body, Reply, Wire

MAX_REDIRECTS = 5

_MAX_ERROR_BYTES = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECONDS = re.compile(r"\d{1,9}")


class Endpoint:
    """The registry of *place*. It is contacted when the first request is made."""

    def __init__(self, wire: Wire, place: Place, credentials: Known) -> None:
        self.registry = place.registry
        self.wire = wire
        self._bases = place.bases
        self._base: Url | None = None
        self._guard = Lock()
        self._authorization = Authorization(
            place.registry, wire.request, lambda: credentials.find(place.registry)
        )

    @contextmanager
    def request(
        self,
        method: str,
        target: str,
        *,
        scopes: frozenset[str],
        accepted: frozenset[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[Reply]:
        """Send a request for *target*, a path or an address that this registry named.

        Raises RegistryError for every status that is not *accepted*, TransientError for those
        that may pass.
        """
        base = self.base()
        url = base.joined(target)
        if base.scheme == "https" and url.scheme == "http":
            raise RegistryError(f"{self.registry} sends us to {url.authority} without TLS")
        with self._authorized(method, url, scopes, headers or {}, body) as reply:
            if reply.status not in accepted:
                raise _refusal(self.registry, reply)
            yield reply

    def base(self) -> Url:
        """The address that answers. Raises RegistryError if none does."""
        with self._guard:
            if self._base is None:
                self._base = self._found_base()
            return self._base

    def check_login(self) -> None:
        """Ask for what only those may have who are known. Raises RegistryError."""
        try:
            with self.request("GET", "/v2/", scopes=frozenset(), accepted=frozenset({200})):
                pass
        except RegistryError as error:
            if error.status != 401:
                raise
            raise RegistryError(
                f"{self.registry} does not know this user with this password",
                remedy="check both",
                status=401,
            ) from error

    def _found_base(self) -> Url:
        *others, last = self._bases
        for base in others:
            try:
                if self._speaks(base):
                    return base
            except TransientError:
                continue
        return last

    def _speaks(self, base: Url) -> bool:
        """Whether *base* is a registry, and not a server that waits for TLS there."""
        with self.wire.request("GET", base.joined("/v2/"), {}) as reply:
            return reply.status in {200, 401, 403, 429} or reply.status >= 500

    @contextmanager
    def _authorized(
        self,
        method: str,
        url: Url,
        scopes: frozenset[str],
        headers: Mapping[str, str],
        body: Body | None,
    ) -> Iterator[Reply]:
        """Send; where a login is demanded, once more with it. A second 401 is an answer."""
        base = self.base()
        ours = url.origin == base.origin  # an upload may go on elsewhere: not with our login
        tried = self._authorization.header(scopes) if ours else None
        with self._redirected(method, url, _with(headers, tried), body) as reply:
            if reply.status != 401 or not ours or reply.url.origin != base.origin:
                yield reply
                return
            challenge = reply.header("WWW-Authenticate") or ""
        self._authorization.answer(base, challenge, scopes, tried)
        if not (body is None or isinstance(body.source, bytes)):  # our token ran out meanwhile
            raise TransientError(f"{self.registry} wants a new login", status=401, at_once=True)
        header = self._authorization.header(scopes)
        with self._redirected(method, url, _with(headers, header), body) as reply:
            yield reply

    @contextmanager
    def _redirected(
        self, method: str, url: Url, headers: Mapping[str, str], body: Body | None
    ) -> Iterator[Reply]:
        """Send, and follow what reading redirects to; our login stays with who it is for."""
        for _ in range(MAX_REDIRECTS + 1):
            with self.wire.request(method, url, headers, body) as reply:
                if reply.status not in _REDIRECTS or method not in {"GET", "HEAD"}:
                    yield reply
                    return
                there = url.joined(reply.header("Location") or "")
            if there.scheme == "http" and url.scheme == "https":
                raise RegistryError(
                    f"{self.registry} redirects us to {there.authority} without TLS"
                )
            if there.origin != url.origin:
                headers = {k: v for k, v in headers.items() if k != "Authorization"}
            url = there
        raise RegistryError(f"{self.registry} redirects more than {MAX_REDIRECTS} times")


def _with(headers: Mapping[str, str], authorization: str | None) -> Mapping[str, str]:
    return headers if authorization is None else {**headers, "Authorization": authorization}


def _refusal(registry: str, reply: Reply) -> RegistryError:
    """The error that an answer means, with the registry's own words where it has some."""
    status = reply.status
    said = _said(reply)
    if status == 401:
        return login_needed(registry)
    if status == 403:
        remedy = f"another login may: 'isoscope image login {registry}'"
        return RegistryError(f"{registry} forbids it{said}", remedy=remedy, status=status)
    if status == 429 or status >= 500:
        problem = "asks us to slow down" if status == 429 else f"fails with status {status}"
        after_s = _retry_after_s(reply.header("Retry-After") or "")
        wait = f", for {after_s:.0f} s" if after_s else ""
        message = f"{registry} {problem}{wait}{said}"
        return TransientError(message, status=status, after_s=after_s)
    return RegistryError(f"{registry} answers with status {status}{said}", status=status)


def _said(reply: Reply) -> str:
    """What stands in the body of an error (distribution-spec, "Error Codes"), for people."""
    try:
        document = parse_document(reply.document(_MAX_ERROR_BYTES), "error")
        first = next(document["errors"].items(), None)
        text = "" if first is None else first["message"].text_or(first["code"].text_or(""))
    except ImageError:
        return ""
    return f": {text[:200]}" if text else ""


def _retry_after_s(text: str) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3): seconds, or a date."""
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
