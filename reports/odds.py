"""How sure a verdict is, and what a median hides: tables and sentences for every format."""

from benchmarks.summary import Row, Summary
from reports.style import format_percent, format_value, subject
from reports.table import Table
from reports.words import ENGLISH, Words

_MOST_NAMED = 6


def evidence_table(summary: Summary, words: Words = ENGLISH) -> Table:
    """What stands beside each interval; only comparisons that could have claimed something."""
    return Table(
        caption=words("caption.evidence"),
        head=tuple(
            words(f"head.{name}")
            for name in ("metric", "subject", "test_p", "test_q", "delta", "lost")
        ),
        rows=tuple(
            (
                f"{row.metric.name} ({row.workload})",
                subject(row.arm),
                _chance(row.comparison.evidence.p),
                _chance(row.comparison.evidence.q),
                f"{row.comparison.evidence.delta:+.2f}",
                str(row.comparison.lost),
            )
            for row in summary.rows
            if row.comparison and row.comparison.evidence
        ),
    )


def shape_warnings(summary: Summary, words: Words = ENGLISH) -> tuple[str, ...]:
    """Two groups of values, and drift over the run, where they were found."""
    groups = [_group(row, words) for row in summary.rows]
    drifts = [_drift(row) for row in summary.rows]
    return tuple(
        words(key, metrics=_listed([each for each in found if each], words))
        for key, found in (("warning.groups", groups), ("warning.drift", drifts))
        if any(found)
    )


def _group(row: Row, words: Words) -> str:
    groups = row.shape.groups if row.shape else None
    if groups is None:
        return ""
    return words(
        "warning.group",
        who=subject(row.arm),
        metric=row.metric.name,
        lower=format_value(groups.lower, row.metric.unit),
        upper=format_value(groups.upper, row.metric.unit),
        share=format_percent(groups.upper_share),
    )


def _drift(row: Row) -> str:
    change = row.shape.drift_ratio if row.shape else None
    if change is None:
        return ""
    told = f"{'+' if change > 0 else '-'}{format_percent(abs(change))}"
    return f"{subject(row.arm)} {row.metric.name} ({told})"


def _listed(found: list[str], words: Words) -> str:
    hidden = len(found) - _MOST_NAMED
    more = words("count.and_more", count=hidden) if hidden > 0 else ""
    return ", ".join(found[:_MOST_NAMED]) + more


def _chance(share: float) -> str:
    """A probability with as many digits as it is worth."""
    return "<0.001" if share < 0.001 else f"{share:.3f}"
