"""Proxies, as the environment names them: ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY``.

In small letters they count first. This machine itself is never reached through one, as everywhere;
plain http is asked of the proxy by whole address, https goes through a tunnel (RFC 9110, CONNECT).
Everything here is pure.
"""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from runtime.image.registry.errors import RegistryError
from runtime.image.registry.url import Url, is_loopback, parse_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where it listens, and the header value that lets us in, if it wants one."""

    url: Url
    authorization: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What each request that is made of the proxy itself carries."""
        return {} if self.authorization is None else {"Proxy-Authorization": self.authorization}


def proxy_for(url: Url, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy through which *url* is reached, or None. Raises RegistryError for a wrong one."""
    name = f"{url.scheme}_proxy"
    text = _variable(environment, name) or _variable(environment, "all_proxy")
    if not text or is_loopback(url.host) or _is_exempt(url, _variable(environment, "no_proxy")):
        return None
    return _parsed(text if "://" in text else f"http://{text}", name)


def _parsed(text: str, name: str) -> Proxy:
    try:
        parts = urlsplit(text)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        url = parse_url(bare)
    except (ValueError, RegistryError):
        raise RegistryError(
            f"{name.upper()} is no address of a proxy", remedy="write http://HOST:PORT"
        ) from None
    if url.scheme != "http":
        raise RegistryError(
            f"{name.upper()} names a proxy that is itself spoken to over TLS, which is not"
            " supported",
            remedy="write http://HOST:PORT; what goes through it to https is secret all the same",
        )
    if parts.username is None:
        return Proxy(url=url)
    who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(url=url, authorization=f"Basic {base64.b64encode(who.encode()).decode()}")


def _variable(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _is_exempt(url: Url, rules: str) -> bool:
    return any(_matches(url, rule.strip().lower()) for rule in rules.split(",") if rule.strip())


def _matches(url: Url, rule: str) -> bool:
    """``*``, a domain with all below it, an address or a network; each with a port or not."""
    if rule == "*":
        return True
    host, colon, port = rule.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        if int(port) != url.port:
            return False
        rule = host
    rule = rule.strip("[]")
    try:
        return ipaddress.ip_address(url.host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:  # one of them is a name
        domain = rule.removeprefix("*").removeprefix(".")
        host = url.host.lower()
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
