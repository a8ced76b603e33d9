"""How a comparison of two runs reads: its matrix, its differences, its lines for a terminal."""

from reports.compare import Cell, RunComparison
from reports.export import as_markdown_table, escaped
from reports.matrix import Line, Matrix, forest, scale_for, ticks_of
from reports.scales import LogScale
from reports.style import (
    NOTHING,
    VERDICT_MARKS,
    effect,
    format_interval,
    format_ratio,
    format_value,
    subject,
    title_of,
)
from reports.table import Table
from reports.verdicts import verdict_word
from reports.words import ENGLISH, Words


def forbidding(comparison: RunComparison, words: Words = ENGLISH) -> str:
    """Why the runs are not comparable, in one sentence; '' if they are."""
    if comparison.is_allowed:
        return ""
    what = "; ".join(
        f"{each.what} ({each.earlier} / {each.later})"
        for each in comparison.differences
        if each.forbids
    )
    return words("page.not_comparable", what=what)


def difference_table(comparison: RunComparison, words: Words = ENGLISH) -> Table:
    """What the two runs do not share, and what follows from it."""
    return Table(
        caption=words("caption.differences"),
        head=tuple(words(f"head.{name}") for name in ("what", "earlier", "later", "consequence")),
        rows=tuple(
            (
                each.what,
                each.earlier,
                each.later,
                words("compare.forbids" if each.forbids else "compare.explains"),
            )
            for each in comparison.differences
        ),
    )


def comparison_table(comparison: RunComparison, words: Words = ENGLISH) -> Table:
    """Every metric and label of both runs, as text."""
    rows = []
    for cell in comparison.cells:
        name = f"{cell.metric.name} ({cell.workload})"
        rows.append((name, subject(cell.arm), *_medians(cell), *_told(cell, words)))
    names = ("metric", "subject", "earlier", "later", "ratio", "interval", "verdict")
    return Table(
        caption=words("caption.compare"),
        head=tuple(words(f"head.{name}") for name in names),
        rows=tuple(rows),
    )


def cell_lines(comparison: RunComparison, words: Words = ENGLISH) -> Matrix:
    """The same as a forest plot; the earlier run is what every ratio is taken to."""
    scale = scale_for(cell.ratio for cell in comparison.cells)
    labels = [arm.label for arm in comparison.later.plan.backends]
    lines = tuple(
        _line(
            cell,
            scale,
            words,
            slot=labels.index(cell.arm.label) if cell.arm.label in labels else 0,
        )
        for cell in comparison.cells
    )
    return Matrix(
        baseline="earlier",
        against=words("head.earlier"),
        lines=lines,
        ticks=ticks_of(scale),
        one=scale.percent(1),
    )


def _medians(cell: Cell) -> tuple[str, str]:
    unit = cell.metric.unit
    earlier, later = (
        format_value(spread.median, unit) if spread else NOTHING
        for spread in (cell.earlier, cell.later)
    )
    return earlier, later


def _told(cell: Cell, words: Words) -> tuple[str, str, str]:
    ratio = format_ratio(cell.ratio.estimate, words) if cell.ratio else NOTHING
    ends = cell.ratio.ci95 if cell.ratio else None
    return ratio, format_interval(ends, words) if ends else NOTHING, _word(cell, words)


def _word(cell: Cell, words: Words) -> str:
    if cell.verdict is None:
        return cell.why_not or words("effect.none")
    return verdict_word(cell.metric, cell.verdict, cell.margin, words)


def _line(cell: Cell, scale: LogScale, words: Words, *, slot: int) -> Line:
    earlier, later = _medians(cell)
    ratio, interval, word = _told(cell, words)
    sentence = words("forest.label", who=subject(cell.arm), ratio=ratio, verdict=word)
    n = min(cell.earlier.n if cell.earlier else 0, cell.later.n if cell.later else 0)
    return Line(
        workload=cell.workload,
        metric=cell.metric.name,
        title=title_of(cell.metric, words),
        subject=subject(cell.arm),
        slot=slot,
        is_control=False,
        median=f"{earlier} → {later}",
        amount=ratio,
        interval=interval,
        mark=VERDICT_MARKS[cell.verdict] if cell.verdict else NOTHING,
        word=word,
        effect=effect(cell.metric, cell.verdict),
        n=n,
        ratio=cell.ratio.estimate if cell.ratio else None,
        value=cell.later.median if cell.later else None,
        forest=forest(cell.ratio, cell.margin, scale, sentence),
    )


def as_markdown(comparison: RunComparison, words: Words = ENGLISH) -> str:
    """The comparison for an issue or a wiki; every text from the runs is escaped."""
    title = words("page.compare_lead", later=comparison.later.run, earlier=comparison.earlier.run)
    tables = (difference_table(comparison, words), comparison_table(comparison, words))
    parts = [
        escaped(title),
        escaped(forbidding(comparison, words) or words("page.comparable")),
        *(as_markdown_table(table) for table in tables if table.rows),
    ]
    return "\n\n".join(parts) + "\n"
