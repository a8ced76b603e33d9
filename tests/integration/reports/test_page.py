"""The pages in a real browser: what they load, how they fit, who can use them."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reports
from benchmarks.results import Results
from benchmarks.summary import Summary, counted
from reports.style import format_ns
from reports.waterfall import waterfalls

Open = Callable[..., Any]
NAMES = ("english", "korean", "comparison")
SORT = "th[data-sort={}] button"


def visible(page: Any, column: str) -> list[str]:
    """The cells of a column in the comparison that is shown, top to bottom."""
    cells = page.locator(f"table.sortable:visible tbody tr:visible {column}")
    return [text.strip() for text in cells.all_inner_texts()]


def overflow(page: Any) -> int:
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(width))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_loads_nothing_complains_of_nothing_and_fits(
    opened: Open, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    with opened(name, width=width, color_scheme=scheme) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert overflow(seen.page) == 0
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 25)"}[scheme]
        assert seen.requests == [pages[name].as_uri()]
        assert seen.complaints == []


@pytest.mark.parametrize(
    ("name", "scheme", "width"),
    [
        ("english", "light", 1440),
        ("english", "dark", 390),
        ("korean", "dark", 1440),
        ("comparison", "light", 390),
    ],
)
def test_nobody_is_shut_out(opened: Open, name: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe is not installed: pip install axe-playwright-python",
    )
    with opened(name, width=width, color_scheme=scheme, bypass_csp=True) as seen:
        seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = (
            axe.Axe().run(seen.page, options={"runOnly": {"type": "tag", "values": tags}}).response
        )
        assert len(found["passes"]) > 20
        grave = [
            (each["id"], [node["target"] for node in each["nodes"]][:5])
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
        ]
        assert grave == []


def test_a_column_is_sorted_by_keyboard_and_says_so(opened: Open) -> None:
    with opened("english") as seen:
        page = seen.page
        planned = visible(page, ".n")
        head = page.locator("table.sortable:visible th[data-sort=ratio]")
        assert head.get_attribute("aria-sort") == "none"
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        rising = ratios(page)
        assert rising == sorted(rising)
        assert len(set(rising)) > 5
        page.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == "descending"
        falling = ratios(page)
        assert falling == sorted(falling, reverse=True)
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "none"
        assert visible(page, ".n") == planned


def ratios(page: Any) -> list[float]:
    """Of the visible rows that have one; rows without stand last."""
    rows = page.locator("table.sortable:visible tbody tr:visible")
    texts = rows.evaluate_all("rows => rows.map(row => row.dataset.ratio)")
    found = [float(text) for text in texts if text]
    assert [bool(text) for text in texts] == [True] * len(found) + [False] * (
        len(texts) - len(found)
    )
    return found


def test_rows_are_filtered_and_counted(opened: Open) -> None:
    with opened("english") as seen:
        page = seen.page
        every = len(visible(page, ".s"))
        page.fill("#find", "boot exit")
        assert set(visible(page, "th code")) == {"boot.exit"}
        page.select_option("#only-subject", "vm[tcg]")
        assert visible(page, ".s") == ["vm[tcg]"]
        assert page.inner_text("#shown") == f"1 / {every}"
        page.select_option("#only-verdict", "better")
        assert visible(page, ".s") == []
        page.click("button[type=reset]")
        page.get_by_text(f"{every} / {every}", exact=True).wait_for()
        assert len(visible(page, ".s")) == every


def test_the_address_keeps_the_state(opened: Open) -> None:
    with opened("english") as seen:
        page = seen.page
        page.check("#base-1", force=True)
        page.locator("table.sortable:visible th[data-sort=value] button").click()
        page.fill("#find", "memory & more=\u00fc")
        page.fill("#find", "memory")
        page.check("#theme-dark", force=True)
        page.click("nav a[href='#validity']")
        page.wait_for_url(re.compile(r"#validity\?"))
        address = page.evaluate("location.hash")
        rows = visible(page, ".s")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(18, 21, 25)"
    with opened("english", address=address) as again:
        page = again.page
        assert page.is_checked("#base-1")
        assert page.input_value("#find") == "memory"
        assert visible(page, ".s") == rows
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        head = page.locator("table.sortable:visible th[data-sort=value]")
        assert head.get_attribute("aria-sort") == "ascending"
        assert page.locator("#validity").evaluate("e => e.getBoundingClientRect().top") < 200
        assert page.evaluate("location.hash") == address
        assert again.complaints == []


@pytest.mark.parametrize(
    "address",
    [
        "#?sort=%3Cimg%20src=x%20onerror=alert(1)%3E&base=nobody&theme=pink&subject=x&verdict=y",
        "#%E0%A4%A?find=%E0%A4%A",
        "#matrix?sort=-__proto__&find=%22%3E%3Cscript%3E",
    ],
)
def test_a_strangers_address_does_no_harm(opened: Open, address: str) -> None:
    with opened("english", address=address) as seen:
        assert seen.complaints == []
        assert seen.page.is_checked("#base-0")
        assert seen.page.is_checked("#theme-auto")
        assert seen.page.locator("img").count() == 0
        assert seen.page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 0


def test_a_single_run_is_shown_on_request_and_the_medians_again(
    opened: Open, pages: dict[str, Path]
) -> None:
    results, summary = pages_results(pages)
    falls = waterfalls(
        [phase for phase in summary.phases if phase.label != "host'"],
        counted(results.samples),
        results.run.plan.backends,
        "boot",
    )
    with opened("english") as seen:
        page = seen.page
        medians = page.locator(".waterfall").all_inner_texts()
        whiskers = page.locator(".waterfall .whisker").count()
        assert whiskers == sum(len(fall.steps) for fall in falls)
        page.select_option("#run", "3")
        assert page.locator(".waterfall .whisker").count() == 0
        for index, fall in enumerate(falls):
            table = page.locator(".waterfall").nth(index)
            times = [at for at in fall.runs[3] if at is not None]
            ends = sorted(times)
            before = dict(zip(ends[1:], ends, strict=False))
            assert table.locator(".at").all_inner_texts() == [
                format_ns(at) if at else "0" for at in times
            ]
            assert [text for text in table.locator(".took").all_inner_texts() if text] == [
                f"+{format_ns(at - before[at])}" for at in times if at
            ]
            widths = table.locator("rect").evaluate_all(
                "bars => bars.map(bar => parseFloat(bar.getAttribute('width')))"
            )
            assert sum(widths) == pytest.approx(100)
        page.select_option("#run", "7")  # the container failed there
        gaps = page.locator(".waterfall").nth(1).locator(".at").all_inner_texts()
        assert set(gaps) == {"\N{EM DASH}"}
        assert page.evaluate("location.hash") == "#?run=7"
        page.select_option("#run", "")
        assert page.locator(".waterfall").all_inner_texts() == medians
        assert page.locator(".waterfall .whisker").count() == whiskers
        assert seen.complaints == []
    with opened("korean", address="#start?run=3") as again:
        assert again.page.input_value("#run") == "3"
        assert again.page.locator(".waterfall .whisker").count() == 0
    with opened("english", address="#start?run=%3Cb%3E") as wrong:
        assert wrong.page.input_value("#run") == ""
        assert wrong.complaints == []


def pages_results(pages: dict[str, Path]) -> tuple[Results, Summary]:
    return reports.summary_of(next((pages["english"].parent / "results").iterdir()))


@pytest.mark.parametrize("name", ["english", "korean"])
def test_every_event_that_a_number_names_is_explained(opened: Open, name: str) -> None:
    with opened(name, java_script_enabled=False) as seen:
        page = seen.page
        assert page.locator("#runs").is_hidden()
        links = page.locator("a.event")
        told = set(links.all_inner_texts())
        assert told == {
            "request", "prepared", "engine", "kernel", "init", "exec", "output", "exit", "gone",
        }  # fmt: skip
        for target in set(links.evaluate_all("links => links.map(l => l.getAttribute('href'))")):
            term = page.locator(f"dt{target}")
            assert term.count() == 1
            assert term.locator("+ dd").inner_text()
        page.locator("#numbers a.event").first.click()
        page.wait_for_url("**#event-request")
        assert page.locator("#event-request").evaluate("e => e.getBoundingClientRect().top") < 900


def test_a_metric_is_named_once_above_its_rows_however_they_are_sorted(opened: Open) -> None:
    named = "table.sortable:visible tbody tr:visible:not(.again)"
    with opened("english") as seen:
        page = seen.page
        planned = page.locator(named).count()
        assert planned == len(set(visible(page, "th code")))
        page.locator(SORT.format("ratio")).first.click()
        assert page.locator(named).count() > planned
        page.locator(SORT.format("ratio")).first.click()
        page.locator(SORT.format("ratio")).first.click()
        assert page.locator(named).count() == planned
        page.select_option("#only-subject", "vm[tcg]")  # not the first row of any metric
        assert page.locator(named).count() == planned


def test_every_baseline_has_a_comparison(opened: Open) -> None:
    with opened("english") as seen:
        heads = []
        for index in range(3):
            seen.page.check(f"#base-{index}", force=True)
            assert seen.page.locator("table.sortable:visible").count() == 1
            heads.append(seen.page.inner_text("table.sortable:visible th[data-sort=ratio]"))
        assert [head.split("\n")[0] for head in heads] == [
            "Ratio to host",
            "Ratio to container",
            "Ratio to vm[tcg]",
        ]


@pytest.mark.parametrize("name", ["english", "korean"])
def test_all_of_it_works_without_the_script(opened: Open, name: str) -> None:
    with opened(name, java_script_enabled=False) as seen:
        page = seen.page
        assert page.locator("table.sortable:visible").count() == 1
        assert page.locator("#filters").is_hidden()
        assert page.locator("table.sortable button").count() == 0
        page.check("#base-2", force=True)
        assert "vm[tcg]" in page.inner_text("table.sortable:visible caption")
        page.locator("details summary").first.click()
        page.check("#theme-dark", force=True)
        assert page.locator("figure svg:visible").count() >= 3
        with page.expect_download() as download:
            page.locator("a[download='run.json']").click()
        assert json.loads(download.value.path().read_text())["run"] == "synthetic-1"
        assert seen.requests[1:] == []


def test_the_samples_can_be_saved(opened: Open) -> None:
    with opened("english") as seen:
        with seen.page.expect_download() as download:
            seen.page.locator("a[download='samples.jsonl.gz']").click()
        lines = gzip.decompress(download.value.path().read_bytes()).splitlines()
        assert len(lines) > 300
        assert json.loads(lines[0])["schema"] == 1
        assert seen.complaints == []


def test_everything_is_reached_by_keyboard(opened: Open) -> None:
    with opened("english") as seen:
        seen.page.keyboard.press("Tab")
        skip = "document.activeElement.classList.contains('skip')"
        assert seen.page.evaluate(skip)
        seen.page.keyboard.press("Enter")
        assert seen.page.evaluate("document.activeElement.id") == "main"
        reached = set()
        for _ in range(120):
            seen.page.keyboard.press("Tab")
            reached.add(seen.page.evaluate("document.activeElement.tagName"))
        assert {"BUTTON", "INPUT", "SELECT", "SUMMARY", "DIV"} <= reached


def test_print_is_light_and_whole(opened: Open) -> None:
    with opened("english", color_scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        scheme = "getComputedStyle(document.documentElement).colorScheme"
        assert seen.page.evaluate(scheme) == "light"
        ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(255, 255, 255)"
        assert seen.page.locator("nav").is_hidden()
        closed = seen.page.locator("#numbers .metric > details:not([open]) figure").first
        assert closed.bounding_box()["height"] > 50
        assert seen.page.pdf(format="A4").startswith(b"%PDF")
