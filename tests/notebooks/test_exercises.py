"""Right answers pass, unwritten ones wait, and each kind of wrong answer fails with a hint."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from notebooks.course import lesson01
from notebooks.course.checks import Case, check
from notebooks.course.evidence import Evidence

LESSON = lesson01.begin()
CHECKS: dict[str, Callable[..., Any]] = {
    "kernels": LESSON.check_kernels,
    "longest_step": LESSON.check_longest_step,
    "really_used": LESSON.check_really_used,
    "price": LESSON.check_price,
}
SEEDS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", CHECKS)
def test_the_right_answer_passes(name: str, seed: int, evidence: Evidence) -> None:
    verdict = CHECKS[name](getattr(lesson01, name), evidence, seed=seed)
    assert verdict.status == "pass", verdict


@pytest.mark.parametrize("answer", [None, ...])
@pytest.mark.parametrize("name", CHECKS)
def test_an_unwritten_answer_waits(name: str, answer: Any, evidence: Evidence) -> None:
    assert CHECKS[name](lambda _: answer, evidence).status == "todo"


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_right_for_the_evidence_alone_fails(name: str, evidence: Evidence) -> None:
    seen: list[object] = []

    def cheating(given: Any) -> Any:
        seen.append(getattr(lesson01, name)(given))
        return seen[0]

    assert CHECKS[name](cheating, evidence).status == "fail"


@pytest.mark.parametrize("name", CHECKS)
def test_code_that_raises_fails_and_does_not_raise(name: str, evidence: Evidence) -> None:
    verdict = CHECKS[name](lambda _: dict[str, int]()["no such key"], evidence)
    assert verdict.status == "fail"
    assert "KeyError" in verdict.hint


def by_release(facts: lesson01.Facts) -> lesson01.Groups:
    releases = {each["kernel_release"] for each in facts.values()}
    return {
        frozenset(n for n, each in facts.items() if each["kernel_release"] == release)
        for release in releases
    }


def all_apart(facts: lesson01.Facts) -> lesson01.Groups:
    return {frozenset({name}) for name in facts}


def by_name(facts: lesson01.Facts) -> lesson01.Groups:
    machines = {frozenset({name}) for name in facts if name.startswith("vm")}
    return machines | {frozenset(name for name in facts if not name.startswith("vm"))}


def in_given_order(phases: lesson01.Phases) -> tuple[str, str, int]:
    names = list(phases)
    steps = [(a, b, phases[b] - phases[a]) for a, b in pairwise(names)]
    return max(steps, key=lambda step: step[2])


def whole_time(phases: lesson01.Phases) -> tuple[str, str, int]:
    return ("request", "output", phases["output"])


def before_the_last(phases: lesson01.Phases) -> tuple[str, str, int]:
    *_, before, last = sorted(phases, key=lambda name: phases[name])
    return (before, last, phases[last] - phases[before])


def sum_of_rss(readings: Any) -> int:
    return sum(each["rss"] for each in readings)


def sum_of_uss(readings: Any) -> int:
    return sum(each["uss"] for each in readings)


def gaps_are_zero(readings: Any) -> int:
    return sum(each.get("pss", 0) for each in readings)


def share_of_the_most(series: lesson01.Series) -> float:
    return series[max(series)] / max(series)


def difference(series: lesson01.Series) -> float:
    return float(series[max(series)] - series[min(series)])


def upside_down(series: lesson01.Series) -> float:
    return (max(series) - min(series)) / (series[max(series)] - series[min(series)])


def first_to_last(series: lesson01.Series) -> float:
    (given, taken), *_, (most, more) = series.items()
    return (more - taken) / (most - given)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("kernels", by_release, "same release"),
        ("kernels", all_apart, "kernels"),
        ("kernels", by_name, "kernels"),
        ("kernels", lambda facts: [*lesson01.kernels(facts)], "set of frozensets"),
        ("longest_step", in_given_order, "On "),
        ("longest_step", whole_time, "lies between"),
        ("longest_step", before_the_last, "another step took longer"),
        ("longest_step", lambda phases: lesson01.longest_step(phases)[:2], "a tuple"),
        ("really_used", sum_of_rss, "twice"),
        ("really_used", sum_of_uss, "leaves out"),
        ("really_used", gaps_are_zero, "A gap is not zero"),
        ("really_used", lambda readings: float(sum_of_rss(readings)), "twice"),
        ("price", share_of_the_most, "how much of the limit was taken"),
        ("price", difference, "a difference in bytes"),
        ("price", upside_down, "upside down"),
        ("price", first_to_last, "On "),
        ("price", lambda series: lesson01.price(series) or 0.0, "only one limit"),
    ],
)
def test_wrong_answers_fail(
    name: str, wrong: Callable[[Any], Any], hint: str, seed: int, evidence: Evidence
) -> None:
    verdict = CHECKS[name](wrong, evidence, seed=seed)
    assert verdict.status == "fail"
    assert hint in verdict.hint


def test_a_function_cannot_change_what_it_is_judged_by(evidence: Evidence) -> None:
    def greedy(readings: Any) -> int | None:
        answer = lesson01.really_used(readings)
        readings.clear()
        return answer

    assert LESSON.check_really_used(greedy, evidence).status == "pass"


def test_an_answer_that_cannot_be_compared_is_wrong() -> None:
    class Odd:
        def __eq__(self, _: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    case = Case(given=1, right=Odd(), story="this")
    assert check("odd", lambda _: Odd(), [case], lambda *_: "wrong", LESSON.words).status == "fail"


def test_a_fraction_may_be_rounded_differently(evidence: Evidence) -> None:
    def nearly(series: lesson01.Series) -> float | None:
        known = lesson01.price(series)
        return None if known is None else known * (1 + 1e-12)

    assert LESSON.check_price(nearly, evidence).status == "pass"


def test_a_check_speaks_korean(evidence: Evidence) -> None:
    korean = lesson01.begin("ko")
    verdict = korean.check_really_used(sum_of_rss, evidence)
    assert repr(verdict).startswith("✘ 연습 3, 함께 쓰는 메모리: 다시. 위의 vm 두 개: ")
    assert verdict.status == "fail"


def test_a_verdict_is_readable_without_colour(evidence: Evidence) -> None:
    verdict = LESSON.check_kernels(lambda _: {"<b>"}, evidence)  # type: ignore[arg-type]
    assert repr(verdict).startswith("✘ exercise 2, kernels: fail. ")
    assert "kernels: fail" in verdict._repr_html_()
    assert "<b>'" not in verdict._repr_html_()
