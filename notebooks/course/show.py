"""What the cells of a lesson show: evidence, as tables and figures with a badge."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from notebooks.course.claims import EMULATED, values
from notebooks.course.claims import claims as judged
from notebooks.course.evidence import SUBJECTS, Evidence, Look
from notebooks.course.predictions import Prediction
from reports import notebook
from reports.notebook import Lane, Shown
from reports.style import NOTHING, format_bytes, format_ns, subject
from reports.table import Table
from reports.words import Words

_FACTS = (
    "rootfs_fingerprint", "kernel_release", "boot_id", "processes", "cpus", "memory_total_bytes",
    "clocksource",
)  # fmt: skip
_STEP = re.compile(
    r" +(?P<number>\d+)  (?P<kernel>(?:\w+ = )?(?P<call>\w+)\(.*\))  # (?P<reason>.*)"
)
_LANDMARKS = ("overlay", "pivot_root", "umount2", "prctl", "seccomp", "execveat")
"""Of the steps inside the clone: what each is told by, in the order in which they come."""
_MEMORY = ("rss", "pss", "uss")
_CLOSE = 1.1
"""A prediction this near, as a factor either way, is called close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """Evidence in one language; each method gives one thing to look at."""

    words: Words

    def provenance(self, evidence: Evidence) -> Shown:
        """Which machine this is about, how its virtual machines run, and what failed."""
        words, machine = self.words, evidence.environment
        cpu = machine["cpu"] or words("notebook.unnamed")
        counts = {
            "alone": len(evidence.looks),
            "pairs": len(evidence.pairs),
            "others": len(evidence.others),
        }
        limits = {"cpus": f"{evidence.cpus:g}", "memory": format_bytes(evidence.limit_bytes)}
        told = {
            "processor": words("origin.visible", cpu=cpu, cpus=machine["cpus"]),
            "kernel": str(machine["kernel"]),
            "cgroups": str(machine["cgroups"]),
            "accelerator": evidence.accelerator_sentence or words("lesson.no_accelerator"),
            "limits": words("origin.limited", **limits),
            "instances": words("origin.counted", **counts),
            "measured_by": f"isoscope {evidence.versions.get('isoscope', NOTHING)}",
        }
        rows = [(words(f"origin.{key}"), value) for key, value in told.items()]
        rows += [
            (words("origin.failed", backend=look.backend), str(look.error))
            for look in evidence.failures
        ]
        failures = words("origin.failures", count=len(evidence.failures))
        return self._table(
            "origin.title",
            (words("origin.what"), words("origin.value")),
            rows,
            evidence,
            f"{evidence.note or ''} {failures}".strip(),
        )

    def source(self, *functions: Callable[..., Any]) -> Shown:
        """The very source of *functions*, as it runs."""
        return notebook.together(
            *(
                notebook.listing(
                    self.words("source.title", name=function.__name__), inspect.getsource(function)
                )
                for function in functions
            )
        )

    def waterfall(self, evidence: Evidence) -> Shown:
        """When each phase was reached, up to the first output."""
        phases = {
            evidence.arm(name): [look.phases for look in evidence.of(name)] for name in SUBJECTS
        }
        return notebook.waterfall(phases, evidence.badge(self.words))

    def identity(self, evidence: Evidence) -> Shown:
        """What the instances of each subject found when they looked around."""
        words, rows, alike = self.words, [], []
        for fact in _FACTS:
            seen = [values(evidence.of(name), fact) for name in SUBJECTS]
            is_same = len(set(seen)) == 1 and len(seen[0]) == 1
            alike += [fact] if is_same else []
            verdict = words("identity.same" if is_same else "identity.differs")
            rows.append((fact, *(self._seen(fact, each) for each in seen), verdict))
        return self._table(
            "identity.title",
            (words("identity.fact"), *_names(evidence), words("identity.everywhere")),
            rows,
            evidence,
            words("identity.conclusion", facts=", ".join(alike) or words("identity.nothing")),
        )

    def memory(self, evidence: Evidence) -> Shown:
        """What one idle instance takes, alone and with a second one beside it, by definition."""
        lanes = []
        for name in SUBJECTS:
            who = subject(evidence.arm(name))
            for key, looks in (
                ("alone", evidence.of(name)),
                ("one_of_two", evidence.pair_of(name)),
            ):
                told = {definition.upper(): _median(looks, definition) for definition in _MEMORY}
                lanes.append(Lane(name=self.words(f"amounts.{key}", who=who), values=told))
        return notebook.marks(
            self.words("amounts.title"),
            lanes,
            "bytes",
            evidence.badge(self.words),
            conclusion=self.words("amounts.conclusion"),
        )

    def pairs(self, evidence: Evidence) -> Shown:
        """Two instances at once: the sum of RSS beside the memory that is really in use."""
        rows = []
        for name in SUBJECTS:
            sums = [_sum(evidence.pair_of(name), definition) for definition in _MEMORY]
            rss, pss = sums[0], sums[1]
            twice = None if rss is None or pss is None else rss - pss
            cells = (NOTHING if each is None else format_bytes(each) for each in (*sums, twice))
            rows.append((subject(evidence.arm(name)), *cells))
        sums_of = (self.words("amounts.sum_of", definition=name.upper()) for name in _MEMORY)
        return self._table(
            "amounts.pair_title",
            (self.words("head.subject"), *sums_of, "RSS - PSS"),
            rows,
            evidence,
            self.words("amounts.pair_conclusion"),
        )

    def plan(self, evidence: Evidence) -> Shown:
        """The container's plan: its landmarks, how often each call is made, and the whole."""
        words = self.words
        steps = [match for line in evidence.plan.splitlines() if (match := _STEP.fullmatch(line))]
        counted = Counter(step["call"] for step in steps).most_common()
        calls = "\n".join(f"{times:4}  {call}" for call, times in counted)
        return notebook.together(
            self._table(
                "plan.title",
                (words("plan.number"), words("plan.call"), words("plan.reason")),
                self._landmarks(evidence.plan),
                evidence,
                words("plan.conclusion", count=len(steps)),
            ),
            notebook.listing(words("plan.counted"), calls),
            notebook.listing(words("plan.whole"), evidence.plan),
        )

    def compare(self, prediction: Prediction, evidence: Evidence) -> Shown:
        """What you wrote down, beside what was measured."""
        words, badge = self.words, evidence.badge(self.words)
        note = words("compare.emulated") if evidence.accelerator == EMULATED else ""
        starts, amounts = [], []
        for name in SUBJECTS:
            looks = evidence.of(name)
            start = median(look.phases["output"] for look in looks) if looks else None
            who = subject(evidence.arm(name))
            starts.append(self._beside(who, prediction.start_ns(name), start))
            used = _median(looks, "pss")
            amounts.append(self._beside(who, prediction.memory_bytes(name), used))
        return notebook.together(
            notebook.marks(
                words("compare.start"), starts, "ns", badge,
                conclusion=f"{self._missed(starts, format_ns)} {note}".strip(),
            ),
            notebook.marks(
                words("compare.memory"), amounts, "bytes", badge,
                conclusion=f"{self._missed(amounts, format_bytes)} "
                + self._kernels(prediction, evidence),
            ),
        )  # fmt: skip

    def given(self, prediction: Prediction, evidence: Evidence) -> Shown:
        """What instances take that are given less or more memory."""
        words, lanes, told = self.words, [], []
        for name in ("container", "vm"):
            who, seen = subject(evidence.arm(name)), evidence.pss_by_limit(name)
            for limit, pss in seen.items():
                row = f"{who}, {format_bytes(limit)}"
                values: dict[str, float | None] = {
                    words("given.given"): limit, words("given.taken"): pss
                }  # fmt: skip
                if name == "vm":
                    values[words("given.predicted")] = prediction.given_bytes(limit)
                lanes.append(Lane(name=row, values=values))
            if len(seen) > 1:
                (low, least), (high, most) = min(seen.items()), max(seen.items())
                factors = {"times": f"{high / low:.3g}", "taken": f"{most / least:.3g}"}
                told.append(words("given.conclusion", who=who, **factors))
        return notebook.marks(
            words("given.title"), lanes, "bytes", evidence.badge(words),
            conclusion=" ".join(told) or words("given.unknown"),
        )  # fmt: skip

    def claims(self, evidence: Evidence) -> Shown:
        """Sentences from an introduction to Docker, and what this evidence says about them."""
        words = self.words
        rows = [
            (
                each.key.upper(),
                words(f"claim.{each.key}.says"),
                words.first(f"claim.{each.key}.{each.observed}", f"claims.{each.observed}"),
                words(f"judgement.{each.judgement}"),
                words(f"claim.{each.key}.{each.caveat}"),
            )
            for each in judged(evidence)
        ]
        head = tuple(
            words(f"claims.{key}") for key in ("claim", "says", "observed", "verdict", "caveat")
        )
        return self._table("claims.title", head, rows, evidence, "")

    def _table(
        self,
        title: str,
        head: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        evidence: Evidence,
        conclusion: str,
    ) -> Shown:
        told = Table(caption=self.words(title), head=head, rows=tuple(rows))
        return notebook.table(told, evidence.badge(self.words), conclusion=conclusion)

    def _seen(self, fact: str, seen: frozenset[object]) -> str:
        """One value, the range of several numbers, or how many values there were."""
        if len(seen) > 1:
            numbers = sorted(each for each in seen if isinstance(each, int | float))
            if len(numbers) == len(seen):
                low, high = _fact(fact, numbers[0]), _fact(fact, numbers[-1])
                return f"{low}\N{EN DASH}{high}"
            return self.words("identity.values", count=len(seen))
        return _fact(fact, *seen) if seen else NOTHING

    def _landmarks(self, plan: str) -> list[tuple[str, ...]]:
        """The steps that one should know; the numbers are those of the part they stand in."""
        before, _, inside = plan.partition("clone(")
        groups = [match for line in before.splitlines() if (match := _STEP.fullmatch(line))]
        flags, _, inside = inside.partition("\n")
        steps = [match for line in inside.splitlines() if (match := _STEP.fullmatch(line))]
        where = f"0\N{EN DASH}{len(groups) - 1}" if groups else self.words("plan.none")
        rows: list[tuple[str, ...]] = [
            (where, "mkdir, write", self.words("plan.groups")),
            ("clone", flags.removesuffix(")"), self.words("plan.clone")),
        ]
        for landmark in _LANDMARKS:
            found = [step for step in steps if _is_landmark(step, landmark)]
            ends = dict.fromkeys((found[0]["number"], found[-1]["number"])) if found else ()
            where = "\N{EN DASH}".join(ends) or self.words("plan.none")
            times = f" x {len(found)}" if len(found) > 1 else ""
            call = f"mount ({landmark})" if landmark == "overlay" else landmark
            rows.append((where, f"{call}{times}", self.words(f"plan.{landmark}")))
        return rows

    def _beside(self, who: str, predicted: float | None, measured: float | None) -> Lane:
        words = self.words
        values = {words("compare.predicted"): predicted, words("compare.measured"): measured}
        return Lane(name=who, values=values)

    def _missed(self, lanes: list[Lane], written: Callable[[float], str]) -> str:
        """How far off each prediction was, in words."""
        told = []
        for lane in lanes:
            predicted, measured = lane.values.values()
            if predicted is None or measured is None:
                continue
            is_high = predicted > measured
            factor = predicted / measured if is_high else measured / predicted
            key = "close" if factor < _CLOSE else "high" if is_high else "low"
            said = {"who": lane.name, "factor": f"{factor:.3g}", "value": written(measured)}
            told.append(self.words(f"compare.{key}", **said))
        return "; ".join(told) + "." if told else self.words("compare.nothing")

    def _kernels(self, prediction: Prediction, evidence: Evidence) -> str:
        looks = [look for name in SUBJECTS for look in evidence.of(name)]
        counted = {"counted": len(values(tuple(looks), "boot_id")), "instances": len(looks)}
        if prediction.kernels is None:
            return self.words("compare.kernels_open", **counted)
        return self.words("compare.kernels", predicted=f"{prediction.kernels:g}", **counted)


def _names(evidence: Evidence) -> tuple[str, ...]:
    return tuple(subject(evidence.arm(name)) for name in SUBJECTS)


def _is_landmark(step: re.Match[str], landmark: str) -> bool:
    """Whether *step* is one of the calls, or the mount, that *landmark* names."""
    if landmark == "overlay":
        return step["kernel"].startswith('mount("overlay"')
    if landmark == "prctl":
        return "PR_CAPBSET_DROP" in step["kernel"]
    return step["call"] == landmark


def _fact(fact: str, value: object) -> str:
    if fact.endswith("_bytes") and isinstance(value, int):
        return format_bytes(value)
    text = NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if len(text) > 36 else text


def _median(looks: tuple[Look, ...], definition: str) -> float | None:
    known = [look.memory_bytes[definition] for look in looks if definition in look.memory_bytes]
    return median(known) if known else None


def _sum(looks: tuple[Look, ...], definition: str) -> int | None:
    """None if the pair or one of its readings is missing: a gap is not zero."""
    known = [look.memory_bytes.get(definition) for look in looks]
    present = [value for value in known if value is not None]
    return sum(present) if present and len(present) == len(known) else None
