"""What a comparison says, in one sentence. The judgement is made in benchmarks.stats.

A sentence names who, by how much, compared with whom, the interval and the number of blocks. It
never says "no difference": either the two are equivalent within a margin that was fixed before
measuring, or the run could not tell.
"""

from dataclasses import dataclass

from benchmarks.results import Metric, Run
from benchmarks.stats import MIN_BLOCKS, Interval, Ratio, Verdict
from benchmarks.summary import Comparison, Row, Summary
from reports.style import (
    format_interval,
    format_margin,
    format_ratio,
    format_value,
    subject,
)

HEADLINES = ("boot.first_output", "memory.pss", "disk.instance", "cpu.")
"""Metrics (or families) whose sentences open a report; the others follow on request."""

_TIMES = {
    "boot.first_output": ("reaches its first output", "later", "earlier"),
    "boot.exit": ("ends", "later", "earlier"),
    "boot.teardown": ("is torn down", "slower", "faster"),
    "cpu.sha256": ("computes SHA-256 sums", "slower", "faster"),
}
_AMOUNTS = {
    "memory.pss": ("the memory (PSS) of", ""),
    "memory.uss": ("the private memory (USS) of", ""),
    "memory.cgroup": ("the cgroup memory of", ""),
    "memory.instrument": ("the memory of the instrument of", ""),
    "disk.image": ("the disk space of", " for its first instance"),
    "disk.instance": ("the disk space of", " for each further instance"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A sentence with what it is about; ``verdict`` is None where nothing was compared."""

    metric: str
    title: str
    text: str
    verdict: Verdict | None

    @property
    def is_headline(self) -> bool:
        """Whether it belongs to the few that open a report."""
        return self.metric.startswith(HEADLINES)


def statements(summary: Summary) -> tuple[Statement, ...]:
    """One for each metric and label, the baseline and its A/A control left out."""
    controls = {floor.control for floor in summary.floors}
    subjects = {row.arm.label: subject(row.arm) for row in summary.rows}
    return tuple(
        Statement(
            metric=row.metric.name,
            title=row.metric.title,
            text=_sentence(row, subjects[summary.baseline]),
            verdict=row.comparison.verdict if row.comparison else None,
        )
        for row in summary.rows
        if row.arm.label != summary.baseline and row.arm.label not in controls
    )


def accelerator_notes(run: Run) -> tuple[str, ...]:
    """What a reader must know about emulated processors before reading any number."""
    notes = []
    for arm in run.plan.backends:
        if arm.accelerator == "tcg":
            probed = run.accelerators.get(arm.backend)
            because = f" {probed.sentence}" if probed else ""
            notes.append(
                f"{subject(arm)} emulates the guest's processor in software (TCG). Its numbers "
                "say what emulation costs on this machine; they say nothing about a virtual "
                f"machine on KVM.{because}"
            )
    return tuple(notes)


def verdict_word(metric: Metric, comparison: Comparison) -> str:
    """The verdict for a table: ``slower``, ``larger``, ``within ±10 %``, ``inconclusive``."""
    verdict = comparison.verdict
    if verdict is Verdict.EQUIVALENT:
        return f"within {format_margin(comparison.margin)}"
    if verdict not in (Verdict.HIGHER, Verdict.LOWER):
        return str(verdict)
    higher = verdict is Verdict.HIGHER
    if metric.unit == "ns":
        return "slower" if higher else "faster"
    if metric.unit == "bytes":
        return "larger" if higher else "smaller"
    return "higher" if higher else "lower"


def _sentence(row: Row, base: str) -> str:
    who = subject(row.arm)
    if row.comparison is None:
        return f"{row.metric.title}: nothing to compare, {_gap(row, who, base)}."
    if row.comparison.ratio is None:
        return _without_ratio(row, row.comparison, who, base)
    return _with_ratio(row.metric, row.comparison, row.comparison.ratio, who, base)


def _gap(row: Row, who: str, base: str) -> str:
    if row.spread is not None:
        return f"{base} gave no value"
    counts = row.counts
    causes = (
        (counts.failed, "failed"),
        (counts.timeout, "timed out"),
        (counts.skipped, "skipped"),
    )
    told = ", ".join(f"{count} {cause}" for count, cause in causes if count)
    return f"{who} gave no value" + (f" ({told})" if told else "")


def _without_ratio(row: Row, comparison: Comparison, who: str, base: str) -> str:
    amount = format_value(abs(comparison.difference), row.metric.unit)
    if comparison.difference == 0:
        said = f"{who} and {base} have the same median"
    else:
        side = "above" if comparison.difference > 0 else "below"
        said = f"the median of {who} is {amount} {side} that of {base}"
    return f"{row.metric.title}: {said}; no ratio is taken where a value is zero."


def _with_ratio(metric: Metric, comparison: Comparison, ratio: Ratio, who: str, base: str) -> str:
    blocks = f"{ratio.blocks} block" + ("s" if ratio.blocks != 1 else "")
    if comparison.verdict is Verdict.ONCE:
        return (
            f"{metric.title}: {who} is at {format_ratio(ratio.estimate)} of {base}; "
            "measured once, so there is no interval."
        )
    if ratio.ci95 is None or ratio.ci90 is None:
        return (
            f"{metric.title}: n too small. {who} is at {format_ratio(ratio.estimate)} of {base} "
            f"over {blocks}; an interval needs {MIN_BLOCKS}."
        )
    if comparison.verdict is Verdict.EQUIVALENT:
        return (
            f"{metric.title}: {who} and {base} are equivalent within "
            f"{format_margin(comparison.margin)} "
            f"(90 % CI {format_interval(ratio.ci90)}; {blocks})."
        )
    if comparison.verdict is Verdict.INCONCLUSIVE:
        evidence = f"95 % CI {format_interval(ratio.ci95)}; {blocks}"
        more = comparison.more_blocks
        needs = f"; about {more} more blocks could settle it" if more else ""
        return (
            f"{metric.title}: inconclusive, {who} is at {format_ratio(ratio.estimate)} of {base} "
            f"({evidence}{needs})."
        )
    told = _as_told(metric, ratio.estimate, ratio.ci95)
    return (
        f"{_difference(metric, ratio.estimate, who, base)} "
        f"(95 % CI {format_interval(told)}; {blocks})."
    )


def _as_told(metric: Metric, estimate: float, interval: Interval) -> Interval:
    """The interval the way round its sentence is: "3x earlier" is a ratio of a third."""
    if metric.unit == "ns" and estimate < 1:
        return Interval(low=1 / interval.high, high=1 / interval.low)
    return interval


def _difference(metric: Metric, estimate: float, who: str, base: str) -> str:
    if metric.name in _AMOUNTS:
        what, purpose = _AMOUNTS[metric.name]
        return f"{who} takes {format_ratio(estimate)} {what} {base}{purpose}"
    if metric.unit != "ns":
        return f"{metric.title}: {who} gives {format_ratio(estimate)} that of {base}"
    told, more, less = _TIMES.get(metric.name, (f"does “{metric.title}”", "slower", "faster"))
    if estimate < 1:
        return f"{who} {told} {format_ratio(1 / estimate)} {less} than {base}"
    return f"{who} {told} {format_ratio(estimate)} {more} than {base}"
