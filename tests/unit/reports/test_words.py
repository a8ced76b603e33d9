"""The catalogue: both languages say the same things, and the code asks for what there is."""

import ast
import re
import string
from pathlib import Path

import pytest

from reports.words import ENGLISH, LANGUAGES, Words, catalogue

REPORTS = Path(__file__).parents[3] / "reports"
HANGUL = re.compile(r"[\uac00-\ud7a3]")
SAME = {"number.none", "head.n", "forest.label", "glossary.tcg.term", "glossary.ecdf.term"}
SIGNS = {"head.scatter", "definition.events"}
"""Texts that are signs or names, equal in both languages."""
COMPOSED = (
    "verdict.", "count.", "effect.", "said.", "metric.", "family.", "definition.", "head.",
    "record.", "check.", "state.", "glossary.", "page.theme_", "figure.", "compare.only_not_",
    "event.",
)  # fmt: skip
"""Families of which some keys are put together from parts in the code."""


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", catalogue())
def test_both_languages_have_the_text_and_its_placeholders(key: str) -> None:
    texts = catalogue()[key]
    assert set(texts) == set(LANGUAGES)
    english, korean = texts["en"], texts["ko"]
    assert placeholders(english) == placeholders(korean)
    assert all(name.isidentifier() for name in placeholders(english))
    assert english.strip()
    assert korean.strip()
    assert not HANGUL.search(english)
    assert (english == korean) == (key in SAME)
    assert key in SAME or key in SIGNS or HANGUL.search(korean) or key.startswith("number.")


def asked() -> set[str]:
    """Every text in the code and the templates that looks like a key."""
    found: set[str] = set()
    for path in REPORTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    for path in REPORTS.rglob("*.j2"):
        found |= set(re.findall(r't\("([a-z_.]+)"', path.read_text()))
    return found


def test_every_key_that_the_code_spells_out_exists() -> None:
    families = {key.partition(".")[0] for key in catalogue()}
    spelled = {
        text
        for text in asked()
        if re.fullmatch(r"[a-z]+(\.[a-z_]+)*\.[a-z_]*[a-z]", text)
        and text.partition(".")[0] in families
    }
    metrics = {"boot.first_output", "memory.pss", "memory.uss", "disk.image", "disk.instance"}
    assert {text for text in spelled - metrics if text not in catalogue()} == set()


def test_no_text_is_left_over() -> None:
    code = asked()
    unused = {key for key in catalogue() if key not in code and not key.startswith(COMPOSED)}
    assert unused == set()


def test_a_values_braces_stay() -> None:
    assert ENGLISH("warning.outcome", outcome="{x!r}") == (
        "This run is not complete (outcome: {x!r})."
    )


def test_the_special_text_comes_before_the_general() -> None:
    words = Words(language="ko")
    assert words.first("verdict.higher_ns", "verdict.higher") == "느림"
    assert words.first("verdict.higher_ops", "verdict.higher") == "높음"
