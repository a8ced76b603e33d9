"""One notebook in two languages: which cells belong to whom (standard library only).

A lesson's text stands in adjacent pairs, ``lang="en"`` and then ``lang="ko"``. The Korean cell
stores, as ``src``, a hash of the English text that it was written for, so that nobody changes one
without looking at the other. Code stands there once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LANGUAGES = ("en", "ko")
BOTH = "both"
_CHOICE = 'LANGUAGE = "en"'
"""What the cell tagged ``parameters`` says; a notebook of one language says that language."""


def spoken(notebook: str, language: str) -> str:
    """The notebook (nbformat's JSON) *notebook* in *language* alone, or in both."""
    if language == BOTH:
        return notebook
    document = json.loads(notebook)
    document["cells"] = [
        _choosing(cell, language)
        for cell in document["cells"]
        if cell["metadata"].get("lang", language) == language
    ]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def preferred(environment: Mapping[str, str]) -> str:
    """The language that the locale in *environment* asks for; English if it is none of ours."""
    names = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, names), "")
    return next((each for each in LANGUAGES if locale.startswith(each)), LANGUAGES[0])


def hash_of(source: str) -> str:
    """What a Korean cell stores of its English twin: 8 hex digits."""
    return hashlib.sha256(source.strip().encode()).hexdigest()[:8]


def drifted(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for every text of *cells* that lacks its twin, or whose twin has drifted."""
    texts = [cell for cell in cells if cell["cell_type"] == "markdown"]
    for before, cell, after in zip([None, *texts], texts, [*texts[1:], None], strict=False):
        match _language(cell):
            case "en" if _language(after) != "ko":
                yield f"{_begin(cell)} has no Korean twin after it"
            case "ko" if before is None or _language(before) != "en":
                yield f"{_begin(cell)} follows no English cell"
            case "ko" if before is not None and cell["metadata"].get("src") != (
                wanted := hash_of(before["source"])
            ):
                yield (
                    f"{_begin(cell)} was written for another English text;"
                    f' when it says the same again, give it src="{wanted}"'
                )
            case "en" | "ko":
                pass
            case _:
                yield f'{_begin(cell)} has no language; give it lang="en" or lang="ko"'


def _language(cell: Mapping[str, Any] | None) -> str | None:
    return None if cell is None else cell["metadata"].get("lang")


def _choosing(cell: dict[str, Any], language: str) -> dict[str, Any]:
    if "parameters" not in cell["metadata"].get("tags", ()):
        return cell
    chosen = _CHOICE.replace(LANGUAGES[0], language)
    return cell | {"source": [line.replace(_CHOICE, chosen) for line in cell["source"]]}


def _begin(cell: Mapping[str, Any]) -> str:
    return repr(cell["source"].strip().partition("\n")[0][:40])
