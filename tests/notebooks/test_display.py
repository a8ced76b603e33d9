"""What our objects look like in a notebook: useful, and no stranger's text is ever markup."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from unit.reports.synthetic import write_synthetic_run

from benchmarks import results, summary
from benchmarks.backend import ExecResult, Reading, Usage
from benchmarks.doctor.climb import Climb
from benchmarks.doctor.rung import Rung
from benchmarks.launcher import RemoteBackend, RemoteInstance
from runtime.container.container import Completed, Options, container, explain
from runtime.image import Image
from runtime.image.markup import MOST_CHARACTERS, ended, facts, table
from vmbackend.command import Completed as VmCompleted
from vmbackend.machine import Machine

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m&'\"</td>"
SHOWN = (
    "&lt;script&gt;alert(1)&lt;/script&gt;\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"
)
PHASES = {"exit": 9_000_000, HOSTILE: 2_500_000, "request": 0}


@dataclass(slots=True)
class Elements:
    """What a browser would make of some markup."""

    tags: list[str]
    texts: list[str]


def parsed(markup: str) -> Elements:
    """Raises AssertionError for markup with elements, attributes or nesting that is not ours."""
    found, opened = Elements([], []), list[str]()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert {name for name, _ in attrs} <= {"style", "scope", "tabindex"}
            found.tags.append(tag)
            opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

        def handle_data(self, data: str) -> None:
            found.texts.append(data)

    Reader().feed(markup)
    assert not opened
    assert set(found.tags) <= {
        "table", "caption", "thead", "tbody", "tr", "th", "td", "b", "pre",
    }  # fmt: skip
    assert "color" not in markup  # light and dark ground are the notebook's own
    return found


def html_of(value: object) -> str:
    said = cast("Any", value)._repr_html_()
    assert isinstance(said, str)
    parsed(said)
    return said


@pytest.mark.parametrize("kind", [Completed, ExecResult, VmCompleted])
def test_how_a_command_ended(kind: Any) -> None:
    noisy = kind(exit_status=7, stdout=HOSTILE.encode(), stderr=b"\xff\x00", phases=PHASES)
    shown = html_of(noisy)
    assert shown.count(SHOWN) == 2
    assert ">7<" in shown
    assert shown.index("request 0.000 ms") < shown.index(" 2.500 ms") < shown.index("exit 9.000")
    assert "stderr" not in html_of(replace(noisy, stderr=b""))


def test_long_output_is_cut_and_says_so() -> None:
    shown = ended(exit_status=0, stdout=b"a" * 5_000_000, stderr=b"", phases={})
    assert len(shown) < 2 * MOST_CHARACTERS
    assert f"… and {5_000_000 - MOST_CHARACTERS} bytes more" in shown
    assert "characters more" in facts({"name": "b" * 5_000_000})


def test_names_captions_and_cells_are_texts() -> None:
    shown = table((HOSTILE,), [(HOSTILE, HOSTILE)], caption=HOSTILE)
    assert shown.count(SHOWN) == 4
    assert parsed(shown).tags.count("tr") == 2


def test_an_image(busybox: Image) -> None:
    config = replace(busybox.config, cmd=("sh", HOSTILE))
    shown = html_of(replace(busybox, config=config, references=(HOSTILE,)))
    assert busybox.digest in shown
    assert shown.count(SHOWN) == 2


def test_a_plan_is_a_table_of_steps_with_their_reasons(busybox: Image) -> None:
    plan = explain(busybox, ("sh", "-c", HOSTILE), Options())
    shown = html_of(plan)
    assert "&lt;script&gt;" in shown
    found = parsed(shown)
    steps = len(plan.host) + len(plan.inside) + len(plan.undo)
    assert found.tags.count("tr") == steps + found.tags.count("table")
    assert {step.reason for step in plan.inside} <= set(found.texts)
    assert 'pivot_root(".", ".")' in found.texts


def test_an_amount_says_how_it_was_read() -> None:
    reading = Reading(value_bytes=4096, method=HOSTILE)
    shown = html_of(Usage(readings={"pss": reading}, absent={"cgroup": HOSTILE}))
    assert shown.count(SHOWN) == 2
    assert "4,096 bytes" in shown


def test_an_instance() -> None:
    backend = cast("RemoteBackend", SimpleNamespace(name=HOSTILE))
    assert html_of(RemoteInstance(backend, PHASES)).count(SHOWN) == 2


def test_a_machine() -> None:
    parts = SimpleNamespace(kernel=SimpleNamespace(release=HOSTILE))
    link = SimpleNamespace(marks_ns={"init": 3_000_000})
    engine = SimpleNamespace(
        accelerator=SimpleNamespace(name="tcg"), marks_ns={"request": 1_000_000}, link=link
    )
    spec = SimpleNamespace(argv=("sh", HOSTILE))
    shown = html_of(
        Machine(spec=cast("Any", spec), parts=cast("Any", parts), engine=cast("Any", engine))
    )
    assert shown.count(SHOWN) == 2
    assert "init 2.000 ms" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")
def test_a_container_is_a_process_while_it_runs_and_after(busybox: Image) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        with container(busybox, ("sleep", "1000"), Options(), stdio=(null, null, null)) as running:
            shown = html_of(running)
            assert f">{running.pid}<" in shown
            assert ">running<" in shown
            assert "sleep 1000" in shown
    finally:
        os.close(null)
    assert "ended with status 137" in html_of(running)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> results.Results:
    return results.read_run(write_synthetic_run(tmp_path_factory.mktemp("run")))


def test_results_and_their_summary(run: results.Results) -> None:
    skipped = results.Skipped(backend="docker", reason=HOSTILE, remedy="")
    shown = html_of(replace(run, run=replace(run.run, skipped=(skipped,)), torn=HOSTILE))
    assert shown.count(SHOWN) == 2
    assert run.run.run in shown
    told = html_of(found := summary.summarise(run, seed=1, resamples=200))
    assert parsed(told).tags.count("tr") == 1 + len(found.rows)
    row = found.rows[0]
    assert html_of(replace(found, rows=(replace(row, workload=HOSTILE),))).count(SHOWN) == 1


def test_a_summary_without_a_value_has_a_gap(run: results.Results) -> None:
    found = summary.summarise(run, seed=1, resamples=200)
    empty = replace(found.rows[0], spread=None, comparison=None)
    assert parsed(html_of(replace(found, rows=(empty,)))).texts.count("\N{EM DASH}") == 4


def test_a_ladder_shows_what_failed_and_the_remedy() -> None:
    rungs = (
        Rung(part="host", name="host", ok=True, found="it works"),
        Rung(part="vm", name="vm", ok=False, found=HOSTILE, remedy=HOSTILE, costs=("vm",)),
        Rung(part="peers", name="runc", ok=None, found="not installed"),
    )
    shown = html_of(Climb(rungs=rungs))
    assert shown.count(SHOWN) == 2
    assert "Runs here: host; not container, vm." in shown
    assert all(mark in shown for mark in ("✓ yes", "✗ no", "· not tried"))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "from notebooks.course import lesson01; lesson01.begin().predict(kernels='ten')",
            "isoscope: kernels is 'ten', which is no positive number; write a number, or None",
        ),
        (
            "from runtime.image import parse_reference; parse_reference('A B')",
            "isoscope: ",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(
    code: str, sentence: str, tmp_path: Path
) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "IPython", "--quick", "--colors=nocolor", "-c", code],
        cwd=ROOT, check=False, capture_output=True, text=True,
        env=os.environ | {"IPYTHONDIR": str(tmp_path)},
    )  # fmt: skip
    (line,) = filter(None, (said.stdout + said.stderr).splitlines())
    assert line.startswith(sentence)


def test_nothing_of_it_is_imported_before_it_is_shown() -> None:
    code = (
        "import json, sys, runtime.container.container, vmbackend.machine, benchmarks.summary\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = json.loads(said.stdout)
    assert not [name for name in loaded if re.match(r"html|IPython|matplotlib|.*\.markup$", name)]
