"""Where a name leads: which registry, which mirrors before it. The user's settings are read here.

``registries.toml`` in the state directory, all of it optional::

    [mirrors]
    "docker.io" = ["https://mirror.example", "127.0.0.1:5001/cache"]

Mirrors are asked first, in this order, and only when pulling; what they give is verified as
everything is. A name without a registry means ``docker.io``, as people type it.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import ImageError
from runtime.image.home import state_dir
from runtime.image.reference import Reference
from runtime.image.registry.errors import RegistryError
from runtime.image.registry.url import Url, is_loopback, parse_url

DOCKER_HUB = "docker.io"

_HUB_SERVER = "registry-1.docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository at a registry.

    *registry* is what users call it, the key of their credentials; *bases* are the addresses to
    try for it, the first that answers is used; *prefix* stands before every repository there.
    """

    registry: str
    repository: str
    bases: tuple[Url, ...]
    prefix: str = ""

    @property
    def path(self) -> str:
        """The repository as it stands in an address."""
        return f"{self.prefix}{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user configured and said: mirrors by registry, and whether TLS may be missing."""

    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plain_http: bool = False

    def place(self, reference: Reference) -> Place:
        """Where *reference* is at home. Raises RegistryError."""
        registry = reference.registry or DOCKER_HUB
        repository = reference.repository
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return Place(registry=registry, repository=repository, bases=self.bases(registry))

    def pull_places(self, reference: Reference) -> tuple[Place, ...]:
        """Where *reference* can be had: the mirrors of its registry, then itself."""
        home = self.place(reference)
        return (*(self._mirror(entry, home) for entry in self._mirrors(home)), home)

    def bases(self, registry: str) -> tuple[Url, ...]:
        """The addresses to try for *registry*, which may begin with a scheme.

        Plain HTTP is tried where the user allows it and on this machine's loopback, where nobody
        else can listen; TLS is tried there too.
        """
        scheme, separator, host = registry.rpartition("://")
        host = _HUB_SERVER if host == DOCKER_HUB else host
        if separator:
            return (parse_url(f"{scheme}://{host}/"),)
        secure, plain = parse_url(f"https://{host}/"), parse_url(f"http://{host}/")
        if self.plain_http:
            return (plain,)
        return (plain, secure) if is_loopback(secure.host) else (secure,)

    def _mirrors(self, home: Place) -> Sequence[str]:
        return self.mirrors.get(home.registry, ())

    def _mirror(self, entry: str, home: Place) -> Place:
        scheme, separator, rest = entry.rpartition("://")
        host, _, prefix = rest.strip("/").partition("/")
        return Place(
            registry=host,
            repository=home.repository,
            bases=self.bases(f"{scheme}{separator}{host}"),
            prefix=f"{prefix}/" if prefix else "",
        )


def read_settings(*, plain_http: bool = False, path: Path | None = None) -> Settings:
    """The user's ``registries.toml`` and what was said besides. Raises RegistryError."""
    path = path or state_dir() / "registries.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RegistryError(f"cannot read {path}: {why}") from error
    mirrors = document.get("mirrors", {})
    if not isinstance(mirrors, dict) or not all(_is_list_of_text(v) for v in mirrors.values()):
        raise RegistryError(
            f"{path}: 'mirrors' does not map registries to lists of addresses",
            remedy="""write "docker.io" = ["https://mirror.example"] below [mirrors]""",
        )
    return Settings(mirrors=mirrors, plain_http=plain_http)


def parse_registry(text: str) -> str:
    """The registry that a user names for ``login``: a host, its port, no repository."""
    host = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    if host in {"index.docker.io", "index.docker.io/v1", _HUB_SERVER}:
        return DOCKER_HUB
    try:
        parse_url(f"https://{host}/")
    except ImageError:
        host = ""
    if not host or "/" in host:
        raise RegistryError(f"{text!r} is no registry", remedy="write HOST or HOST:PORT")
    return host


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
