import base64
import csv
import gzip
import hashlib
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.results import Arm, Sample, Skipped, read_run, write_run
from reports import publish, summary_of
from reports.export import as_markdown
from reports.style import format_ratio, format_value

WriteRun = Callable[..., Path]
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """What a browser would find: elements, attributes, tables by caption, data, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self.script = ""
        self.style = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in {"td", "th"}:
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            assert self._caption not in self.tables
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        here = self._open[-1] if self._open else ""
        if here == "script":
            self.script += data
        elif here == "style":
            self.style += data
        elif here == "caption":
            self._caption += data
        elif {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data
        if here not in {"script", "style"}:
            self.text += data


@pytest.fixture
def folder(write_synthetic: WriteRun) -> Path:
    return write_synthetic()


@pytest.fixture
def page(folder: Path) -> Page:
    return Page(publish(folder).read_text())


def values_in(
    folder: Path,
) -> tuple[dict[tuple[str, str, str], dict[int, float]], list[dict[str, object]]]:
    """(workload, metric, label) -> block -> value of the last attempt; from the file alone."""
    rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    last: dict[tuple[object, ...], int] = {}
    for row in rows:
        cell = (row["block"], row["label"], row["workload"])
        last[cell] = max(last.get(cell, 0), row["attempt"])
    values: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        if row["attempt"] == last[row["block"], row["label"], row["workload"]]:
            place = (row["workload"], row["metric"], row["label"])
            values.setdefault(place, {})
            if row["status"] == "ok":
                values[place][row["block"]] = row["value"]
    return values, rows


def test_every_number_of_the_tables_follows_from_the_samples(folder: Path, page: Page) -> None:
    values, rows = values_in(folder)
    record = json.loads((folder / "run.json").read_text())
    checked = 0
    for workload in record["plan"]["workloads"]:
        for metric in workload["metrics"]:
            caption = f"{metric['title']} ({metric['name']}), workload {workload['name']}"
            _, *table = page.tables[caption]
            for arm, cells in zip(record["plan"]["backends"], table, strict=True):
                mine = values[workload["name"], metric["name"], arm["label"]]
                base = values[workload["name"], metric["name"], "host"]
                check_row(cells, arm, metric["unit"], mine, base)
                failures = [
                    row
                    for row in rows
                    if (row["metric"], row["label"]) == (metric["name"], arm["label"])
                    and row["status"] == "failed"
                ]
                assert (f"{len(failures)} failed" in cells[7]) == bool(failures)
                checked += 1
    assert checked == 9 * 4


def check_row(
    cells: list[str],
    arm: dict[str, str],
    unit: str,
    mine: dict[int, float],
    base: dict[int, float],
) -> None:
    assert cells[0] == arm["label"] + (f"[{arm['accelerator']}]" if arm["accelerator"] else "")
    assert cells[1] == format_value(statistics.median(mine.values()), unit)
    ends = (format_value(min(mine.values()), unit), format_value(max(mine.values()), unit))
    assert cells[5] == ("constant" if len(set(mine.values())) == 1 else " to ".join(ends))
    assert cells[6] == str(len(mine))
    if arm["label"] == "host":
        assert cells[2] == "baseline"
    elif 0 in base.values():
        assert cells[2] == f"+{format_value(statistics.median(mine.values()), unit)}"
    else:
        both = sorted(mine.keys() & base.keys())
        ratio = median_ratio(mine, base, both)
        assert cells[2] == format_ratio(ratio)
        check_interval(cells[3], ratio, mine, base, both)


def median_ratio(mine: dict[int, float], base: dict[int, float], blocks: list[int]) -> float:
    top = statistics.median(mine[block] for block in blocks)
    return top / statistics.median(base[block] for block in blocks)


def check_interval(
    cell: str, ratio: float, mine: dict[int, float], base: dict[int, float], blocks: list[int]
) -> None:
    """Against a bootstrap of other draws, hence only nearly."""
    if cell.startswith("exactly"):
        assert cell == f"exactly {format_ratio(ratio)[:-1]}"
        return
    draws = random.Random(3)  # noqa: S311 - reproducible draws
    ratios = [median_ratio(mine, base, draws.choices(blocks, k=len(blocks))) for _ in range(1000)]
    expected = statistics.quantiles(ratios, n=40, method="inclusive")
    low, high = (float(end) for end in cell.split("\N{EN DASH}"))
    width = expected[-1] - expected[0]
    assert low == pytest.approx(expected[0], abs=0.3 * width + 0.005 * ratio)
    assert high == pytest.approx(expected[-1], abs=0.3 * width + 0.005 * ratio)


def saved(page: Page) -> dict[str, bytes]:
    """What a reader gets by following the page's download links."""
    links = [attributes for tag, attributes in page.elements if tag == "a"]
    return {
        str(link["download"]): base64.b64decode(str(link["href"]).partition(";base64,")[2])
        for link in links
        if "download" in link
    }


def test_the_data_inside_the_page_is_that_of_the_files(folder: Path, page: Page) -> None:
    files = saved(page)
    assert gzip.decompress(files["samples.jsonl.gz"]) == (folder / "samples.jsonl").read_bytes()
    assert files["run.json"] == (folder / "run.json").read_bytes()
    rows = list(csv.DictReader(io.StringIO(files["summary.csv"].decode())))
    values, _ = values_in(folder)
    assert len(rows) == 36
    for row in rows:
        mine = values[row["workload"], row["metric"], row["label"]]
        assert float(row["median"]) == statistics.median(mine.values())
    for content in files.values():
        assert hashlib.sha256(content).hexdigest() in page.text


def test_the_page_loads_nothing_and_runs_one_script(folder: Path, page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "image", "iframe", "object", "embed", "base"}
        assert not {"src", "srcset", "action", "data", "background"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        for name in {"href", "xlink:href"} & attributes.keys():
            target = attributes[name] or ""
            assert target.startswith("data:" if "download" in attributes else "#")
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert scripts == [{}]
    assert not re.search(r"url\((?!#)|@import", page.style)
    assert not re.search(r"fetch|import|eval|XMLHttp|WebSocket|innerHTML", page.script)
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (folder / "report.html").read_text())
    assert "http" not in text.replace("http-equiv", "")


def test_the_policy_forbids_the_network(page: Page) -> None:
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policy.startswith(
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';"
    )


def test_the_page_is_accessible_by_structure(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.elements
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    assert tags.count("caption") == tags.count("table") == len(page.tables)
    assert "" not in page.tables
    assert all("scope" in attributes for tag, attributes in page.elements if tag == "th")
    images = [each for tag, each in page.elements if tag == "svg" and "role" in each]
    drawn = [attributes for attributes in images if "aria-labelledby" in attributes]
    assert len(drawn) == 9 * 3 + 1  # of each metric three, and an overview
    assert all(each.get("aria-label") for each in images if each not in drawn)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in drawn:
        assert attributes["role"] == "img"
        assert attributes["aria-labelledby"] in ids
    targets = {
        str(attributes.get(name))[1:]
        for _, attributes in page.elements
        for name in ("href", "xlink:href")
        if name in attributes and "download" not in attributes
    }
    assert targets <= set(ids)


EVIL = (
    "\"'></td></table></script></title></style><x-evil onload=alert(1)>&amp;{{ 7*7 }}$x$\x1b[31m"
)


def test_a_strangers_text_stays_text(write_synthetic: WriteRun) -> None:
    plan = read_run(write_synthetic()).run.plan
    label = EVIL + "host"
    arms = [
        replace(arm, label=label, note=EVIL) if arm.label == "container" else arm
        for arm in plan.backends
    ]
    workloads = [
        replace(
            workload,
            name=workload.name + EVIL,
            metrics=tuple(
                replace(metric, title=EVIL + metric.name, method=EVIL, start=EVIL, stop=EVIL)
                for metric in workload.metrics
            ),
        )
        for workload in plan.workloads
    ]

    def poison(sample: Sample) -> Sample:
        return replace(
            sample,
            label=label if sample.label == "container" else sample.label,
            workload=sample.workload + EVIL,
            instance=EVIL,
            method=EVIL,
            error=sample.error and EVIL,
            facts=sample.facts and {**sample.facts, EVIL: EVIL},
        )

    folder = write_synthetic()
    samples = [poison(sample) for sample in read_run(folder).samples]
    run = replace(
        read_run(folder).run,
        suite=EVIL,
        plan=replace(plan, backends=tuple(arms), workloads=tuple(workloads), order=EVIL),
        images={EVIL: EVIL},
        environment={EVIL: {EVIL: [EVIL]}},
        versions={EVIL: EVIL},
        skipped=(Skipped(backend=EVIL, reason=EVIL, remedy=EVIL),),
        command=(EVIL,),
        cache_state=EVIL,
        started_at=EVIL,
    )
    write_run(folder, run)
    (folder / "samples.jsonl").write_bytes(b"".join(sample.line() for sample in samples))
    page = Page(publish(folder).read_text())
    assert "x-evil" not in {tag for tag, _ in page.elements}
    assert page.text.count(EVIL) > 30
    assert "49" not in page.text.replace(EVIL, "").partition("Verdicts")[0]
    assert json.loads(saved(page)["run.json"])["suite"] == EVIL
    markdown = as_markdown(*summary_of(folder))
    assert not [char for char in markdown if not char.isprintable() and char != "\n"]
    assert not re.search(r"(?<!\\)[<$`]", markdown)
    assert "alert" not in page.script


PUBLISH = """
import sys
from pathlib import Path
import reports
reports.publish(Path(sys.argv[1]))
"""


def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = publish(folder).read_bytes()
    (tmp_path / "matplotlibrc").write_text("axes.linewidth: 7\nlines.linewidth: 9\n")
    for seed in ("1", "2"):
        (folder / "report.html").unlink()
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TZ": "Pacific/Auckland",
            "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        }
        argv = [sys.executable, "-W", "error", "-c", PUBLISH, str(folder)]
        subprocess.run(argv, check=True, env=environment)
        assert (folder / "report.html").read_bytes() == first


def test_nothing_but_the_page_is_left_in_the_folder(folder: Path) -> None:
    assert publish(folder) == folder / "report.html"
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html",
        "run.json",
        "samples.jsonl",
    ]


def test_the_emulated_machine_is_never_a_plain_vm(page: Page) -> None:
    assert "vm[tcg] emulates the guest's processor in software (TCG)" in page.text
    assert "vm[tcg] reaches its first output" in page.text
    assert not re.search(r"\bvm (reaches|ends|takes|is|gives)\b", page.text)
    assert "vm performance" not in page.text.lower()


def test_doubts_are_told(page: Page) -> None:
    skipped = page.tables["Backends that could not run here"]
    assert skipped[1:] == [["podman", "podman is not installed", "apt-get install podman"]]
    troubles = page.tables["Instances and metrics without a value"]
    metrics = "boot.first_output, boot.exit, boot.teardown"
    error = "no output after 60 s; last phase: kernel"
    assert ["vm[tcg]", "boot", "timeout", f"block 4: {metrics}", error] in troubles
    assert ["container", "boot", "failed", f"block 7: {metrics}", "EIO"] in troubles
    unequal = page.tables["Not like with like: these should be the same on every label"]
    assert [row[0] for row in unequal[1:]] == ["cpus", "memory_total_bytes"]
    assert "vm[tcg]: 480 MiB" in unequal[2][1]
    assert page.text.count("Noise floor (host against itself)") == 2


def test_a_run_without_samples_is_a_page_of_gaps(write_synthetic: WriteRun) -> None:
    folder = write_synthetic(outcome="interrupted", ended_at=None)
    (folder / "samples.jsonl").unlink()
    page = Page(publish(folder).read_text())
    assert "This run is not complete (outcome: interrupted)." in page.text
    assert "vm[tcg] gave no value" in page.text
    assert "svg" not in {tag for tag, _ in page.elements}


def test_a_torn_journal_and_few_blocks_are_told(write_synthetic: WriteRun) -> None:
    plan = read_run(write_synthetic()).run.plan
    folder = write_synthetic(plan=replace(plan, blocks=3))
    path = folder / "samples.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    page = Page(publish(folder).read_text())
    assert "cut short" in page.text
    assert "3 blocks were planned; below 6 no interval is claimed." in page.text
    assert "n too small" in page.text
    assert "95 % CI 4" not in page.text


def test_what_is_measured_once_is_said_to_be(write_synthetic: WriteRun) -> None:
    folder = write_synthetic()
    samples = [
        replace(sample, block=0) if sample.workload == "sha256" else sample
        for sample in read_run(folder).samples
        if sample.workload != "sha256" or (sample.block == 1 and sample.label != "host'")
    ]
    (folder / "samples.jsonl").write_bytes(b"".join(sample.line() for sample in samples))
    page = Page(publish(folder).read_text())
    _, host, container, vm = page.tables["Hashing 64 MiB (cpu.sha256), workload sha256"]
    assert (host[2], container[4], vm[4]) == ("baseline", "1 measured once", "1 measured once")
    assert {row[7] for row in (host, container, vm)} == {"\N{EM DASH}"}
    drawn = [each for tag, each in page.elements if tag == "svg" and "aria-labelledby" in each]
    assert len(drawn) == 8 * 3 + 1


def test_noise_that_widens_a_margin_is_told(write_synthetic: WriteRun) -> None:
    page = Page(publish(write_synthetic()).read_text())
    (told,) = re.findall(
        r"This machine was too noisy for the margins[^:]*: ([^.]*\.[^;]*?)\.\n", page.text
    )
    assert "boot.first_output ±18.2 %" in told
    assert "memory.pss" not in told


def test_any_backend_name_gets_a_colour(write_synthetic: WriteRun) -> None:
    folder = write_synthetic()
    results = read_run(folder)
    further = tuple(
        Arm(label=name, backend=name, accelerator=None, note=None)
        for name in ("runc", "crun", "bwrap", "docker", "nspawn", "\u6f22\u5b57")
    )
    plan = replace(results.run.plan, backends=(*results.run.plan.backends, *further))
    write_run(folder, replace(results.run, plan=plan))
    extra = [
        replace(sample, label=arm.label, backend=arm.backend)
        for arm in further
        for sample in results.samples
        if sample.label == "host"
    ]
    samples = b"".join(sample.line() for sample in (*results.samples, *extra))
    (folder / "samples.jsonl").write_bytes(samples)
    page = Page(publish(folder).read_text())
    assert "\u6f22\u5b57 and host are equivalent" in page.text
