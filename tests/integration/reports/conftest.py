"""A real browser, where there is one: Debian's Chromium, driven without a download."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unit.reports.synthetic import write_synthetic_run

import reports
from reports.compare import compare
from reports.html import render_comparison
from reports.words import Words

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A page in a browser, and what happened while it was open."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Any]


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


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The made-up run's pages, English and Korean, and a comparison of it with itself."""
    folder = tmp_path_factory.mktemp("pages")
    run = write_synthetic_run(folder / "results")
    results = reports.summary_of(run)
    written = {
        "english": reports.publish(run, out=folder / "english.html"),
        "korean": reports.publish(run, out=folder / "korean.html", words=Words(language="ko")),
        "comparison": folder / "comparison.html",
    }
    text = render_comparison(compare(results, results, resamples=200))
    written["comparison"].write_text(text)
    return written


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Open:
    """Opens a page by name in a fresh profile; ``address`` is what follows the file's name."""
    return partial(_opened, browser, pages)


@contextmanager
def _opened(
    browser: Any,
    pages: dict[str, Path],
    name: str,
    *,
    address: str = "",
    width: int = 1440,
    **profile: Any,
) -> Iterator[Opened]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        reduced_motion="reduce",
        offline=True,
        **profile,
    )
    try:
        page = context.new_page()
        seen = Opened(page=page)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.goto(f"{pages[name].as_uri()}{address}")
        yield seen
    finally:
        context.close()
