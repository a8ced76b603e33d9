"""One notebook, two languages: what a build holds, which drift is noticed, which words exist."""

import ast
import json
import re
import string
from pathlib import Path
from typing import Any

import pytest

from notebooks.course import building, lesson01
from notebooks.course.languages import drifted, hash_of, preferred, spoken
from notebooks.course.wording import CATALOGUE, UnknownLanguage, words_of
from reports.words import LANGUAGES, catalogue

COURSE = Path(lesson01.__file__).parent
HANGUL = re.compile("[\uac00-\ud7a3]")
OURS = {key: texts for key, texts in catalogue((CATALOGUE,)).items() if key not in catalogue()}
SAME = {"origin.cgroups", "check.on"}
SPOKEN = {"`(before, after, nanoseconds)`", "`(앞, 뒤, 나노초)`"}
"""Code in a text that is meant for people, and so is in their language."""
COMPOSED = ("origin.", "claim.", "claims.", "judgement.", "check.", "exercise.", "plan.")
"""Families of which some keys are put together from parts in the code."""


def cells(language: str) -> list[Any]:
    stored = (building.NOTEBOOKS / f"{lesson01.NAME}.ipynb").read_text()
    found: list[Any] = json.loads(spoken(stored, language))["cells"]
    return found


def texts(language: str) -> list[str]:
    return ["".join(c["source"]) for c in cells(language) if c["cell_type"] == "markdown"]


def code(language: str) -> list[str]:
    return ["".join(c["source"]) for c in cells(language) if c["cell_type"] == "code"]


def test_a_build_speaks_its_language_alone() -> None:
    english, korean, both = texts("en"), texts("ko"), texts("both")
    assert not any(HANGUL.search(text) for text in english)
    assert all(HANGUL.search(text) for text in korean)
    assert both == [text for pair in zip(english, korean, strict=True) for text in pair]


def test_the_code_is_the_same_but_for_the_language_it_names() -> None:
    english, korean = code("en"), code("ko")
    differing = [(a, b) for a, b in zip(english, korean, strict=True) if a != b]
    assert differing == [(english[0], english[0].replace('LANGUAGE = "en"', 'LANGUAGE = "ko"'))]
    assert code("both") == english


def test_headings_lists_and_code_match_in_both_languages() -> None:
    for english, korean in zip(texts("en"), texts("ko"), strict=True):
        assert re.findall("(?m)^#+", english) == re.findall("(?m)^#+", korean)
        assert re.findall(r"(?m)^(?:\||\* )", english) == re.findall(r"(?m)^(?:\||\* )", korean)
        assert set(re.findall("`[^`]+`", english)) - SPOKEN == (
            set(re.findall("`[^`]+`", korean)) - SPOKEN
        )


def test_only_a_choice_in_the_tagged_cell_is_changed() -> None:
    line = 'LANGUAGE = "en"'
    stored = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [f"{line}\n"]},
        {"cell_type": "code", "metadata": {}, "source": [line]},
    ]
    chosen = json.loads(spoken(json.dumps({"cells": stored}), "ko"))["cells"]
    assert [cell["source"] for cell in chosen] == [['LANGUAGE = "ko"\n'], [line]]


def text(source: str, **metadata: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": metadata, "source": source}


ENGLISH = text("Two words.", lang="en")
TWIN = text("두 낱말.", lang="ko", src=hash_of("Two words."))
CODE = {"cell_type": "code", "metadata": {}, "source": ""}


def test_pairs_that_say_the_same_have_not_drifted() -> None:
    assert list(drifted([ENGLISH, TWIN, CODE, ENGLISH, TWIN])) == []


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ([text("Three words now.", lang="en"), TWIN], 'give it src="'),
        ([ENGLISH, text("두 낱말.", lang="ko")], f'give it src="{hash_of("Two words.")}"'),
        ([ENGLISH], "'Two words.' has no Korean twin"),
        ([ENGLISH, CODE, ENGLISH, TWIN], "has no Korean twin"),
        ([ENGLISH, TWIN, TWIN], "follows no English cell"),
        ([TWIN], "follows no English cell"),
        ([text("Who?")], "has no language"),
    ],
)
def test_drift_is_told(stored: list[dict[str, Any]], told: str) -> None:
    (sentence,) = drifted(stored)
    assert told in sentence


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LC_MESSAGES": "ko_KR", "LANG": "de_DE"}, "ko"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, "en"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses(environment: dict[str, str], language: str) -> None:
    assert preferred(environment) == language


def test_a_language_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(UnknownLanguage, match="choose from en, ko"):
        lesson01.begin("tlh")


def placeholders(said: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(said) if name is not None}


@pytest.mark.parametrize("key", OURS)
def test_both_languages_have_the_text_and_its_placeholders(key: str) -> None:
    said = OURS[key]
    assert set(said) == set(LANGUAGES)
    assert placeholders(said["en"]) == placeholders(said["ko"])
    assert not HANGUL.search(said["en"])
    assert HANGUL.search(said["ko"]) or key in SAME


def asked() -> set[str]:
    return {
        node.value
        for path in COURSE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_key_that_is_asked_for_exists_and_none_is_left_over() -> None:
    known, spelled = words_of("en"), asked()
    families = {key.partition(".")[0] for key in OURS}
    keys = {
        each
        for each in spelled
        if re.fullmatch(r"[a-z]+\.[a-z_.0-9]*[a-z]", each) and each.partition(".")[0] in families
    }
    assert {key for key in keys if not known.knows(key)} == set()
    left = {key for key in OURS if key not in spelled and not key.startswith(COMPOSED)}
    assert left <= {key for key in OURS if key.rpartition(".")[2] in spelled | _PARTS}


_PARTS = {"alone", "one_of_two", "live", "recorded", "high", "low", "close"}
"""Last parts of keys that stand in the code inside a longer text."""
