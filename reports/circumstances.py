"""Under what circumstances a run was measured, as text in tables: who, where, from what."""

import json
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.results import Results, Run
from benchmarks.summary import Summary
from reports.style import NOTHING, format_bytes, format_ns, format_percent, subject
from reports.table import Table
from reports.words import ENGLISH, Words


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
    told = {name: fact for name, fact in run.environment.items() if name != "during"}
    pairs = [*_flat(told, words)]  # block by block it is in the checks, and in the data
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
        *(("protocol", told) for told in [_protocol(run, words)] if told),
        ("outcome", run.outcome),
    ]
    told = tuple((words(f"record.{name}"), value) for name, value in rows)
    return Table(caption=words("caption.provenance"), head=_pair(words), rows=told)


def _protocol(run: Run, words: Words) -> str:
    """Why there are as many blocks as there are."""
    stated = run.protocol
    if stated is None:
        return ""
    told = [words("word.warmup")] if stated.warmup else []
    if (asked := stated.precision_ratio) is not None:
        known = stated.reached_ratio
        reached = words("word.unknown") if known is None else format_percent(known)
        told.append(words("word.pilot", count=stated.pilot_blocks))
        told.append(words("word.precision", asked=format_percent(asked), reached=reached))
    if stated.budget_s is not None:
        told.append(words("word.budget", budget=format_ns(stated.budget_s * 1e9)))
    return "; ".join(told)


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
