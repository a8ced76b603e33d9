"""One offline page: verdicts first, then numbers, figures, doubts, provenance and the raw data.

The page loads nothing and runs nothing (its policy forbids both), and the same results give the
same bytes. Everything from the run's files is a stranger's text: the template escapes it.
"""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.results import RUN_FILE, SAMPLES_FILE, Results, Sample
from benchmarks.stats import Verdict
from benchmarks.strict_json import as_json
from benchmarks.summary import Summary, counted
from reports import figures, view
from reports.style import VERDICT_MARKS, colours, subject
from reports.verdicts import Statement, accelerator_notes, statements

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def render(results: Results, summary: Summary) -> str:
    """The whole page."""
    run = results.run
    said = statements(summary)
    colour = colours(run.plan.backends)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            summary=summary,
            results=results,
            headlines=_grouped(said, headline=True),
            others=_grouped(said, headline=False),
            marks=VERDICT_MARKS,
            notes=accelerator_notes(run),
            warnings=view.warnings(results, summary),
            colours={
                name: colour[arm.label]
                for arm in run.plan.backends
                for name in (arm.backend, subject(arm))
            },
            metrics=_with_figures(results, summary),
            waterfalls=_waterfalls(results, summary),
            floor_sentence=view.floor_sentence(summary.floors),
            floors=view.floor_table(summary.floors),
            inequalities=view.inequality_table(results, summary),
            identities=view.identity_table(results, summary),
            troubles=view.trouble_table(results),
            skipped=view.skipped_table(run),
            preparations=view.preparation_table(run),
            arms=view.arm_table(run),
            machine=view.environment_table(run),
            provenance=view.provenance_table(run),
            command=shlex.join(run.command),
            record=_embedded(results),
            files=(RUN_FILE, SAMPLES_FILE),
        )
    )


def _grouped(said: tuple[Statement, ...], *, headline: bool) -> list[tuple[str, list[Statement]]]:
    groups: dict[str, list[Statement]] = {}
    for statement in said:
        if statement.is_headline == headline:
            groups.setdefault(statement.title, []).append(statement)
    return list(groups.items())


def _with_figures(results: Results, summary: Summary) -> list[tuple[view.MetricTable, str | None]]:
    used: list[Sample] = counted(results.samples)
    arms = results.run.plan.backends
    drawn = []
    for index, table in enumerate(view.metric_tables(summary)):
        svg = None
        if Verdict.ONCE not in table.verdicts:  # a dot alone shows no spread
            name = f"dots{index}"
            svg = figures.dots(used, table.metric, table.workload, arms, name=name)
        drawn.append((table, svg))
    return drawn


def _waterfalls(results: Results, summary: Summary) -> list[tuple[str, str, view.Table]]:
    """For each workload that measures starting; if none does, for the first."""
    controls = {floor.control for floor in summary.floors}
    plan = results.run.plan
    arms = [arm for arm in plan.backends if arm.label not in controls]
    seen = {phase.workload for phase in summary.phases}
    workloads = [workload for workload in plan.workloads if workload.name in seen]
    booting = [
        workload
        for workload in workloads
        if any(metric.name.startswith("boot.") for metric in workload.metrics)
    ]
    drawn = []
    for index, workload in enumerate(booting or workloads[:1]):
        svg = figures.waterfall(summary.phases, arms, workload.name, name=f"waterfall{index}")
        if svg is not None:
            table = view.phase_table(summary, results, workload.name)
            drawn.append((workload.name, svg, table))
    return drawn


def _embedded(results: Results) -> str:
    """The run's record and samples as JSON that cannot end the element it stands in."""
    text = as_json({"run": results.run, "samples": results.samples}).decode()
    return re.sub("[<>&\u2028\u2029]", lambda char: f"\\u{ord(char[0]):04x}", text)


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - on use only

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
