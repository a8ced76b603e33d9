"""Lesson 1, one image three ways: what its cells call, and the checks of its exercises."""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from notebooks.course import recording
from notebooks.course.checks import Case, Verdict, check
from notebooks.course.evidence import SUBJECTS, Evidence, Look
from notebooks.course.predictions import Prediction

NAME = "01-one-image-three-ways"

Groups = set[frozenset[str]]
Facts = Mapping[str, Mapping[str, Any]]
Phases = Mapping[str, int]
Memory = Mapping[str, int]

_MADE_UP = 20
_PAGE = 4096

predict = Prediction


def gather(mode: str) -> Evidence:
    """The lesson's evidence; see ``recording.gather``."""
    return recording.gather(NAME, mode)


def facts_of(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """The identity facts of the first instance of each subject."""
    return {name: dict(looks[0].facts) for name in SUBJECTS if (looks := evidence.of(name))}


def check_kernels(
    function: Callable[[Facts], Groups], evidence: Evidence, *, seed: int = 1
) -> Verdict:
    """Exercise 2: which subjects share a kernel? Groups of names, told from facts."""
    real = facts_of(evidence)
    cases = [Case(given=real, right=kernels(real), story="the instances above", seen=True)]
    chance = random.Random(seed)  # noqa: S311 - a game to repeat, not a secret
    for number in range(1, _MADE_UP + 1):
        made = _made_up_facts(chance, real)
        cases.append(Case(given=made, right=kernels(made), story=f"made-up machine {number}"))
    return check("exercise 2, kernels", function, cases, _explain_kernels)


def check_longest_step(
    function: Callable[[Phases], tuple[str, str, int]], evidence: Evidence, *, seed: int = 1
) -> Verdict:
    """Exercise 1: between which two neighbouring phases did most of the time pass?"""
    cases = [
        Case(
            given=look.phases,
            right=longest_step(look.phases),
            story=f"the {name} above",
            seen=True,
        )
        for name in reversed(SUBJECTS)
        for look in evidence.of(name)[:1]
    ]
    chance = random.Random(seed)  # noqa: S311 - as above
    for number in range(1, _MADE_UP + 1):
        made = _made_up_phases(chance)
        story = f"made-up instance {number}"
        cases.append(Case(given=made, right=longest_step(made), story=story))
    return check("exercise 1, longest step", function, cases, _explain_step)


def check_really_used(
    function: Callable[[Sequence[Memory]], int | None], evidence: Evidence, *, seed: int = 1
) -> Verdict:
    """Exercise 3: how many bytes do these instances take together? None if it cannot be told."""
    cases = [
        Case(
            given=given,
            right=really_used(given),
            story=f"both instances of {name} above",
            seen=True,
        )
        for name in reversed(SUBJECTS)
        if (given := [_amounts(look) for look in evidence.pair_of(name)])
    ]
    chance = random.Random(seed)  # noqa: S311 - as above
    for number in range(1, _MADE_UP + 1):
        made = _made_up_memory(chance, gap=number % 4 == 0)
        story = f"made-up set {number} of {len(made)} instances"
        cases.append(Case(given=made, right=really_used(made), story=story))
    return check("exercise 3, memory", function, cases, _explain_memory)


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


def _explain_kernels(case: Case, answer: Any) -> str:
    if not isinstance(answer, set):
        return f"a set of frozensets is wanted, not {_short(answer)}."
    given: Facts = case.given
    by_release = {each["kernel_release"] for each in given.values()}
    if len(answer) == len(by_release) != len(case.right):
        return "two kernels can be of the same release. Which fact belongs to one boot only?"
    return f"{len(answer)} groups were found where there are {len(case.right)} kernels."


def _explain_step(case: Case, answer: Any) -> str:
    if not isinstance(answer, tuple) or len(answer) != 3:
        return f"a tuple (before, after, ns) is wanted, not {_short(answer)}."
    phases: Phases = case.given
    before, after, _ = answer
    if before not in phases or after not in phases:
        return f"there is no step from {before!r} to {after!r}; phases that were not seen differ."
    between = [n for n, at in phases.items() if phases[before] < at < phases[after]]
    if between:
        return f"{before!r} and {after!r} are no neighbours: {between[0]!r} lies between them."
    return "another step took longer. Does the order of a mapping say anything about time?"


def _explain_memory(case: Case, answer: Any) -> str:
    readings: Sequence[Memory] = case.given
    if case.right is None:
        return "one instance has no PSS. A gap is not zero: then the sum cannot be told."
    if answer == sum(each["rss"] for each in readings):
        return "that counts a page that two instances share twice."
    if answer == sum(each["uss"] for each in readings):
        return "that leaves out every page that two instances share."
    return f"{_short(answer)} is not what they take together ({len(readings)} instances)."


def _short(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 60 else f"{text[:57]}..."
