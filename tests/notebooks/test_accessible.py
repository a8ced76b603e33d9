"""Everything that the cells show, in a real browser: both languages, light and dark ground."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notebooks.course import lesson01
from notebooks.course.evidence import Evidence

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright",
    reason="axe is not installed: pip install axe-playwright-python",
)

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
GROUNDS = {"light": ("#ffffff", "#1f1f1f"), "dark": ("#111111", "#ffffff")}
"""JupyterLab's own, with the colour of its text."""
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa"]}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield launched
        finally:
            launched.close()


@pytest.mark.parametrize(("language", "ground"), [("en", "light"), ("ko", "dark")])
def test_what_is_shown_can_be_read_by_everybody(
    browser: Any, evidence: Evidence, tmp_path: Path, language: str, ground: str
) -> None:
    lesson = lesson01.begin(language)
    show, guess = lesson.show, lesson.predict(vm_start_ms=60_000, vm_given_128_mib=128)
    shown: list[Any] = [
        show.provenance(evidence), show.waterfall(evidence), show.identity(evidence),
        show.memory(evidence), show.pairs(evidence), show.given(guess, evidence),
        show.plan(evidence), show.compare(guess, evidence), show.claims(evidence),
        lesson.check_price(lesson01.price, evidence), evidence.image.image,
    ]  # fmt: skip
    behind, text = GROUNDS[ground]
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><html lang="{language}"><meta charset="utf-8"><title>lesson</title>'
        f'<body style="background:{behind};color:{text}"><main><h1>lesson</h1>'
        + "".join(each._repr_html_() for each in shown)
    )
    opened = browser.new_page(viewport={"width": 1000, "height": 900}, offline=True)
    try:
        opened.goto(page.as_uri())
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        wrong = axe.Axe().run(opened, options=RULES).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in wrong] == []
        outside = opened.evaluate(_OUTSIDE)
        assert outside == []
    finally:
        opened.close()


_OUTSIDE = """() => [...document.querySelectorAll("svg text")].filter(text => {
    const own = text.getBoundingClientRect();
    const picture = text.ownerSVGElement.getBoundingClientRect();
    return own.left < picture.left - 1 || own.right > picture.right + 1;
}).map(text => text.textContent)"""
"""Labels that a picture cuts off."""
