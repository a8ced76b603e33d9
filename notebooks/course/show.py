"""What the cells of a lesson show: evidence, as tables and figures with a badge."""

import inspect
import re
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

from notebooks.course.claims import claims as judged
from notebooks.course.claims import values
from notebooks.course.evidence import SUBJECTS, Evidence, Look
from notebooks.course.predictions import Prediction
from reports import notebook
from reports.notebook import Lane, Shown
from reports.style import format_bytes, format_ns, subject
from reports.table import Table

_FACTS = (
    "rootfs_fingerprint", "kernel_release", "boot_id", "processes", "cpus", "memory_total_bytes",
    "clocksource",
)  # fmt: skip
_STEP = re.compile(r" +\d+  (?:\w+ = )?(?P<call>\w+)\(.*  # (?P<reason>.*)")
_GAP = "\N{EM DASH}"
_MEMORY = ("rss", "pss", "uss")


def provenance(evidence: Evidence) -> Shown:
    """Which machine this is about, how its virtual machines run, and what failed."""
    machine = evidence.environment
    rows = [
        ("processor", f"{machine['cpu'] or 'unnamed'}, {machine['cpus']} visible"),
        ("kernel", str(machine["kernel"])),
        ("cgroups", str(machine["cgroups"])),
        ("accelerator", evidence.accelerator_sentence or evidence.accelerator or "none"),
        ("limits", f"{evidence.cpus:g} cpu, {format_bytes(evidence.limit_bytes)} where enforced"),
        ("instances", f"{len(evidence.looks)} alone, {len(evidence.pairs)} in pairs"),
    ]
    rows += [(f"failed: {look.backend}", str(look.error)) for look in evidence.failures]
    told = Table(caption="Where the numbers come from", head=("What", "Value"), rows=tuple(rows))
    failures = f"{len(evidence.failures)} instances failed."
    return notebook.table(
        told, evidence.badge, conclusion=f"{evidence.note or ''} {failures}".strip()
    )


def source(*functions: Callable[..., Any]) -> Shown:
    """The very source of *functions*, as it runs."""
    return notebook.together(
        *(
            notebook.listing(f"source of {function.__name__}", inspect.getsource(function))
            for function in functions
        )
    )


def waterfall(evidence: Evidence) -> Shown:
    """When each phase was reached, up to the first output."""
    phases = {evidence.arm(name): [look.phases for look in evidence.of(name)] for name in SUBJECTS}
    return notebook.waterfall(phases, evidence.badge)


def identity(evidence: Evidence) -> Shown:
    """What the instances of each subject found when they looked around."""
    rows = []
    for fact in _FACTS:
        seen = [values(evidence.of(name), fact) for name in SUBJECTS]
        word = "= same" if len(set(seen)) == 1 and len(seen[0]) == 1 else "≠ not"
        rows.append((fact, *(_seen(fact, each) for each in seen), word))
    arms = [evidence.arm(name) for name in SUBJECTS]
    told = Table(
        caption="Identity facts, read inside the instances",
        head=("Fact", *(subject(arm) for arm in arms), "Everywhere"),
        rows=tuple(rows),
    )
    same = ", ".join(row[0] for row in rows if row[-1] == "= same") or "nothing"
    return notebook.table(told, evidence.badge, conclusion=f"The same everywhere: {same}.")


def memory(evidence: Evidence) -> Shown:
    """What one idle instance takes, alone and with a second one beside it, by definition."""
    lanes = []
    for name in SUBJECTS:
        for word, looks in (("alone", evidence.of(name)), ("one of two", evidence.pair_of(name))):
            told = {definition: _median(looks, definition) for definition in _MEMORY}
            lanes.append(Lane(name=f"{subject(evidence.arm(name))}, {word}", values=told))
    return notebook.marks(
        "Memory of one idle instance",
        lanes,
        "bytes",
        evidence.badge,
        conclusion="Median by definition; all read from the host, so a vm is its QEMU process.",
    )


def pairs(evidence: Evidence) -> Shown:
    """Two instances at once: the sum of RSS beside the memory that is really in use."""
    rows = []
    for name in SUBJECTS:
        looks = evidence.pair_of(name)
        sums = [_sum(looks, definition) for definition in _MEMORY]
        rss, pss = sums[0], sums[1]
        twice = _GAP if rss is None or pss is None else format_bytes(rss - pss)
        cells = (_GAP if each is None else format_bytes(each) for each in sums)
        rows.append((subject(evidence.arm(name)), *cells, twice))
    head = ("Subject", *(f"sum of {name.upper()}" for name in _MEMORY), "RSS - PSS")
    told = Table(caption="Two idle instances at once", head=head, rows=tuple(rows))
    return notebook.table(
        told,
        evidence.badge,
        conclusion="RSS counts a shared page once for every process; PSS counts it once in all.",
    )


def plan_by_call(evidence: Evidence) -> Shown:
    """The container's plan, counted by kernel call, and the whole of it below."""
    steps = [match for line in evidence.plan.splitlines() if (match := _STEP.fullmatch(line))]
    counted = Counter(step["call"] for step in steps)
    reasons: dict[str, list[str]] = {}
    for step in steps:
        reasons.setdefault(step["call"], []).append(step["reason"])
    told = Table(
        caption="Kernel calls that make the container",
        head=("Call", "Times", "The first one's reason"),
        rows=tuple((call, str(times), reasons[call][0]) for call, times in counted.most_common()),
    )
    conclusion = f"One clone and {len(steps)} steps; not one of them is named 'container'."
    return notebook.together(
        notebook.table(told, evidence.badge, conclusion=conclusion),
        notebook.listing("the whole plan, in order", evidence.plan),
    )


def compare(prediction: Prediction, evidence: Evidence) -> Shown:
    """What you wrote down, beside what was measured."""
    starts, amounts = [], []
    for name in SUBJECTS:
        looks = evidence.of(name)
        start = median(look.phases["output"] for look in looks) if looks else None
        who = subject(evidence.arm(name))
        starts.append(Lane(name=who, values=_beside(prediction.start_ns(name), start)))
        used = _median(looks, "pss")
        amounts.append(Lane(name=who, values=_beside(prediction.memory_bytes(name), used)))
    return notebook.together(
        notebook.marks(
            "Start: predicted and measured", starts, "ns", evidence.badge,
            conclusion=_missed(starts, format_ns),
        ),
        notebook.marks(
            "Memory (PSS): predicted and measured", amounts, "bytes", evidence.badge,
            conclusion=_missed(amounts, format_bytes),
        ),
    )  # fmt: skip


def claims(evidence: Evidence) -> Shown:
    """Sentences from an introduction to Docker, and what this evidence says about them."""
    told = Table(
        caption="Claims",
        head=("Claim", "The text", "In English", "Observed", "Verdict", "Caveat"),
        rows=tuple(
            (each.key, each.quote, each.english, each.observed, each.judgement, each.caveat)
            for each in judged(evidence)
        ),
    )
    return notebook.table(told, evidence.badge)


def _seen(fact: str, seen: frozenset[object]) -> str:
    if not seen:
        return _GAP
    if len(seen) > 1:
        return f"{len(seen)} different values"
    (value,) = seen
    if fact.endswith("_bytes") and isinstance(value, int):
        return format_bytes(value)
    text = _GAP if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if len(text) > 36 else text


def _median(looks: tuple[Look, ...], definition: str) -> float | None:
    known = [look.memory_bytes[definition] for look in looks if definition in look.memory_bytes]
    return median(known) if known else None


def _sum(looks: tuple[Look, ...], definition: str) -> int | None:
    """None if the pair or one of its readings is missing: a gap is not zero."""
    known = [look.memory_bytes.get(definition) for look in looks]
    present = [value for value in known if value is not None]
    return sum(present) if present and len(present) == len(known) else None


def _beside(predicted: float | None, measured: float | None) -> dict[str, float | None]:
    return {"predicted": predicted, "measured (median)": measured}


def _missed(lanes: list[Lane], written: Callable[[float], str]) -> str:
    """How far off each prediction was, in words."""
    told = []
    for lane in lanes:
        predicted, measured = lane.values.values()
        if predicted is None or measured is None:
            continue
        high = predicted > measured
        factor = predicted / measured if high else measured / predicted
        word = "high" if high else "low"
        told.append(f"{lane.name}: {factor:.3g} times too {word} ({written(measured)} measured)")
    return "; ".join(told) + "." if told else "You predicted nothing here."
