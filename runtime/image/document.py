"""JSON that others wrote, read strictly: every surprise is an ImageError with blob and field."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runtime.errors import ImageError

MAX_DOCUMENT_BYTES = 4 << 20
"""Manifests, configs and indexes above this are refused (distribution-spec: 4 MiB manifests)."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value in a JSON document, which knows where it stands.

    A field that is absent and one that is null mean the same, as Go's encoder writes either.
    """

    value: Any
    blob: str
    path: str = ""

    def __getitem__(self, key: str) -> "Node":
        """The field *key* of an object; of an absent object, an absent field."""
        shown = key if key.isprintable() else repr(key)  # a stranger may have chosen it
        path = f"{self.path}.{shown}" if self.path else shown
        if self.value is None:
            return Node(None, self.blob, path)
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return Node(self.value.get(key), self.blob, path)

    @property
    def present(self) -> bool:
        """Whether the field is there and not null."""
        return self.value is not None

    def wrong(self, expected: str) -> ImageError:
        """The error that says what should have stood here."""
        return ImageError(f"{self.blob}: {self.path or 'the document'} is not {expected}")

    def text(self) -> str:
        """A string that can be an argument or a file name: no NUL, no lone surrogate."""
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        if "\0" in self.value:
            raise self.wrong("a string without NUL")
        try:
            self.value.encode()
        except UnicodeEncodeError:
            raise self.wrong("valid Unicode") from None
        return self.value

    def text_or(self, default: str) -> str:
        """The string here, or *default* where it is absent."""
        return self.text() if self.present else default

    def size(self) -> int:
        """A number of bytes: a whole number from 0 to 2**63-1."""
        if type(self.value) is not int or not 0 <= self.value < 1 << 63:
            raise self.wrong("a size in bytes")
        return self.value

    def items(self) -> Iterator["Node"]:
        """The members of a list; none of an absent one."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for index, member in enumerate(self.value):
            yield Node(member, self.blob, f"{self.path}[{index}]")

    def texts(self) -> tuple[str, ...]:
        """The members of a list of strings."""
        return tuple(member.text() for member in self.items())

    def mapping(self) -> dict[str, str]:
        """An object whose fields are strings; empty where it is absent."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return {key: self[key].text_or("") for key in self.value}


def parse_document(raw: bytes, blob: str) -> Node:
    """*raw* as a JSON object. Raises ImageError that names *blob*."""
    value = _parse(raw, blob)
    if not isinstance(value, dict):
        raise ImageError(f"{blob}: the document is not an object")
    return Node(value, blob)


def parse_list(raw: bytes, blob: str) -> tuple[Node, ...]:
    """The members of the JSON list *raw*. Raises ImageError that names *blob*."""
    value = _parse(raw, blob)
    if not isinstance(value, list):
        raise ImageError(f"{blob}: the document is not a list")
    return tuple(Node(value, blob).items())


def render_document(value: object) -> bytes:
    """*value* as the one JSON spelling we write: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _parse(raw: bytes, blob: str) -> object:
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise ImageError(f"{blob}: larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        return json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, huge numbers, depth
        raise ImageError(f"{blob}: not JSON ({error})") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose fields are there once: of two, each reader would believe another."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the field {twice[:80]!r} is there twice")
    return fields
