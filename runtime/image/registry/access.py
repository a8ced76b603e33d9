"""How registries are reached by one command: settings, credentials, trust, patience."""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.image.registry.credentials import Credentials, Known
from runtime.image.registry.endpoint import Endpoint
from runtime.image.registry.patience import Patience
from runtime.image.registry.places import Place, Settings
from runtime.image.registry.repository import Repository
from runtime.image.registry.trust import Trust
from runtime.image.registry.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What users choose. *authorities* is a file of certificates that are trusted as well."""

    settings: Settings = field(default_factory=Settings)
    credentials: Known = field(default_factory=Credentials)
    authorities: Path | None = None
    patience: Patience = field(default_factory=Patience)


class Session:
    """Connections and logins that one piece of work shares; leaving the block ends them."""

    def __init__(self, access: Access) -> None:
        self.wire = Wire(Trust(access.authorities), access.patience)
        self._access = access
        self._endpoints: dict[str, Endpoint] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wire.close()

    def endpoint(self, place: Place) -> Endpoint:
        """The registry of *place*; the same one for all of its repositories."""
        if place.registry not in self._endpoints:
            made = Endpoint(self.wire, place, self._access.credentials)
            self._endpoints[place.registry] = made
        return self._endpoints[place.registry]

    def repository(self, place: Place) -> Repository:
        """The repository at *place*."""
        return Repository(self.endpoint(place), place)
