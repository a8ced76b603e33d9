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
    VERDICT_MARKS,
    format_bytes,
    format_interval,
    format_margin,
    format_ns,
    format_percent,
    format_ratio,
    format_value,
    subject,
)
from reports.verdicts import verdict_word

MAX_TROUBLES = 40
NONE = "\N{EM DASH}"
"""A gap: nothing was measured. Never zero."""


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
    definition: str
    table: Table
    verdicts: tuple[Verdict | None, ...]


def metric_tables(summary: Summary) -> tuple[MetricTable, ...]:
    """The report's main tables, in the order of the plan."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in summary.rows:
        groups.setdefault((row.workload, row.metric.name), []).append(row)
    return tuple(_metric_table(rows, summary.baseline) for rows in groups.values())


def _metric_table(rows: Sequence[Row], baseline: str) -> MetricTable:
    metric = rows[0].metric
    better = "lower is better" if metric.direction == "lower" else "higher is better"
    events = f"from {metric.start} to {metric.stop}" if metric.start and metric.stop else ""
    definition = "; ".join(part for part in (events, better, metric.method) if part)
    against = next((subject(row.arm) for row in rows if row.arm.label == baseline), baseline)
    head = ("Subject", "Median", f"Ratio to {against}", "95 % CI", "Verdict")
    return MetricTable(
        workload=rows[0].workload,
        metric=metric,
        definition=definition,
        table=Table(
            caption=f"{metric.title} ({metric.name}), workload {rows[0].workload}",
            head=(*head, "p5 to p95", "n", "Without value"),
            rows=tuple(_cells(row, baseline) for row in rows),
        ),
        verdicts=tuple(row.comparison.verdict if row.comparison else None for row in rows),
    )


def _cells(row: Row, baseline: str) -> tuple[str, ...]:
    unit = row.metric.unit
    median = scatter = NONE
    if row.spread is not None:
        median = format_value(row.spread.median, unit)
        ends = f"{format_value(row.spread.p5, unit)} to {format_value(row.spread.p95, unit)}"
        scatter = "constant" if row.spread.constant else ends
        scatter = scatter if row.spread.n > 1 else NONE
    n = str(row.spread.n if row.spread else 0)
    return (subject(row.arm), median, *_compared(row, baseline), scatter, n, troubles_of(row))


def _compared(row: Row, baseline: str) -> tuple[str, str, str]:
    if row.arm.label == baseline:
        return "baseline", NONE, NONE
    if row.comparison is None:
        return NONE, NONE, NONE
    verdict = row.comparison.verdict
    word = f"{VERDICT_MARKS[verdict]} {verdict_word(row.metric, row.comparison)}"
    ratio = row.comparison.ratio
    if ratio is None:
        sign = "+" if row.comparison.difference >= 0 else "-"
        amount = format_value(abs(row.comparison.difference), row.metric.unit)
        return f"{sign}{amount}", NONE, word
    interval = format_interval(ratio.ci95) if ratio.ci95 else NONE
    return format_ratio(ratio.estimate), interval, word


def troubles_of(row: Row) -> str:
    """``1 failed, 2 timeouts``; a dash if every block gave its value at once."""
    counts = row.counts
    told = (
        (counts.failed, "failed"),
        (counts.timeout, "timed out"),
        (counts.skipped, "skipped"),
        (counts.retries, "retried"),
        (counts.missing_blocks, "missing"),
    )
    return ", ".join(f"{count} {what}" for count, what in told if count) or NONE


def floor_sentence(floors: Sequence[Floor]) -> str:
    """The noise floor in one line, worst metric first."""
    known = [floor for floor in floors if floor.floor is not None]
    if not known:
        return (
            "Noise floor: unknown. It needs an A/A control (a label such as host') "
            f"and at least {MIN_BLOCKS} blocks."
        )
    known.sort(key=lambda floor: -(floor.floor or 0))
    told = ", ".join(f"{each.metric.name} {format_percent(each.floor or 0)}" for each in known)
    return f"Noise floor ({known[0].twin} against itself): {told}."


def floor_table(floors: Sequence[Floor]) -> Table:
    """The A/A control, metric by metric."""
    rows = []
    for floor in floors:
        ratio = floor.ratio
        rows.append(
            (
                f"{floor.metric.name} ({floor.workload})",
                format_ratio(ratio.estimate) if ratio else NONE,
                format_interval(ratio.ci95) if ratio and ratio.ci95 else NONE,
                format_percent(floor.floor) if floor.floor is not None else "unknown",
            )
        )
    return Table(
        caption="A/A control: the same backend measured twice as if it were two",
        head=("Metric", "Ratio", "95 % CI", "Noise floor"),
        rows=tuple(rows),
    )


def phase_table(summary: Summary, results: Results, workload: str) -> Table:
    """The waterfall's numbers."""
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    mine = [phase for phase in summary.phases if phase.workload == workload]
    mine.sort(key=lambda phase: (list(subjects).index(phase.label), phase.spread.median))
    return Table(
        caption=f"Phases of workload {workload}, since the request",
        head=("Subject", "Phase", "Median", "p5", "p95", "n"),
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


def warnings(results: Results, summary: Summary) -> tuple[str, ...]:
    """What limits the whole run: read before any number."""
    run = results.run
    found = []
    if run.outcome != "complete":
        found.append(f"This run is not complete (outcome: {run.outcome}).")
    if results.torn is not None:
        found.append(f"The journal was cut by a crash: {results.torn}.")
    if run.plan.blocks < MIN_BLOCKS:
        found.append(
            f"{run.plan.blocks} blocks were planned; below {MIN_BLOCKS} no interval is claimed."
        )
    if not summary.floors:
        found.append("There was no A/A control, so the noise floor of this machine is unknown.")
    if wide := _widened(summary):
        found.append(
            "This machine was too noisy for the margins fixed before measuring; twice the noise "
            f"floor took their place: {wide}."
        )
    found += [
        f"{floor.control} differs from {floor.twin} in {floor.metric.name} although they are the "
        "same: something other than isolation moved this metric."
        for floor in summary.floors
        if floor.ratio
        and floor.ratio.ci95
        and not floor.ratio.ci95.low <= 1 <= floor.ratio.ci95.high
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


def inequality_table(results: Results, summary: Summary) -> Table:
    """Facts that should agree between the labels and do not, equal workloads together."""
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    rows: dict[tuple[str, str], list[str]] = {}
    for unequal in summary.inequalities:
        told = "; ".join(
            f"{subjects[each.label]}: {_facts(unequal.fact, each.values)}"
            for each in unequal.values
        )
        rows.setdefault((unequal.fact, told), []).append(unequal.workload)
    return Table(
        caption="Not like with like: these should be the same on every label",
        head=("Fact", "Values", "Workloads"),
        rows=tuple((fact, told, ", ".join(names)) for (fact, told), names in rows.items()),
    )


def identity_table(results: Results, summary: Summary) -> Table:
    """What each label's instances found when they looked around, all workloads together."""
    arms = results.run.plan.backends
    seen: dict[str, dict[str, list[object]]] = {}
    for each in summary.identities:
        values = seen.setdefault(each.fact, {}).setdefault(each.label, [])
        values += [value for value in each.values if value not in values]
    return Table(
        caption="Identity facts, read inside the instances",
        head=("Fact", *(subject(arm) for arm in arms)),
        rows=tuple(
            (fact, *(_facts(fact, labels.get(arm.label, ())) for arm in arms))
            for fact, labels in sorted(seen.items())
        ),
    )


def _facts(fact: str, values: Sequence[object]) -> str:
    if not values:
        return "not read"
    if len(values) > 3:
        return f"{len(values)} different values"
    return ", ".join(
        format_bytes(value)
        if fact.endswith("_bytes") and isinstance(value, int | float)
        else _plain(value)
        for value in values
    )


def trouble_table(results: Results) -> Table:
    """Everything that gave no value, instances with the same error together."""
    groups: dict[tuple[str, ...], list[Sample]] = {}
    subjects = {arm.label: subject(arm) for arm in results.run.plan.backends}
    for sample in results.samples:
        if sample.status != "ok":
            key = (subjects[sample.label], sample.workload, sample.status, sample.error or "")
            groups.setdefault(key, []).append(sample)
    rows = [
        (who, workload, status, _distinct(samples), error)
        for (who, workload, status, error), samples in groups.items()
    ]
    hidden = len(rows) - MAX_TROUBLES
    more = [("", "", "", "", f"and {hidden} more kinds, in the samples")] if hidden > 0 else []
    return Table(
        caption="Instances and metrics without a value",
        head=("Subject", "Workload", "Status", "Where", "Error"),
        rows=(*rows[:MAX_TROUBLES], *more),
    )


def _distinct(samples: Iterable[Sample]) -> str:
    samples = list(samples)
    blocks = list(dict.fromkeys(str(sample.block) for sample in samples))
    metrics = list(dict.fromkeys(sample.metric for sample in samples))
    return f"block {_listed(blocks)}: {_listed(metrics)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def skipped_table(run: Run) -> Table:
    """Backends that were asked for and cannot run here."""
    return Table(
        caption="Backends that could not run here",
        head=("Backend", "Reason", "Remedy"),
        rows=tuple((skip.backend, skip.reason, skip.remedy) for skip in run.skipped),
    )


def preparation_table(run: Run) -> Table:
    """What making the image startable cost, once."""
    return Table(
        caption="Paid once for each image and backend, never inside a start",
        head=("Backend", "Time", "Disk", "How"),
        rows=tuple(
            (
                cost.backend,
                format_ns(cost.duration_ns) + (" (measured earlier)" if cost.cached else ""),
                format_bytes(cost.disk_bytes),
                cost.method,
            )
            for cost in run.preparations
        ),
    )


def arm_table(run: Run) -> Table:
    """Who was compared."""
    return Table(
        caption="Subjects of the comparison",
        head=("Subject", "Backend", "Note"),
        rows=tuple((subject(arm), arm.backend, arm.note or NONE) for arm in run.plan.backends),
    )


def environment_table(run: Run) -> Table:
    """The machine, and what ran on it."""
    accelerators = {
        f"accelerator of {name}": f"{each.name}: {each.sentence}"
        for name, each in run.accelerators.items()
    }
    pairs = [*_flat(run.environment), *accelerators.items()]
    pairs += [(f"version of {name}", version) for name, version in run.versions.items()]
    return Table(caption="The machine and its software", head=("What", "Value"), rows=tuple(pairs))


def provenance_table(run: Run) -> Table:
    """Where these numbers come from."""
    limits = run.limits
    memory = "no limit" if limits.memory_bytes is None else format_bytes(limits.memory_bytes)
    rows = [
        ("run", run.run),
        ("suite", run.suite),
        *((f"image {name}", digest) for name, digest in run.images.items()),
        ("workloads", ", ".join(workload.name for workload in run.plan.workloads)),
        ("blocks", str(run.plan.blocks)),
        ("order", f"{run.plan.order}, seed {run.plan.seed}"),
        ("limits", f"cpus: {limits.cpus or 'no limit'}; memory: {memory}"),
        ("cache state", run.cache_state),
        ("boot profile", run.boot_profile),
        ("started", run.started_at),
        ("ended", run.ended_at or NONE),
        ("outcome", run.outcome),
    ]
    return Table(caption="Provenance", head=("What", "Value"), rows=tuple(rows))


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as ``cpu.model``; lists in one cell."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "unknown"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "; ".join(value) or "none"
    return json.dumps(value, ensure_ascii=False)
