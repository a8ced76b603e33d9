"""What a report says, section by section, as plain text in tables: the same for every format.

A table's cells are strings from this project or from the run's files; whoever renders them
escapes them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results import Metric, Results, Run, Sample
from benchmarks.stats import MIN_BLOCKS, Verdict, margin_of
from benchmarks.summary import Floor, Row, Summary
from reports.style import (
    NOTHING,
    VERDICT_MARKS,
    format_bytes,
    format_interval,
    format_margin,
    format_ns,
    format_percent,
    format_ratio,
    format_value,
    subject,
    title_of,
)
from reports.validity import checks
from reports.verdicts import amount, reading_order, verdict_word
from reports.words import ENGLISH, Words

MAX_TROUBLES = 40
MAX_VALUES = 24
"""Blocks up to which every value stands in a table; beyond, they are in the downloads."""
FOOTPRINT = ("memory.pss", "memory.uss", "memory.cgroup", "memory.instrument", "disk.image",
             "disk.instance")  # fmt: skip
"""What an instance occupies, definition by definition, in the order of the columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under a caption; the first cell of each row names it."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
                words("head.scatter"),
                words("head.n"),
                words("head.without"),
            ),
            rows=tuple(_cells(row, baseline, words) for row in rows),
        ),
        verdicts=tuple(row.comparison.verdict if row.comparison else None for row in rows),
    )


def _cells(row: Row, baseline: str, words: Words) -> tuple[str, ...]:
    unit = row.metric.unit
    median = scatter = NOTHING
    if row.spread is not None:
        median = format_value(row.spread.median, unit)
        ends = (format_value(row.spread.p5, unit), format_value(row.spread.p95, unit))
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


def check_table(results: Results, summary: Summary, words: Words = ENGLISH) -> Table:
    """The validity checks as text."""
    return Table(
        caption=words("caption.checks"),
        head=tuple(words(f"head.{name}") for name in ("check", "result", "seen", "effect")),
        rows=tuple(
            (check.title, words(f"state.{check.state}"), check.seen, check.effect)
            for check in checks(results, summary, words)
        ),
    )


def floor_sentence(floors: Sequence[Floor], words: Words = ENGLISH) -> str:
    """The noise floor in one line, worst metric first."""
    known = [floor for floor in floors if floor.floor is not None]
    if not known:
        return words("floor.unknown", needed=MIN_BLOCKS)
    known.sort(key=lambda floor: -(floor.floor or 0))
    told = ", ".join(f"{each.metric.name} {format_percent(each.floor or 0)}" for each in known)
    return words("floor.known", twin=known[0].twin, metrics=told)


def floor_table(floors: Sequence[Floor], words: Words = ENGLISH) -> Table:
    """The A/A control, metric by metric."""
    rows = []
    for floor in floors:
        ratio = floor.ratio
        known = format_percent(floor.floor) if floor.floor is not None else words("word.unknown")
        rows.append(
            (
                f"{floor.metric.name} ({floor.workload})",
                format_ratio(ratio.estimate, words) if ratio else NOTHING,
                format_interval(ratio.ci95, words) if ratio and ratio.ci95 else NOTHING,
                known,
            )
        )
    return Table(
        caption=words("caption.floors"),
        head=tuple(words(f"head.{name}") for name in ("metric", "ratio", "interval", "floor")),
        rows=tuple(rows),
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
            *("p5", "p95", words("head.n")),
        ),
        rows=tuple(
            (
                subjects[phase.label],
                phase.phase,
                format_ns(phase.spread.median),
                format_ns(phase.spread.p5),
                format_ns(phase.spread.p95),
                str(phase.spread.n),
            )
            for phase in mine
        ),
    )


def warnings(results: Results, summary: Summary, words: Words = ENGLISH) -> tuple[str, ...]:
    """What limits the whole run: read before any number."""
    run = results.run
    found = []
    if run.outcome != "complete":
        found.append(words("warning.outcome", outcome=run.outcome))
    if results.torn is not None:
        found.append(words("warning.torn", torn=results.torn))
    if run.plan.blocks < MIN_BLOCKS:
        found.append(words("warning.blocks", count=run.plan.blocks, needed=MIN_BLOCKS))
    if not summary.floors:
        found.append(words("warning.no_control"))
    if wide := _widened(summary):
        found.append(words("warning.wide", metrics=wide))
    apart: dict[tuple[str, str], list[str]] = {}
    for floor in summary.floors:
        ends = floor.ratio.ci95 if floor.ratio else None
        if ends and not ends.low <= 1 <= ends.high:
            apart.setdefault((floor.control, floor.twin), []).append(floor.metric.name)
    found += [
        words("warning.apart", control=control, twin=twin, metrics=", ".join(metrics))
        for (control, twin), metrics in apart.items()
    ]
    return tuple(found)


def _widened(summary: Summary) -> str:
    """Metrics whose noise floor asked for a wider margin, with that margin."""
    wide = {
        row.metric.name: row.comparison.margin
        for row in summary.rows
        if row.comparison and row.comparison.margin > margin_of(row.metric.name, None)
    }
    return ", ".join(f"{name} {format_margin(margin)}" for name, margin in wide.items())


def inequality_table(results: Results, summary: Summary, words: Words = ENGLISH) -> Table:
    """Facts that should agree between the labels and do not, equal workloads together."""
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    rows: dict[tuple[str, str], list[str]] = {}
    for unequal in summary.inequalities:
        told = "; ".join(
            f"{subjects[each.label]}: {_facts(unequal.fact, each.values, words)}"
            for each in unequal.values
        )
        rows.setdefault((unequal.fact, told), []).append(unequal.workload)
    return Table(
        caption=words("caption.unequal"),
        head=tuple(words(f"head.{name}") for name in ("fact", "values", "workloads")),
        rows=tuple((fact, told, ", ".join(names)) for (fact, told), names in rows.items()),
    )


def identity_table(results: Results, summary: Summary, words: Words = ENGLISH) -> Table:
    """What each label's instances found when they looked around, all workloads together."""
    arms = results.run.plan.backends
    seen: dict[str, dict[str, list[object]]] = {}
    for each in summary.identities:
        values = seen.setdefault(each.fact, {}).setdefault(each.label, [])
        values += [value for value in each.values if value not in values]
    return Table(
        caption=words("caption.identities"),
        head=(words("head.fact"), *(subject(arm) for arm in arms)),
        rows=tuple(
            (fact, *(_facts(fact, labels.get(arm.label, ()), words) for arm in arms))
            for fact, labels in sorted(seen.items())
        ),
    )


def _facts(fact: str, values: Sequence[object], words: Words) -> str:
    if not values:
        return words("word.unread")
    if len(values) > 3:
        return words("count.values", count=len(values))
    return ", ".join(
        format_bytes(value)
        if fact.endswith("_bytes") and isinstance(value, int | float)
        else _plain(value, words)
        for value in values
    )


def trouble_table(results: Results, words: Words = ENGLISH) -> Table:
    """Everything that gave no value, instances with the same error together."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    for sample in results.samples:
        if sample.status != "ok":
            key = (subjects[sample.label], sample.workload, sample.status, sample.error or "")
            groups.setdefault(key, []).append(sample)
    rows = [
        (who, workload, status, _distinct(samples, words), error)
        for (who, workload, status, error), samples in groups.items()
    ]
    hidden = len(rows) - MAX_TROUBLES
    more = [("", "", "", "", words("count.more_kinds", count=hidden))] if hidden > 0 else []
    return Table(
        caption=words("caption.troubles"),
        head=tuple(
            words(f"head.{name}") for name in ("subject", "workload", "status", "where", "error")
        ),
        rows=(*rows[:MAX_TROUBLES], *more),
    )


def _distinct(samples: Iterable[Sample], words: Words) -> str:
    samples = list(samples)
    blocks = list(dict.fromkeys(str(sample.block) for sample in samples))
    metrics = list(dict.fromkeys(sample.metric for sample in samples))
    return words("count.where", blocks=_listed(blocks, words), metrics=_listed(metrics, words))


def _listed(names: Sequence[str], words: Words) -> str:
    more = words("count.and_more", count=len(names) - 8) if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def skipped_table(run: Run, words: Words = ENGLISH) -> Table:
    """Backends that were asked for and cannot run here."""
    return Table(
        caption=words("caption.skipped"),
        head=tuple(words(f"head.{name}") for name in ("backend", "reason", "remedy")),
        rows=tuple((skip.backend, skip.reason, skip.remedy) for skip in run.skipped),
    )


def preparation_table(run: Run, words: Words = ENGLISH) -> Table:
    """What making the image startable cost, once."""
    return Table(
        caption=words("caption.preparations"),
        head=tuple(words(f"head.{name}") for name in ("backend", "time", "disk", "how")),
        rows=tuple(
            (
                cost.backend,
                format_ns(cost.duration_ns) + (words("word.earlier") if cost.cached else ""),
                format_bytes(cost.disk_bytes),
                cost.method,
            )
            for cost in run.preparations
        ),
    )


def arm_table(run: Run, words: Words = ENGLISH) -> Table:
    """Who was compared."""
    return Table(
        caption=words("caption.arms"),
        head=tuple(words(f"head.{name}") for name in ("subject", "backend", "note")),
        rows=tuple((subject(arm), arm.backend, arm.note or NOTHING) for arm in run.plan.backends),
    )


def environment_table(run: Run, words: Words = ENGLISH) -> Table:
    """The machine, and what ran on it."""
    pairs = [*_flat(run.environment, words)]
    pairs += [
        (words("word.accelerator_of", name=name), f"{each.name}: {each.sentence}")
        for name, each in run.accelerators.items()
    ]
    pairs += [
        (words("word.version_of", name=name), version) for name, version in run.versions.items()
    ]
    return Table(caption=words("caption.machine"), head=_pair(words), rows=tuple(pairs))


def provenance_table(run: Run, words: Words = ENGLISH) -> Table:
    """Where these numbers come from."""
    limits, free = run.limits, words("word.no_limit")
    memory = free if limits.memory_bytes is None else format_bytes(limits.memory_bytes)
    rows = [
        ("run", run.run),
        ("suite", run.suite),
        *(("image", f"{name} {digest}") for name, digest in run.images.items()),
        ("workloads", ", ".join(workload.name for workload in run.plan.workloads)),
        ("blocks", str(run.plan.blocks)),
        ("order", f"{run.plan.order}, seed {run.plan.seed}"),
        ("limits", words("word.limits", cpus=limits.cpus or free, memory=memory)),
        ("cache_state", run.cache_state),
        ("boot_profile", run.boot_profile),
        ("started", run.started_at),
        ("ended", run.ended_at or NOTHING),
        ("outcome", run.outcome),
    ]
    told = tuple((words(f"record.{name}"), value) for name, value in rows)
    return Table(caption=words("caption.provenance"), head=_pair(words), rows=told)


def _pair(words: Words) -> tuple[str, str]:
    return words("head.what"), words("head.value")


def _flat(
    values: Mapping[str, object], words: Words, prefix: str = ""
) -> Iterator[tuple[str, str]]:
    """Nested facts as ``cpu.model``; lists in one cell."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, words, f"{prefix}{name}.")
        elif name.endswith("_bytes") and isinstance(value, int):
            yield f"{prefix}{name}", format_bytes(value)
        else:
            yield f"{prefix}{name}", _plain(value, words)


def _plain(value: object, words: Words) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return words("word.unknown")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "; ".join(value) or words("word.none")
    return json.dumps(value, ensure_ascii=False)
