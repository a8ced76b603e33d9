"""Names of images, after the grammar of the distribution project's reference package.

The form is ``[registry[:port]/]path[/path...][:tag][@sha256:hex]``.
"""

import re
from dataclasses import dataclass

from runtime.errors import ImageError

MAX_NAME_CHARACTERS = 255

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io"})
_HEX_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed name. It has a tag or a digest or both; ``str`` gives its one spelling."""

    registry: str | None = None
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return self.repository if self.registry is None else f"{self.registry}/{self.repository}"

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.name}{tag}{digest}"


def is_digest(text: str) -> bool:
    """Whether *text* is a whole digest of the one algorithm in use: ``sha256:`` and 64 hex."""
    return _DIGEST.fullmatch(text) is not None


def parse_reference(text: str) -> Reference:
    """*text* as a reference; without tag and digest it means the tag ``latest``.

    Raises ImageError that says which part is wrong.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _wrong(
            text, f"the digest {_shown(digest)} is not sha256: and 64 lower-case hex digits"
        )
    name, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _wrong(
            text, f"the tag {_shown(tag)} is not 1 to 128 letters, digits, '_', '.' and '-'"
        )
    registry, repository = _familiar(*_split_registry(name))
    _check_name(text, registry, repository)
    if tag is None and not at:
        tag = "latest"
    return Reference(registry=registry, repository=repository, tag=tag, digest=digest or None)


def _split_tag(rest: str) -> tuple[str, str | None]:
    """A colon after the last slash starts the tag; one before it belongs to a port."""
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        return rest, None
    return name, tag


def _split_registry(name: str) -> tuple[str | None, str]:
    """The first part is a registry if it can be no path: a dot, a port, capitals, localhost."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or set(".:[") & set(first) or first.lower() != first):
        return first, rest
    return None, name


def _familiar(registry: str | None, repository: str) -> tuple[str | None, str]:
    """What everybody types in short has one spelling: the short one."""
    if registry not in _DOCKER_HUB:
        return registry, repository
    official = repository.removeprefix("library/")
    return None, repository if "/" in official else official


def _check_name(text: str, registry: str | None, repository: str) -> None:
    if registry is not None and not _REGISTRY.fullmatch(registry):
        raise _wrong(text, f"{_shown(registry)} is no registry host")
    for part in repository.split("/"):
        if not _PATH.fullmatch(part):
            raise _wrong(
                text,
                f"the name part {_shown(part)} is not lower-case letters and digits joined by"
                " '.', '_', '__' or '-'",
            )
    if registry is None and (repository == "sha256" or _HEX_ID.fullmatch(repository)):
        raise _wrong(text, "such a name would be taken for a digest")
    if len(repository) + len(registry or "") > MAX_NAME_CHARACTERS:
        raise _wrong(text, f"the name is longer than {MAX_NAME_CHARACTERS} characters")


def _wrong(text: str, why: str) -> ImageError:
    return ImageError(
        f"{_shown(text)} is no image reference: {why}",
        remedy="write [registry/]name[:tag][@digest]",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
