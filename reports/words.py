"""What a report says, in each language it speaks: the only reader of ``words.toml``.

Every text of ours is in that file, both languages side by side. What a run's files say (titles,
notes, errors of other programs) is data and stays as it is, except for metrics we know by name.
Who shows more than reports do (the course) adds a file of its own.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "ko")
_FILE = Path(__file__).parent / "words.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language. Called with a key it gives the text, its placeholders filled.

    *further* are catalogues beside our own.
    """

    language: str
    further: tuple[Path, ...] = ()

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of *key*. A value's own braces stay as they are. Raises KeyError."""
        return catalogue(self.further)[key][self.language].format(**values)

    def first(self, *keys: str, **values: object) -> str:
        """The text of the first of *keys* that there is: the special one before the general."""
        return self(next(key for key in keys if self.knows(key)), **values)

    def knows(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in catalogue(self.further)


@cache
def catalogue(further: tuple[Path, ...] = ()) -> Mapping[str, Mapping[str, str]]:
    """Key -> language -> text, from ``words.toml`` and what stands beside it."""
    return {
        key: texts
        for file in (_FILE, *further)
        for key, texts in _leaves(tomllib.loads(file.read_text(encoding="utf-8")))
    }


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    for name, value in table.items():
        if LANGUAGES[0] in value:
            yield f"{prefix}{name}", value
        else:
            yield from _leaves(value, f"{prefix}{name}.")


ENGLISH = Words(language="en")
