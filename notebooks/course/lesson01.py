"""Lesson 1, one image three ways: what its cells call, and the checks of its exercises."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from notebooks.course import recording
from notebooks.course.checks import Case, Verdict, check
from notebooks.course.evidence import SUBJECTS, Evidence, Look
from notebooks.course.predictions import Prediction
from notebooks.course.show import Show
from notebooks.course.wording import words_of
from reports.notebook import Shown, listing, together
from reports.words import Words

NAME = "01-one-image-three-ways"

Groups = set[frozenset[str]]
Facts = Mapping[str, Mapping[str, Any]]
Phases = Mapping[str, int]
Memory = Mapping[str, int]
Series = Mapping[int, int]
_Told = tuple[Any, Mapping[str, object]]
"""What a student's function is given, and what the story of it tells."""

_MADE_UP = 20
_PAGE = 4096
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The lesson in one language: what its cells call."""

    words: Words

    @property
    def show(self) -> Show:
        """Evidence, to look at."""
        return Show(words=self.words)

    def predict(self, **answers: float | None) -> Prediction:
        """What you expect. Raises NotAPrediction for what is no positive number."""
        return Prediction(words=self.words, **answers)

    def gather(self, mode: str) -> Evidence:
        """The lesson's evidence; see ``recording.gather``."""
        return recording.gather(NAME, mode, self.words)

    def ask(self, evidence: Evidence, *argv: str) -> Shown:
        """What *argv* prints inside each of the three, where *evidence* is from this machine."""
        if evidence.recorded is not None:
            said = self.words("lesson.nothing_started")
            return listing(" ".join(argv), said, is_open=True)
        from notebooks.course import observing  # noqa: PLC0415 - a recording needs no engine

        return together(
            *(listing(name, observing.ask(name, *argv), is_open=True) for name in SUBJECTS)
        )

    def check_longest_step(
        self, function: Callable[[Phases], tuple[str, str, int]], evidence: Evidence, seed: int = 1
    ) -> Verdict:
        """Exercise 1: between which two neighbouring phases did most of the time pass?"""
        real = [
            (look.phases, {"name": name})
            for name in reversed(SUBJECTS)
            for look in evidence.of(name)[:1]
        ]
        made: Iterable[_Told] = ((_made_up_phases(chance), {}) for chance in _chances(seed))
        return self._check("longest_step", function, longest_step, real, made, _explain_step)

    def check_kernels(
        self, function: Callable[[Facts], Groups], evidence: Evidence, seed: int = 1
    ) -> Verdict:
        """Exercise 2: which subjects share a kernel? Groups of names, told from facts."""
        real = facts_of(evidence)
        made: Iterable[_Told] = ((_made_up_facts(chance, real), {}) for chance in _chances(seed))
        return self._check("kernels", function, kernels, [(real, {})], made, _explain_kernels)

    def check_really_used(
        self,
        function: Callable[[Sequence[Memory]], int | None],
        evidence: Evidence,
        seed: int = 1,
    ) -> Verdict:
        """Exercise 3: how many bytes do these instances take together? None: cannot be told."""
        real = [
            (given, {"name": name})
            for name in reversed(SUBJECTS)
            if (given := [_amounts(look) for look in evidence.pair_of(name)])
        ]
        dealt = (
            _made_up_memory(chance, gap=number % 4 == 0)
            for number, chance in enumerate(_chances(seed), start=1)
        )
        made: Iterable[_Told] = ((each, {"count": len(each)}) for each in dealt)
        return self._check("memory", function, really_used, real, made, _explain_memory)

    def check_price(
        self, function: Callable[[Series], float | None], evidence: Evidence, seed: int = 1
    ) -> Verdict:
        """Exercise 4: how much more is taken for each byte more that is given?"""
        real = [
            (given, {"name": name})
            for name in ("vm", "container")
            if len(given := evidence.pss_by_limit(name)) > 1
        ]
        made: Iterable[_Told] = (
            (_made_up_series(chance, count=1 if number % 5 == 0 else chance.randint(2, 5)), {})
            for number, chance in enumerate(_chances(seed), start=1)
        )
        return self._check("price", function, price, real, made, _explain_price)

    def _check(
        self,
        exercise: str,
        function: Callable[[Any], Any],
        right: Callable[[Any], Any],
        real: Iterable[_Told],
        made_up: Iterable[_Told],
        explain: Callable[[Case, Any, Words], str],
    ) -> Verdict:
        """Try *function* where *right* knows the answer: first on what was really seen."""
        words, key = self.words, f"exercise.{exercise}"
        cases = [
            Case(given=given, right=right(given), story=words(f"{key}.seen", **told), seen=True)
            for given, told in real
        ]
        cases += [
            Case(
                given=given,
                right=right(given),
                story=words(f"{key}.made_up", number=number, **told),
            )
            for number, (given, told) in enumerate(made_up, start=1)
        ]

        def explained(case: Case, answer: Any) -> str:
            return explain(case, answer, words)

        return check(words(f"{key}.name"), function, cases, explained, words)


def begin(language: str = "en") -> Lesson:
    """The lesson, speaking *language*: ``en`` or ``ko``. Raises UnknownLanguage."""
    return Lesson(words=words_of(language))


def facts_of(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """The identity facts of the first instance of each subject."""
    return {name: dict(looks[0].facts) for name in SUBJECTS if (looks := evidence.of(name))}


def kernels(facts: Facts) -> Groups:
    """Names that have one boot_id run on one kernel, whatever release it is of."""
    boot_ids = {each["boot_id"] for each in facts.values()}
    return {
        frozenset(name for name, each in facts.items() if each["boot_id"] == boot_id)
        for boot_id in boot_ids
    }


def longest_step(phases: Phases) -> tuple[str, str, int]:
    """The neighbours, in time, that are farthest apart, and how far; the first of equals."""
    names = sorted(phases, key=lambda name: phases[name])
    steps = [(before, after, phases[after] - phases[before]) for before, after in pairwise(names)]
    return max(steps, key=lambda step: step[2])


def really_used(readings: Sequence[Memory]) -> int | None:
    """The sum of PSS, in which every shared page counts once; None if one PSS is unknown."""
    known = [each["pss"] for each in readings if "pss" in each]
    return sum(known) if len(known) == len(readings) else None


def price(series: Series) -> float | None:
    """Bytes taken for each byte given, from the least to the most given; None for one point."""
    if len(series) < 2:
        return None
    least, most = min(series), max(series)
    return (series[most] - series[least]) / (most - least)


def _amounts(look: Look) -> dict[str, int]:
    """What processes hold; the cgroup's and the instrument's amounts are another question."""
    return {name: look.memory_bytes[name] for name in ("rss", "pss", "uss") if name in look.memory}


def _made_up_facts(chance: random.Random, real: Facts) -> dict[str, dict[str, Any]]:
    """Some subjects on some kernels; different kernels may well be of the same release."""
    names = [*SUBJECTS, "container-2", "vm-2"][: chance.randint(2, 5)]
    releases = [*{each["kernel_release"] for each in real.values()}, "6.1.0-made-up"]
    booted = [
        {"boot_id": f"{chance.getrandbits(128):032x}", "kernel_release": chance.choice(releases)}
        for _ in range(chance.randint(1, len(names)))
    ]
    return {name: dict(chance.choice(booted)) for name in names}


def _made_up_phases(chance: random.Random) -> dict[str, int]:
    """Phases with no two steps alike, some unseen, and in no order."""
    names = ["prepared", "engine", "kernel", "init", "exec", "output"]
    kept = [name for name in names if name == "output" or chance.random() < 0.8]
    at, phases = 0, {"request": 0}
    for name, step in zip(kept, chance.sample(range(1, 10**6), len(kept)), strict=True):
        at += step
        phases[name] = at
    shuffled = chance.sample(list(phases), len(phases))
    return {name: phases[name] for name in shuffled}


def _made_up_memory(chance: random.Random, *, gap: bool) -> list[dict[str, int]]:
    """Pages are dealt to instances, to one or to all of them; the readings follow from that."""
    count = chance.randint(2, 5)
    shared = count * chance.randint(1, 200)  # so that a page's share is a whole number of bytes
    own = [chance.randint(1, 500) for _ in range(count)]
    readings = [
        {"rss": (each + shared) * _PAGE, "pss": (each + shared // count) * _PAGE,
         "uss": each * _PAGE}
        for each in own
    ]  # fmt: skip
    if gap:
        del readings[chance.randrange(count)]["pss"]
    return readings


def _made_up_series(chance: random.Random, *, count: int) -> dict[int, int]:
    """Amounts of memory that were given, in no order, and what was taken of each."""
    given = chance.sample([64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048], count)
    base, slope = chance.randint(1, 300) * _MIB, chance.choice([0.0, 0.02, 0.3, 0.9])
    return {
        each * _MIB: base + int(each * _MIB * slope) + chance.randrange(_MIB) for each in given
    }


def _chances(seed: int) -> Iterator[random.Random]:
    """As many sources of chance as there are made-up cases; *seed* makes them repeatable."""
    chance = random.Random(seed)  # noqa: S311 - a game to repeat, not a secret
    return (random.Random(chance.random()) for _ in range(_MADE_UP))  # noqa: S311 - as above


def _explain_step(case: Case, answer: Any, words: Words) -> str:
    def said(key: str, **told: object) -> str:
        return words(f"exercise.longest_step.{key}", **told)

    if not isinstance(answer, tuple) or len(answer) != 3:
        return said("tuple", answer=_short(answer))
    phases: Phases = case.given
    before, after, _ = answer
    if before not in phases or after not in phases:
        return said("unknown", before=repr(before), after=repr(after))
    between = [n for n, at in phases.items() if phases[before] < at < phases[after]]
    if between:
        return said("between", before=repr(before), after=repr(after), middle=repr(between[0]))
    return said("another")


def _explain_kernels(case: Case, answer: Any, words: Words) -> str:
    def said(key: str, **told: object) -> str:
        return words(f"exercise.kernels.{key}", **told)

    if not isinstance(answer, set):
        return said("set", answer=_short(answer))
    given: Facts = case.given
    by_release = {each["kernel_release"] for each in given.values()}
    if len(answer) == len(by_release) != len(case.right):
        return said("release")
    if len(answer) == len(case.right):
        return said("members")
    return said("count", found=len(answer), right=len(case.right))


def _explain_memory(case: Case, answer: Any, words: Words) -> str:
    def said(key: str, **told: object) -> str:
        return words(f"exercise.memory.{key}", **told)

    readings: Sequence[Memory] = case.given
    if case.right is None:
        return said("gap")
    if answer == sum(each["rss"] for each in readings):
        return said("twice")
    if answer == sum(each["uss"] for each in readings):
        return said("leaves_out")
    return said("wrong", answer=_short(answer), count=len(readings))


def _explain_price(case: Case, answer: Any, words: Words) -> str:
    def said(key: str, **told: object) -> str:
        return words(f"exercise.price.{key}", **told)

    series: Series = case.given
    if case.right is None:
        return said("one")
    least, most = min(series), max(series)
    risen = series[most] - series[least]
    if answer == series[most] / most:
        return said("share")
    if answer == risen:
        return said("not_divided")
    if risen and answer == (most - least) / risen:
        return said("inverted")
    return said("wrong", answer=_short(answer))


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 60 else f"{text[:57]}..."
