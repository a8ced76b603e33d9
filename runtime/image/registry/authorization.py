"""What a registry demands before it serves us, and the tokens got for it.

Sources: distribution project, "Token Authentication Specification" and "Docker Registry v2
Bearer token specification"; RFC 7235 for the shape of a challenge.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode

from runtime.errors import ImageError
from runtime.image.document import parse_document
from runtime.image.registry.credentials import Credential
from runtime.image.registry.errors import RegistryError, TransientError
from runtime.image.registry.url import Url, is_loopback, parse_url
from runtime.image.registry.wire import Body, Reply

MAX_TOKEN_ANSWER_BYTES = 128 << 10

_CLIENT = "isoscope"
_TOKEN = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"\s*,?\s*([A-Za-z0-9_-]+)(?:\s+|(?=,)|$)(?!=)")
_PARAMETER = re.compile(r'\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]*))')


class Send(Protocol):
    """Sends one request and gives the reply, whatever its status."""

    def __call__(
        self, method: str, url: Url, headers: Mapping[str, str], body: Body | None = None
    ) -> AbstractContextManager[Reply]:
        """As ``Wire.request``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate that a server offers; *scheme* is lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a ``WWW-Authenticate`` header, as far as they can be read."""
    challenges, position = [], 0
    while match := _SCHEME.match(header, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(header, position):
            position = found.end()
            quoted = found[2]
            value = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(found[1].lower(), value)
        challenges.append(Challenge(scheme=match[1].lower(), parameters=parameters))
    return tuple(challenges)


class Authorization:
    """The ``Authorization`` headers for one registry, kept by what they allow.

    *find* looks the user's credential up, once and only when the registry asks.
    """

    def __init__(self, registry: str, send: Send, find: Callable[[], Credential | None]) -> None:
        self._registry = registry
        self._send = send
        self._find = find
        self._guard = threading.Lock()
        self._headers: dict[frozenset[str], str] = {}
        self._looked_up: list[Credential | None] = []

    def header(self, scopes: frozenset[str]) -> str | None:
        """What to send for *scopes*, or None as long as nothing was demanded."""
        return self._headers.get(scopes)

    def answer(self, base: Url, challenge: str, scopes: frozenset[str], tried: str | None) -> None:
        """Get what *challenge*, which came with a 401 to the header *tried*, demands for *scopes*.

        Raises RegistryError where nothing is left to try.
        """
        with self._guard:  # of several threads that were refused one asks for the token
            if self._headers.get(scopes) != tried:
                return
            self._headers[scopes] = self._answered(base, challenge, scopes)

    @property
    def credential(self) -> Credential | None:
        """The user's credential, if there is one."""
        if not self._looked_up:
            self._looked_up.append(self._find())
        return self._looked_up[0]

    def _answered(self, base: Url, challenge: str, scopes: frozenset[str]) -> str:
        offered = {each.scheme: each.parameters for each in reversed(parse_challenges(challenge))}
        if "bearer" in offered:
            return f"Bearer {self._token(base, offered['bearer'], scopes)}"
        credential = self.credential
        if "basic" in offered:
            if credential is None or not credential.user:
                raise login_needed(self._registry)
            return credential.basic
        raise RegistryError(
            f"{self._registry} wants a login of a kind that is not known", status=401
        )

    def _token(self, base: Url, parameters: Mapping[str, str], scopes: frozenset[str]) -> str:
        realm = parse_url(parameters.get("realm", ""))
        if realm.scheme == "http" and not is_loopback(realm.host) and base.scheme == "https":
            raise RegistryError(f"{self._registry} wants our login sent to {realm} without TLS")
        fields = [("service", parameters["service"])] if "service" in parameters else []
        fields += [("scope", scope) for scope in sorted(scopes) or _asked(parameters)]
        credential = self.credential
        if credential is not None and credential.identity_token:
            return self._refreshed(realm, fields, credential)
        headers = {}
        if credential is not None and credential.user:
            headers["Authorization"] = credential.basic
            fields.append(("account", credential.user))
        url = realm.with_query(urlencode(fields)) if fields else realm
        with self._send("GET", url, headers) as reply:
            return self._read_token(reply)

    def _refreshed(
        self, realm: Url, fields: Iterable[tuple[str, str]], credential: Credential
    ) -> str:
        """A token for the identity token that a single sign-on left in the configuration."""
        given = dict(fields)
        form = {
            "grant_type": "refresh_token",
            "client_id": _CLIENT,
            "service": given.get("service", ""),
            "scope": " ".join(value for key, value in fields if key == "scope"),
            "refresh_token": credential.identity_token,
        }
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        request = Body(source=body, size_bytes=len(body))
        with self._send("POST", realm, headers, request) as reply:
            return self._read_token(reply)

    def _read_token(self, reply: Reply) -> str:
        where = reply.url.authority
        if reply.status in {400, 401, 403}:
            raise login_needed(self._registry)
        if reply.status == 429 or reply.status >= 500:
            raise TransientError(f"{where} gives no token: status {reply.status}", status=429)
        if reply.status != 200:
            raise RegistryError(f"{where} gives no token: status {reply.status}")
        raw = reply.document(MAX_TOKEN_ANSWER_BYTES)
        try:
            answer = parse_document(raw, f"the token of {where}")
            token = answer["token"].text_or("") or answer["access_token"].text_or("")
        except ImageError as error:
            raise RegistryError(error.message) from None
        if not _TOKEN.fullmatch(token):
            raise RegistryError(f"{where} gives no token")
        return token


def login_needed(registry: str) -> RegistryError:
    """The error for whoever is not known, or not allowed, at *registry*."""
    return RegistryError(
        f"{registry} does not let us do that",
        remedy=f"check the name, or log in with 'isoscope image login {registry}'",
        status=401,
    )


def _asked(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """The scope that the challenge itself names, where we had none in mind."""
    return (parameters["scope"],) if parameters.get("scope") else ()
