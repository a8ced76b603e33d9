"""Addresses on the web, as far as registries need them. Everything here is pure."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from runtime.image.registry.errors import RegistryError

MAX_URL_CHARACTERS = 16 << 10  # signed addresses of blob stores are a few thousand long

_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """``scheme://host:port`` and ``target``: path and query. *host* has no brackets."""

    scheme: str
    host: str
    port: int
    target: str = "/"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be equal for two addresses to be the same party."""
        return self.scheme, self.host.lower(), self.port

    @property
    def authority(self) -> str:
        """Host and port as a ``Host`` header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def joined(self, location: str) -> "Url":
        """Where a ``Location`` or ``Link`` in this address' answer leads. Raises RegistryError."""
        return parse_url(urljoin(str(self), location[: MAX_URL_CHARACTERS + 1]))

    def with_query(self, query: str) -> "Url":
        """The same address with *query* added to what it asks already."""
        separator = "&" if "?" in self.target else "?"
        return Url(
            scheme=self.scheme,
            host=self.host,
            port=self.port,
            target=f"{self.target}{separator}{query}",
        )


def parse_url(text: str) -> Url:
    """*text* as an absolute http or https address. Raises RegistryError."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise _wrong(text) from None
    host = parts.hostname or ""
    if (
        len(text) > MAX_URL_CHARACTERS
        or not _PRINTABLE.fullmatch(text)
        or parts.scheme not in _PORTS
        or parts.username is not None
        or not _HOST.fullmatch(host)
    ):
        raise _wrong(text)
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    return Url(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], target=target)


def is_loopback(host: str) -> bool:
    """Whether *host* can be nobody but this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(text: str) -> RegistryError:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return RegistryError(f"{shown!r} is no address of a registry")
