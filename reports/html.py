"""Offline pages: verdicts first, then comparison, figures, doubts, provenance and the raw data.

A page loads nothing; its policy allows one script, by its hash, and no network. Without the
script everything can be read, the theme and the baseline chosen and the data saved; the script
adds sorting, filtering and a state in the address. The same results give the same bytes.
Everything from the run's files is a stranger's text: the templates escape it.
"""

import base64
import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.evidence import FALSE_DISCOVERIES
from benchmarks.results import Arm, Results, Run, Sample
from benchmarks.stats import QUANTILE_SUPPORT, Verdict
from benchmarks.summary import Summary, counted
from reports import circumstances, doubts, figures, odds, view
from reports.compare import RunComparison
from reports.compare_view import cell_lines, difference_table, forbidding
from reports.downloads import downloads
from reports.matrix import Line, Matrix, matrices
from reports.style import (
    NOTHING,
    VERDICT_MARKS,
    colours,
    dark_colours,
    format_percent,
    format_value,
    subject,
)
from reports.table import Table
from reports.thinning import MOST_MARKS
from reports.validity import checks
from reports.verdicts import Statement, accelerator_notes, statements
from reports.waterfall import MOST_RUNS, Waterfall, waterfalls
from reports.words import ENGLISH, Words

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
_GLOSSARY = (
    "block", "interval", "equivalent", "once", "inconclusive", "floor", "ecdf", "tcg", "phase",
)  # fmt: skip
_EVENTS = (
    "request", "prepared", "engine", "kernel", "init", "exec", "output", "exit", "leaving", "gone",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An svg element with its heading and what to know about it."""

    svg: str
    head: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPart:
    """One metric on the page: its table, its figures, and every value if there are few."""

    text: view.MetricTable
    figures: tuple[Figure, ...]
    values: Table | None
    thinned: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPart:
    """Where a workload's start goes: all subjects on one axis, then each on its own."""

    workload: str
    overview: tuple[Figure, ...]
    falls: tuple[Waterfall, ...]
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is said about one metric; beside each sentence its line of the matrix."""

    title: str
    median: str
    said: tuple[tuple[Statement, Line], ...]


def render(results: Results, summary: Summary, words: Words = ENGLISH) -> str:
    """The whole page of a run."""
    run = results.run
    compared = matrices(results, summary, words)
    cards = _cards(summary, compared[0], words)
    files, data_note = downloads(results, summary, words)
    return _page(
        "report.html.j2",
        words,
        run.plan.backends,
        run=run,
        summary=summary,
        results=results,
        headlines=[card for card in cards if card.said[0][0].is_headline],
        others=[card for card in cards if not card.said[0][0].is_headline],
        notes=(*accelerator_notes(run, words), *doubts.warnings(results, summary, words)),
        matrices=compared,
        metrics=_metrics(results, summary, words),
        starts=_starts(results, summary, words),
        blocks=run.plan.blocks,
        most_runs=MOST_RUNS,
        footprint=view.footprint_table(run, summary, words),
        preparations=circumstances.preparation_table(run, words),
        checks=checks(results, summary, words),
        floor_sentence=doubts.floor_sentence(summary.floors, words),
        floors=doubts.floor_table(summary.floors, words),
        evidence=odds.evidence_table(summary, words),
        few=math.ceil(QUANTILE_SUPPORT / 0.05),
        rate=format_percent(FALSE_DISCOVERIES),
        inequalities=circumstances.inequality_table(results, summary, words),
        identities=circumstances.identity_table(results, summary, words),
        troubles=doubts.trouble_table(results, words),
        skipped=doubts.skipped_table(run, words),
        arms=circumstances.arm_table(run, words),
        machine=circumstances.environment_table(run, words),
        provenance=circumstances.provenance_table(run, words),
        command=shlex.join(run.command),
        files=files,
        data_note=data_note,
        glossary=_GLOSSARY,
        events=_EVENTS,
    )


def render_comparison(comparison: RunComparison, words: Words = ENGLISH) -> str:
    """The page of two runs side by side."""
    return _page(
        "compare.html.j2",
        words,
        comparison.later.plan.backends,
        comparison=comparison,
        forbidding=forbidding(comparison, words),
        differences=difference_table(comparison, words),
        matrix=cell_lines(comparison, words),
        notes=accelerator_notes(comparison.later, words),
        runs=tuple(
            (
                words(f"head.{name}"),
                circumstances.provenance_table(run, words),
                shlex.join(run.command),
            )
            for name, run in (("earlier", comparison.earlier), ("later", comparison.later))
        ),
    )


def _page(template: str, words: Words, shown: Sequence[Arm], **values: object) -> str:
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template(template)
        .render(
            t=words,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            marks={str(verdict): mark for verdict, mark in VERDICT_MARKS.items()},
            **_looks(shown),
            **values,
        )
    )


def _looks(arms: Sequence[Arm]) -> dict[str, object]:
    """The colours of each slot, and which subject or backend has which slot."""
    light, dark = colours(arms), dark_colours(arms)
    slots = {subject(arm): slot for slot, arm in enumerate(arms)}
    for slot, arm in enumerate(arms):
        slots.setdefault(arm.backend, slot)
    pairs = [(light[arm.label], dark[arm.label]) for arm in arms]
    subjects = tuple(map(subject, arms))
    return {"palette": pairs, "slots": slots, "subjects": subjects}


def _cards(summary: Summary, compared: Matrix, words: Words) -> list[Card]:
    """Everything that is said, by metric, in the order of its sentences."""
    lines = {(line.workload, line.metric, line.subject): line for line in compared.lines}
    medians = {
        (row.workload, row.metric.name): format_value(row.spread.median, row.metric.unit)
        for row in summary.rows
        if row.arm.label == summary.baseline and row.spread is not None
    }
    groups: dict[tuple[str, str], list[Statement]] = {}
    for said in statements(summary, words):
        groups.setdefault((said.workload, said.metric), []).append(said)
    return [
        Card(
            title=group[0].title,
            median=medians.get(place, NOTHING),
            said=tuple((said, lines[(*place, said.subject)]) for said in group),
        )
        for place, group in groups.items()
    ]


def _metrics(results: Results, summary: Summary, words: Words) -> list[MetricPart]:
    places: dict[tuple[str, str], list[Sample]] = {}
    for sample in counted(results.samples):
        places.setdefault((sample.workload, sample.metric), []).append(sample)
    parts = []
    for index, text in enumerate(view.metric_tables(summary, words)):
        mine = places.get((text.workload, text.metric.name), [])
        parts.append(_metric(text, mine, results.run, f"m{index}", words))
    return parts


def _metric(
    text: view.MetricTable, mine: Sequence[Sample], run: Run, name: str, words: Words
) -> MetricPart:
    if Verdict.ONCE in text.verdicts:  # a dot alone shows no spread
        return MetricPart(text=text, figures=(), values=None, thinned="")
    values = figures.values_of(mine, run.plan.backends, title=text.title, unit=text.metric.unit)
    own = "" if not values.shown or figures.is_on_one_axis(values) else "_own"
    blocks = figures.blocks_in_a_shade(run.plan.blocks)
    order_note = words("figure.order_note")
    if blocks > 1:
        order_note = f"{order_note} {words('figure.order_groups', count=blocks)}"
    if values.shown and not values.can_be_drawn:
        table = view.value_table(mine, text, run, words)
        return MetricPart(text=text, figures=(), values=table, thinned=words("figure.beyond"))
    drawn = (
        (figures.dots(values, name=f"{name}a", words=words), "dots", words("figure.dots_note")),
        (
            figures.distribution(values, name=f"{name}b", words=words),
            "ecdf",
            words(f"figure.ecdf{own}_note"),
        ),
        (figures.run_order(values, name=f"{name}c", words=words), "order", order_note),
    )
    thinned = ""
    if values.most > MOST_MARKS:
        thinned = words("figure.thinned", drawn=MOST_MARKS, count=values.most)
    return MetricPart(
        text=text,
        figures=tuple(
            Figure(svg=svg, head=words(f"figure.{kind}_head"), note=note)
            for svg, kind, note in drawn
            if svg is not None
        ),
        values=view.value_table(mine, text, run, words),
        thinned=thinned,
    )


def _starts(results: Results, summary: Summary, words: Words) -> list[StartPart]:
    """For each workload that measures starting; if none does, for the first."""
    controls = {floor.control for floor in summary.floors}
    plan = results.run.plan
    seen = {phase.workload for phase in summary.phases}
    workloads = [workload for workload in plan.workloads if workload.name in seen]
    booting = [
        workload.name
        for workload in workloads
        if any(metric.name.startswith("boot.") for metric in workload.metrics)
    ]
    used = counted(results.samples)
    phases = [phase for phase in summary.phases if phase.label not in controls]
    arms = plan.backends
    parts = []
    for index, workload in enumerate(booting or [each.name for each in workloads[:1]]):
        falls = waterfalls(phases, used, arms, workload)
        svg = figures.overview(phases, arms, workload, name=f"w{index}o", words=words)
        if svg is None:
            continue
        head, note = words("figure.overview_head"), words("figure.overview_note")
        parts.append(
            StartPart(
                workload=workload,
                overview=(Figure(svg=svg, head=head, note=note),),
                falls=falls,
                table=view.phase_table(summary, results, workload, words),
            )
        )
    return parts


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
