"""Checks of exercises: a student's function meets real and made-up cases; nothing raises."""

import copy
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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

    def __repr__(self) -> str:
        """One line that a test and a screen reader can read."""
        return f"{_GLYPHS[self.status]} {self.exercise}: {self.status}. {self.hint}"

    def _repr_html_(self) -> str:
        strong = f"{_GLYPHS[self.status]} {self.exercise}: {self.status}"
        return f"<p role='status'><b>{html.escape(strong)}</b> {html.escape(self.hint)}</p>"


def check(
    exercise: str,
    function: Callable[[Any], Any],
    cases: Sequence[Case],
    explain: Callable[[Case, Any], str],
) -> Verdict:
    """Try *function* on every case; the first wrong answer is explained by *explain*.

    The first case comes from the lesson's own evidence. A function that answers it with nothing
    (``...`` or None) has not been written yet.
    """

    def said(status: Status, hint: str) -> Verdict:
        return Verdict(exercise=exercise, status=status, hint=hint)

    for number, case in enumerate(cases):
        try:
            answer = function(copy.deepcopy(case.given))
        except Exception as error:  # noqa: BLE001 - whatever a student's code raises
            return said("fail", f"On {case.story} it raised {type(error).__name__}: {error}")
        if number == 0 and (answer is None or answer is ...):
            return said("todo", "Write the function's body, then run this cell again.")
        if not _same(answer, case.right):
            return said("fail", f"On {case.story}: {explain(case, answer)}")
    seen = sum(case.seen for case in cases)
    return said("pass", f"Right on {len(cases)} cases; {seen} of them you saw above.")


def _same(answer: Any, right: Any) -> bool:
    """Equal, and of a kind: True is not 1, a list is not a tuple."""
    try:
        return type(answer) is type(right) and bool(answer == right)
    except Exception:  # noqa: BLE001 - an answer may be an object that cannot be compared
        return False
