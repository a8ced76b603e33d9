"""What a report says of each metric, as text in tables: the same for every format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import Metric, Results, Run, Sample
from benchmarks.stats import Spread, Verdict
from benchmarks.summary import Row, Summary
from reports.style import (
    NOTHING,
    VERDICT_MARKS,
    format_interval,
    format_ns,
    format_value,
    subject,
    title_of,
)
from reports.table import Table
from reports.verdicts import amount, reading_order, verdict_word
from reports.words import ENGLISH, Words

MAX_VALUES = 24
"""Blocks up to which every value stands in a table; beyond, they are in the downloads."""
FOOTPRINT = ("memory.pss", "memory.uss", "memory.cgroup", "memory.instrument", "disk.image",
             "disk.instance")  # fmt: skip
"""What an instance occupies, definition by definition, in the order of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricTable:
    """One metric of one workload with a row for each label, and what it means."""

    workload: str
    metric: Metric
    title: str
    start: str | None
    stop: str | None
    definition: str
    why: str
    table: Table
    verdicts: tuple[Verdict | None, ...]


def metric_tables(summary: Summary, words: Words = ENGLISH) -> tuple[MetricTable, ...]:
    """The report's main tables, in the order of the plan."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in reading_order(summary.rows):
        groups.setdefault((row.workload, row.metric.name), []).append(row)
    return tuple(_metric_table(rows, summary.baseline, words) for rows in groups.values())


def _metric_table(rows: Sequence[Row], baseline: str, words: Words) -> MetricTable:
    metric = rows[0].metric
    title = title_of(metric, words)
    better = words(f"definition.{metric.direction}")
    against = next((subject(row.arm) for row in rows if row.arm.label == baseline), baseline)
    family = metric.name.partition(".")[0]
    why = next((key for key in (f"metric.{metric.name}.why", f"family.{family}.why")
                if words.knows(key)), None)  # fmt: skip
    return MetricTable(
        workload=rows[0].workload,
        metric=metric,
        title=title,
        start=metric.start,
        stop=metric.stop,
        definition="; ".join(part for part in (better, metric.method) if part),
        why=words(why) if why else "",
        table=Table(
            caption=words(
                "caption.metric", title=title, metric=metric.name, workload=rows[0].workload
            ),
            head=(
                words("head.subject"),
                words("head.median"),
                words("head.ratio_to", base=against),
                words("head.interval"),
                words("head.verdict"),
                words(_scatter_head([row.spread for row in rows])),
                words("head.n"),
                words("head.without"),
            ),
            rows=tuple(_cells(row, baseline, words) for row in rows),
        ),
        verdicts=tuple(row.comparison.verdict if row.comparison else None for row in rows),
    )


def _scatter_head(spreads: Iterable[Spread | None]) -> str:
    """What stands in the column of ``tails``: so few values rarely carry a p5."""
    carried = {spread.p5 is not None for spread in spreads if spread is not None}
    return "head.scatter" if carried == {True} else "head.extremes"


def _cells(row: Row, baseline: str, words: Words) -> tuple[str, ...]:
    unit = row.metric.unit
    median = scatter = NOTHING
    if row.spread is not None:
        median = format_value(row.spread.median, unit)
        ends = [format_value(end, unit) for end in row.spread.tails]
        scatter = words("number.from_to", low=ends[0], high=ends[1])
        scatter = words("number.constant") if row.spread.constant else scatter
        scatter = scatter if row.spread.n > 1 else NOTHING
    n = str(row.spread.n if row.spread else 0)
    compared = _compared(row, baseline, words)
    return (subject(row.arm), median, *compared, scatter, n, troubles_of(row, words))


def _compared(row: Row, baseline: str, words: Words) -> tuple[str, str, str]:
    if row.arm.label == baseline:
        return words("word.baseline"), NOTHING, NOTHING
    if row.comparison is None:
        return NOTHING, NOTHING, NOTHING
    verdict = row.comparison.verdict
    told = verdict_word(row.metric, verdict, row.comparison.margin, words)
    word = f"{VERDICT_MARKS[verdict]} {told}"
    ratio = row.comparison.ratio
    interval = format_interval(ratio.ci95, words) if ratio and ratio.ci95 else NOTHING
    return amount(row.metric, row.comparison, words), interval, word


def troubles_of(row: Row, words: Words = ENGLISH) -> str:
    """``1 failed, 2 timed out``; a dash if every block gave its value at once."""
    counts = row.counts
    told = (
        ("failed", counts.failed),
        ("timeout", counts.timeout),
        ("skipped", counts.skipped),
        ("retried", counts.retries),
        ("missing", counts.missing_blocks),
    )
    return ", ".join(words(f"count.{what}", count=count) for what, count in told if count) or (
        NOTHING
    )


def value_table(
    samples: Iterable[Sample], metric: MetricTable, run: Run, words: Words = ENGLISH
) -> Table | None:
    """Every counted value behind a metric's figures, a row for each block; None if too many."""
    by_block: dict[int, dict[str, str]] = {}
    for sample in samples:
        if (sample.workload, sample.metric) == (metric.workload, metric.metric.name):
            text = NOTHING if sample.value is None else format_value(sample.value, sample.unit)
            by_block.setdefault(sample.block, {})[sample.label] = text
    if not by_block or len(by_block) > MAX_VALUES:
        return None
    arms = run.plan.backends
    return Table(
        caption=words("caption.values", title=metric.title, workload=metric.workload),
        head=(words("head.block"), *(subject(arm) for arm in arms)),
        rows=tuple(
            (str(block), *(values.get(arm.label, NOTHING) for arm in arms))
            for block, values in sorted(by_block.items())
        ),
    )


def footprint_table(run: Run, summary: Summary, words: Words = ENGLISH) -> Table:
    """Memory and disk of each label by every definition, side by side: medians."""
    cells: dict[str, dict[str, str]] = {}
    for row in summary.rows:
        if row.metric.name in FOOTPRINT and row.spread is not None:
            shown = format_value(row.spread.median, row.metric.unit)
            cells.setdefault(row.metric.name, {}).setdefault(row.arm.label, shown)
    measured = {label for values in cells.values() for label in values}
    names = [name for name in FOOTPRINT if name in cells]
    return Table(
        caption=words("caption.footprint"),
        head=(words("head.subject"), *(words(f"metric.{name}.short") for name in names)),
        rows=tuple(
            (subject(arm), *(cells[name].get(arm.label, NOTHING) for name in names))
            for arm in run.plan.backends
            if arm.label in measured
        ),
    )


def phase_table(
    summary: Summary, results: Results, workload: str, words: Words = ENGLISH
) -> Table:
    """The waterfall's numbers."""
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    mine = [phase for phase in summary.phases if phase.workload == workload]
    mine.sort(key=lambda phase: (list(subjects).index(phase.label), phase.spread.median))
    return Table(
        caption=words("caption.phases", workload=workload),
        head=(
            *(words(f"head.{name}") for name in ("subject", "phase", "median")),
            *_tail_heads([phase.spread for phase in mine], words),
            words("head.n"),
        ),
        rows=tuple(
            (
                subjects[phase.label],
                phase.phase,
                format_ns(phase.spread.median),
                *(format_ns(end) for end in phase.spread.tails),
                str(phase.spread.n),
            )
            for phase in mine
        ),
    )


def _tail_heads(spreads: Sequence[Spread], words: Words) -> tuple[str, str]:
    if spreads and all(spread.p5 is not None for spread in spreads):
        return "p5", "p95"
    return words("head.least"), words("head.greatest")
