"""What could have spoiled a run: each check with what was seen and what it may do. Pure.

A check that the run's record cannot answer says so; it never passes. The thresholds are common
practice for quiet machines (load 0.2 a processor, 0.5 % stolen time) and are told with each
verdict. The environment is a stranger's JSON: whatever is in it, a check has an answer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from benchmarks.results import Results, Run
from benchmarks.stats import MIN_BLOCKS, margin_of
from benchmarks.summary import Floor, Summary
from reports.style import format_bytes, format_percent, printable, subject
from reports.words import ENGLISH, Words

LOAD_FOR_EACH_CPU = 0.2
STOLEN_SHARE = 0.005
INSTRUMENT_SHARE = 0.05
_TICKS_PER_S = 100
"""USER_HZ: what /proc/stat counts in on every Linux this runs on."""
_STEADY_CLOCKS = {"tsc", "kvm-clock", "arch_sys_counter"}
_NO_SMT = {"off", "notsupported", "notimplemented", "forceoff"}


class State(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about a run; ``effect`` says what a bad answer may do to the numbers."""

    name: str
    title: str
    state: State
    seen: str
    effect: str


Answer = tuple[State, str]


def checks(results: Results, summary: Summary, words: Words = ENGLISH) -> tuple[Check, ...]:
    """Every check, in the order: the design of the run, the samples, the machine."""
    answers: dict[str, Answer] = {
        "blocks": _blocks(results.run, words),
        "order": _order(results.run),
        "aa": _control(summary.floors, words),
        "equal": _equal(results.run, summary, words),
        "complete": _complete(results, words),
        "accelerator": _accelerator(results.run, words),
    }
    for name, answer in _MACHINE.items():
        answers[name] = answer(results.run, words)
    return tuple(
        Check(
            name=name,
            title=words(f"check.{name}.title"),
            state=state,
            seen=printable(seen, limit=300),
            effect=words(f"check.{name}.effect"),
        )
        for name, (state, seen) in answers.items()
    )


def _blocks(run: Run, words: Words) -> Answer:
    seen = words("check.blocks.seen", count=run.plan.blocks, needed=MIN_BLOCKS)
    if run.protocol is not None and run.protocol.warmup:
        seen += words("check.blocks.warmup")
    return (State.PASS if run.plan.blocks >= MIN_BLOCKS else State.FAIL), seen


def _order(run: Run) -> Answer:
    is_random = "random" in run.plan.order.casefold()
    return (State.PASS if is_random else State.FAIL), f"{run.plan.order}; seed {run.plan.seed}"


def _control(floors: tuple[Floor, ...], words: Words) -> Answer:
    known = [each for each in floors if each.floor is not None]
    if not known:
        return State.UNKNOWN, words("check.aa.none")
    apart = [
        each.metric.name
        for each in known
        if each.ratio and each.ratio.ci95 and not each.ratio.ci95.low <= 1 <= each.ratio.ci95.high
    ]
    wide = [
        each.metric.name
        for each in known
        if margin_of(each.metric.name, each.floor) > margin_of(each.metric.name, None)
    ]
    worst = max(known, key=lambda each: each.floor or 0)
    seen = words("check.aa.seen", metric=worst.metric.name, floor=format_percent(worst.floor or 0))
    if apart:
        seen += words("check.aa.apart", metrics=", ".join(apart))
    if wide:
        seen += words("check.aa.wide", metrics=", ".join(wide))
    return (State.WARN if apart or wide else State.PASS), seen


def _equal(run: Run, summary: Summary, words: Words) -> Answer:
    facts = {unequal.fact for unequal in summary.inequalities}
    if not summary.identities:
        return State.UNKNOWN, words("check.equal.unread")
    if not facts:
        return State.PASS, words("check.equal.same")
    notes = [f"{subject(arm)}: {arm.note}" for arm in run.plan.backends if arm.note]
    seen = words("check.equal.differ", facts=", ".join(sorted(facts)))
    told = f"{seen} {'; '.join(notes)}" if notes else seen
    return (State.FAIL if "rootfs_fingerprint" in facts else State.WARN), told


def _complete(results: Results, words: Words) -> Answer:
    """Cells of the plan without a value, whatever the reason."""
    troubled = sum(sample.status != "ok" for sample in results.samples if not sample.warmup)
    retried = sum(sample.attempt > 1 for sample in results.samples if not sample.warmup)
    seen = words(
        "check.complete.seen",
        outcome=results.run.outcome,
        troubled=troubled,
        retried=retried,
        rows=len(results.samples),
    )
    is_whole = results.run.outcome == "complete" and results.torn is None
    if not is_whole:
        return State.FAIL, seen
    return (State.WARN if troubled or retried else State.PASS), seen


def _accelerator(run: Run, words: Words) -> Answer:
    emulated = [subject(arm) for arm in run.plan.backends if arm.accelerator == "tcg"]
    if emulated:
        return State.WARN, words("check.accelerator.tcg", who=", ".join(emulated))
    used = [subject(arm) for arm in run.plan.backends if arm.accelerator is not None]
    seen = ", ".join(used) or words("check.accelerator.none")
    return State.PASS, seen


def _hypervisor(run: Run, words: Words) -> Answer:
    match run.environment.get("hypervisor"):
        case True:
            return State.WARN, words("check.hypervisor.yes")
        case False:
            return State.PASS, words("check.hypervisor.no")
        case _:
            return State.UNKNOWN, words("check.unread")


def _load(run: Run, words: Words) -> Answer:
    before, after = (_load_average(run, when) for when in ("before", "after"))
    cpus = _number(run.environment.get("cpus"))
    if before is None or not cpus:
        return State.UNKNOWN, words("check.unread")
    seen = words(
        "check.load.seen",
        before=f"{before:.2f}",
        after=words("number.none") if after is None else f"{after:.2f}",
        limit=f"{LOAD_FOR_EACH_CPU * cpus:.2g}",
    )
    return (State.WARN if before > LOAD_FOR_EACH_CPU * cpus else State.PASS), seen


def _steal(run: Run, words: Words) -> Answer:
    before, after = (
        _number(_table(run.environment.get(when)).get("stolen_ticks"))
        for when in ("before", "after")
    )
    seconds, cpus = _seconds(run), _number(run.environment.get("cpus"))
    if before is None or after is None or not seconds or not cpus:
        return State.UNKNOWN, words("check.unread")
    share = max(0.0, after - before) / (_TICKS_PER_S * seconds * cpus)
    seen = words(
        "check.steal.seen", share=format_percent(share), limit=format_percent(STOLEN_SHARE)
    )
    return (State.WARN if share > STOLEN_SHARE else State.PASS), seen


def _governor(run: Run, words: Words) -> Answer:
    return _chosen(run.environment.get("governor"), {"performance"}, words)


def _smt(run: Run, words: Words) -> Answer:
    return _chosen(run.environment.get("smt"), _NO_SMT, words)


def _swap(run: Run, words: Words) -> Answer:
    size = _number(run.environment.get("swap_bytes"))
    if size is None:
        return State.UNKNOWN, words("check.unread")
    return (State.WARN if size else State.PASS), format_bytes(size)


def _turbo(run: Run, words: Words) -> Answer:
    match run.environment.get("turbo"):
        case True:
            return State.WARN, words("check.turbo.on")
        case False:
            return State.PASS, words("check.turbo.off")
        case _:
            return State.UNKNOWN, words("check.unread")


def _thermal(run: Run, words: Words) -> Answer:
    return _none_more(run, "throttled", words)


def _swapping(run: Run, words: Words) -> Answer:
    return _none_more(run, "swapped_pages", words)


def _neighbours(run: Run, words: Words) -> Answer:
    """Other virtual machines: before the run none of those that run is ours."""
    count = _number(_table(run.environment.get("before")).get("virtual_machines"))
    if count is None:
        return State.UNKNOWN, words("check.unread")
    seen = words("check.neighbours.seen", count=f"{count:.0f}")
    return (State.WARN if count else State.PASS), seen


def _instrument(run: Run, words: Words) -> Answer:
    """What the harness used of a processor while instances were alive: it should be waiting."""
    used = _table(run.environment.get("instrument"))
    cpu_ns, alive_ns = (_number(used.get(k)) for k in ("harness_cpu_ns", "instances_alive_ns"))
    if cpu_ns is None or not alive_ns:
        return State.UNKNOWN, words("check.instrument.none")
    share = max(0.0, cpu_ns / alive_ns)
    seen = words(
        "check.instrument.seen",
        share=format_percent(share),
        limit=format_percent(INSTRUMENT_SHARE),
    )
    return (State.WARN if share > INSTRUMENT_SHARE else State.PASS), seen


def _none_more(run: Run, name: str, words: Words) -> Answer:
    """A count since the boot that must not grow while the run is on; told with the worst block."""
    before, after = (
        _number(_table(run.environment.get(when)).get(name)) for when in ("before", "after")
    )
    if before is None or after is None:
        return State.UNKNOWN, words("check.unread")
    more = max(0.0, after - before)
    seen = words("check.more", count=f"{more:.0f}")
    blocks = _grown(run, name, before)
    if blocks:
        seen += words("check.in_blocks", blocks=", ".join(blocks[:8]))
    return (State.WARN if more else State.PASS), seen


def _grown(run: Run, name: str, before: float) -> list[str]:
    """The blocks during which the count grew."""
    during = run.environment.get("during")
    grown = []
    for each in during if isinstance(during, list) else []:
        now = _number(_table(each).get(name))
        if now is not None and now > before:
            grown.append(str(_table(each).get("block")))
        before = before if now is None else now
    return grown


def _thp(run: Run, words: Words) -> Answer:
    return _chosen(run.environment.get("transparent_hugepages"), {"madvise", "never"}, words)


def _ksm(run: Run, words: Words) -> Answer:
    return _chosen(run.environment.get("ksm"), {"0"}, words)


def _clocksource(run: Run, words: Words) -> Answer:
    return _chosen(run.environment.get("clocksource"), _STEADY_CLOCKS, words)


_MACHINE: Mapping[str, Callable[[Run, Words], Answer]] = {
    "hypervisor": _hypervisor,
    "load": _load,
    "steal": _steal,
    "governor": _governor,
    "turbo": _turbo,
    "thermal": _thermal,
    "smt": _smt,
    "swap": _swap,
    "swapping": _swapping,
    "neighbours": _neighbours,
    "thp": _thp,
    "ksm": _ksm,
    "clocksource": _clocksource,
    "instrument": _instrument,
}


def _chosen(value: object, good: set[str], words: Words) -> Answer:
    """A setting that is one word; None is a machine that does not show it."""
    if not isinstance(value, str):
        return State.UNKNOWN, words("check.unread")
    return (State.PASS if value in good else State.WARN), value


def _load_average(run: Run, when: str) -> float | None:
    averages = _table(run.environment.get(when)).get("load_averages")
    return _number(averages[0]) if isinstance(averages, list) and averages else None


def _seconds(run: Run) -> float | None:
    try:
        start = datetime.fromisoformat(run.started_at)
        return (datetime.fromisoformat(run.ended_at or "") - start).total_seconds()
    except (ValueError, TypeError):
        return None


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]  # narrowed above
