"""The languages of the course: what its cells say, from its own catalogue and the reports'."""

from pathlib import Path

from benchmarks.errors import BenchmarkError
from reports.words import LANGUAGES, Words

CATALOGUE = Path(__file__).parent / "words.toml"


class UnknownLanguage(BenchmarkError):  # noqa: N818 - named by what is the case
    """A lesson was asked to speak a language that it does not speak."""


def words_of(language: str) -> Words:
    """The course's words in *language*. Raises UnknownLanguage."""
    if language not in LANGUAGES:
        raise UnknownLanguage(
            f"unknown language {language!r}", remedy=f"choose from {', '.join(LANGUAGES)}"
        )
    return Words(language=language, further=(CATALOGUE,))


ENGLISH = words_of("en")
