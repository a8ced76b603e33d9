"""What limits a run's numbers: checks, noise, values that are missing, as text in tables."""

from collections.abc import Iterable, Sequence

from benchmarks.results import Results, Run, Sample
from benchmarks.stats import MIN_BLOCKS, margin_of
from benchmarks.summary import Floor, Summary
from reports import odds
from reports.style import (
    NOTHING,
    format_interval,
    format_margin,
    format_ns,
    format_percent,
    format_ratio,
    subject,
)
from reports.table import Table
from reports.validity import checks
from reports.words import ENGLISH, Words

MAX_TROUBLES = 40


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
                format_margin(margin_of(floor.metric.name, floor.floor)),
            )
        )
    return Table(
        caption=words("caption.floors"),
        head=tuple(
            words(f"head.{name}") for name in ("metric", "ratio", "interval", "floor", "margin")
        ),
        rows=tuple(rows),
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
    found += _stopped(run, words)
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
    return (*found, *odds.shape_warnings(summary, words))


def _stopped(run: Run, words: Words) -> list[str]:
    """That there are fewer blocks than were wanted."""
    stated = run.protocol
    if stated is None:
        return []
    found = []
    if stated.end == "budget" and stated.budget_s is not None:
        budget, wanted = format_ns(stated.budget_s * 1e9), stated.wanted_blocks
        found.append(words("warning.budget", budget=budget, count=run.plan.blocks, wanted=wanted))
    asked, reached = stated.precision_ratio, stated.reached_ratio
    if asked is not None and reached is not None and reached > asked:
        told = {"asked": format_percent(asked), "reached": format_percent(reached)}
        found.append(words("warning.imprecise", count=run.plan.blocks, **told))
    return found


def _widened(summary: Summary) -> str:
    """Metrics whose noise floor asked for a wider margin, with that margin."""
    wide = {
        row.metric.name: row.comparison.margin
        for row in summary.rows
        if row.comparison and row.comparison.margin > margin_of(row.metric.name, None)
    }
    return ", ".join(f"{name} {format_margin(margin)}" for name, margin in wide.items())


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
