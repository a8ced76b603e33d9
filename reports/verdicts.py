"""What a comparison says, in one sentence. The judgement is made in benchmarks.stats.

A sentence names who, by how much, compared with whom, the interval and the number of blocks. It
never says "no difference": either the two are equivalent within a margin that was fixed before
measuring, or the run could not tell.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.comparisons import Comparison
from benchmarks.results import Metric, Run
from benchmarks.stats import MIN_BLOCKS, Interval, Ratio, Verdict, margin_of
from benchmarks.summary import Row, Summary
from reports.style import (
    effect,
    format_interval,
    format_margin,
    format_ratio,
    format_value,
    subject,
    title_of,
)
from reports.words import ENGLISH, Words

HEADLINES = ("boot.first_output", "memory.pss", "disk.instance", "cpu.")
"""Metrics (or families) whose sentences open a report; the others follow on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence with what it is about; ``verdict`` is None where nothing was compared."""

    workload: str
    metric: str
    title: str
    text: str
    verdict: Verdict | None
    subject: str
    amount: str
    effect: str

    @property
    def is_headline(self) -> bool:
        """Whether it belongs to the few that open a report."""
        return self.metric.startswith(HEADLINES)

    @property
    def detail(self) -> str:
        """The sentence under a heading that already says what it is about."""
        return self.text.removeprefix(f"{self.title}: ")


def statements(summary: Summary, words: Words = ENGLISH) -> tuple[Statement, ...]:
    """One for each metric and label, the baseline and its A/A control left out."""
    controls = {floor.control for floor in summary.floors}
    subjects = {row.arm.label: subject(row.arm) for row in summary.rows}
    return tuple(
        Statement(
            workload=row.workload,
            metric=row.metric.name,
            title=title_of(row.metric, words),
            text=_sentence(row, subjects[summary.baseline], words),
            verdict=row.comparison.verdict if row.comparison else None,
            subject=subject(row.arm),
            amount=amount(row.metric, row.comparison, words),
            effect=effect(row.metric, row.comparison.verdict if row.comparison else None),
        )
        for row in reading_order(summary.rows)
        if row.arm.label != summary.baseline and row.arm.label not in controls
    )


def reading_order(rows: Sequence[Row]) -> list[Row]:
    """The order of the plan, but what was measured once comes after what was compared."""
    once = {
        (row.workload, row.metric.name)
        for row in rows
        if row.comparison and row.comparison.verdict is Verdict.ONCE
    }
    return sorted(rows, key=lambda row: (row.workload, row.metric.name) in once)


def accelerator_notes(run: Run, words: Words = ENGLISH) -> tuple[str, ...]:
    """What a reader must know about emulated processors before reading any number."""
    emulated: dict[str, list[str]] = {}
    for arm in run.plan.backends:
        if arm.accelerator == "tcg":
            probed = run.accelerators.get(arm.backend)
            because = probed.sentence.rstrip(".") if probed else ""
            emulated.setdefault(because, []).append(subject(arm))
    return tuple(
        words("note.tcg" if len(who) == 1 else "note.tcg_all", who=", ".join(who))
        + (f" {because}." if because else "")
        for because, who in emulated.items()
    )


def amount(metric: Metric, comparison: Comparison | None, words: Words = ENGLISH) -> str:
    """The comparison in one number: ``8.03x``, or the difference where there is no ratio."""
    if comparison is None:
        return words("number.none")
    if comparison.ratio is not None:
        return format_ratio(comparison.ratio.estimate, words)
    sign = "+" if comparison.difference >= 0 else "-"
    return f"{sign}{format_value(abs(comparison.difference), metric.unit)}"


def verdict_word(metric: Metric, verdict: Verdict, margin: float, words: Words = ENGLISH) -> str:
    """The verdict for a table: ``slower``, ``larger``, ``within ±10 %``, ``inconclusive``."""
    if verdict is Verdict.EQUIVALENT:
        return words("verdict.within", margin=format_margin(margin))
    if verdict not in (Verdict.HIGHER, Verdict.LOWER):
        return words(f"verdict.{verdict.name.lower()}")
    side = verdict.name.lower()
    return words.first(f"verdict.{side}_{metric.unit}", f"verdict.{side}")


def _sentence(row: Row, base: str, words: Words) -> str:
    who, title = subject(row.arm), title_of(row.metric, words)
    if row.comparison is None:
        return words("said.gap", title=title, why=_gap(row, who, base, words))
    if row.comparison.ratio is None:
        return _without_ratio(row, row.comparison, who, base, words)
    return _with_ratio(row.metric, row.comparison, row.comparison.ratio, (who, base), words)


def _gap(row: Row, who: str, base: str, words: Words) -> str:
    if row.spread is not None:
        return words("said.no_value", who=base)
    counts = row.counts
    causes = (("failed", counts.failed), ("timeout", counts.timeout), ("skipped", counts.skipped))
    told = ", ".join(words(f"count.{cause}", count=count) for cause, count in causes if count)
    return words("said.no_value", who=who) + (f" ({told})" if told else "")


def _without_ratio(row: Row, comparison: Comparison, who: str, base: str, words: Words) -> str:
    side = (comparison.difference > 0) - (comparison.difference < 0)
    return words(
        f"said.difference.{('equal', 'above', 'below')[side]}",
        title=title_of(row.metric, words),
        who=who,
        base=base,
        amount=format_value(abs(comparison.difference), row.metric.unit),
    )


def _with_ratio(
    metric: Metric, comparison: Comparison, ratio: Ratio, pair: tuple[str, str], words: Words
) -> str:
    who, base = pair
    told = {
        "title": title_of(metric, words),
        "who": who,
        "base": base,
        "ratio": format_ratio(ratio.estimate, words),
        "blocks": blocks_in(ratio.blocks, words),
    }
    if comparison.verdict is Verdict.ONCE:
        return words("said.once", **told)
    if ratio.ci95 is None or ratio.ci90 is None:
        return words("said.too_few", needed=MIN_BLOCKS, **told)
    if comparison.verdict is Verdict.EQUIVALENT:
        margin, inside = format_margin(comparison.margin), format_interval(ratio.ci90, words)
        said = words("said.equivalent", margin=margin, interval=inside, **told)
        return said + _lost(comparison, words)
    if comparison.verdict is Verdict.INCONCLUSIVE:
        needs = _needs(metric, comparison, ratio.ci95, words)
        across = format_interval(ratio.ci95, words)
        return words("said.inconclusive", interval=across, needs=needs, **told)
    interval = format_interval(_as_told(metric, ratio.estimate, ratio.ci95), words)
    difference = _difference(metric, ratio.estimate, pair, words)
    said = words("said.decided", difference=difference, interval=interval, blocks=told["blocks"])
    return said + _lost(comparison, words)


def _lost(comparison: Comparison, words: Words) -> str:
    """That instances failed, beside a verdict that stands all the same."""
    if not comparison.lost:
        return ""
    key = "note.lost_block" if comparison.lost == 1 else "note.lost_blocks"
    return words(key, count=comparison.lost)


def _needs(metric: Metric, comparison: Comparison, ci95: Interval, words: Words) -> str:
    """What would settle it; or that the noise of the machine hides it."""
    more, margin = comparison.more_blocks, comparison.margin
    if more:
        return words("said.more_block" if more == 1 else "said.more_blocks", more=more)
    if comparison.lost:
        return words("note.lost_open", count=blocks_in(comparison.lost, words))
    is_hidden = margin > margin_of(metric.name, None) and ci95.within(math.log1p(margin))
    return words("said.hidden") if is_hidden else ""


def blocks_in(count: int, words: Words = ENGLISH) -> str:
    """``1 block``, ``10 blocks``."""
    return words("count.block" if count == 1 else "count.blocks", count=count)


def _as_told(metric: Metric, estimate: float, interval: Interval) -> Interval:
    """The interval the way round its sentence is: "3x earlier" is a ratio of a third."""
    if metric.unit == "ns" and estimate < 1:
        return Interval(low=1 / interval.high, high=1 / interval.low)
    return interval


def _difference(metric: Metric, estimate: float, pair: tuple[str, str], words: Words) -> str:
    side = "more"
    if metric.unit == "ns" and estimate < 1:
        side, estimate = "less", 1 / estimate
    kind = f"said.time.{side}" if metric.unit == "ns" else "said.amount.more"
    return words.first(
        f"said.{metric.name}.{side}",
        kind,
        title=title_of(metric, words),
        who=pair[0],
        base=pair[1],
        ratio=format_ratio(estimate, words),
    )
