"""What a registry offers, how much of it a client gets, and what its connections share."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.image.registry.catalog import Catalog
from runtime.image.registry.passwords import Passwords
from runtime.image.registry.uploads import Uploads
from runtime.image.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of us a client gets.

    ``head_s`` is the time for the head of a request, ``idle_s`` that between two requests,
    ``silence_s`` that for each chunk of 256 KiB, in either direction.
    """

    connections: int = 64
    head_s: float = 15.0
    idle_s: float = 60.0
    silence_s: float = 30.0
    blob_bytes: int = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What is offered, and to whom.

    *passwords* None means everybody. *in_use* names what stands on an image, which then cannot
    be deleted. *log* is told each request, as a line.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    read_only: bool = False
    deletion: bool = False
    tls: ssl.SSLContext | None = None
    passwords: Passwords | None = None
    bounds: Bounds = field(default_factory=Bounds)
    in_use: Callable[[str], tuple[str, ...]] = lambda _: ()
    log: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Shelf:
    """What all connections share."""

    catalog: Catalog
    uploads: Uploads

    @property
    def store(self) -> Store:
        """The store behind the catalog."""
        return self.catalog.store
