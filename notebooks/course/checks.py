"""Checks of exercises: a student's function meets real and made-up cases; nothing raises."""

import copy
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.words import Words

Status = Literal["todo", "pass", "fail"]
_GLYPHS: dict[Status, str] = {"todo": "○", "pass": "✔", "fail": "✘"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Arguments for the student's function, what is right, and whose data it is.

    *seen*: it is from the lesson's own evidence, not made up.
    """

    given: Any
    right: Any
    story: str
    seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an exercise stands; *hint* is computed from what the function really answered."""

    exercise: str
    status: Status
    hint: str
    words: Words

    def __repr__(self) -> str:
        """One line that a test and a screen reader can read."""
        return f"{self._standing}. {self.hint}"

    def _repr_html_(self) -> str:
        standing = html.escape(self._standing)
        return f'<p role="status"><b>{standing}</b> {html.escape(self.hint)}</p>'

    @property
    def _standing(self) -> str:
        told = self.words(f"check.{self.status}")
        return f"{_GLYPHS[self.status]} {self.exercise}: {told}"


def check(
    exercise: str,
    function: Callable[[Any], Any],
    cases: Sequence[Case],
    explain: Callable[[Case, Any], str],
    words: Words,
) -> Verdict:
    """Try *function* on every case; the first wrong answer is explained by *explain*.

    The first case comes from the lesson's own evidence. A function that answers it with nothing
    (``...`` or None) has not been written yet.
    """

    def said(status: Status, key: str, **told: object) -> Verdict:
        hint = words(f"check.{key}", **told)
        return Verdict(exercise=exercise, status=status, hint=hint, words=words)

    for number, case in enumerate(cases):
        try:
            answer = function(copy.deepcopy(case.given))
        except Exception as error:  # noqa: BLE001 - whatever a student's code raises
            kind = type(error).__name__
            return said("fail", "raised", story=case.story, kind=kind, error=error)
        if number == 0 and (answer is None or answer is ...):
            return said("todo", "write")
        if not _same(answer, case.right):
            return said("fail", "on", story=case.story, hint=explain(case, answer))
    return said("pass", "right", count=len(cases), seen=sum(case.seen for case in cases))


def _same(answer: Any, right: Any) -> bool:
    """Equal, and of a kind: True is not 1, a list is not a tuple. Fractions may be rounded."""
    try:
        if isinstance(right, float) and isinstance(answer, float):
            return math.isclose(answer, right, rel_tol=1e-9, abs_tol=1e-12)
        return type(answer) is type(right) and bool(answer == right)
    except Exception:  # noqa: BLE001 - an answer may be an object that cannot be compared
        return False
