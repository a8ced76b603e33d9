"""One rung of the ladder of what this machine can do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What was tried, what came of it, how to have it, and what is lost without it.

    ``ok`` is None for what was not tried, because an earlier rung failed or because nothing
    needs it; ``found`` says which. ``costs`` names backends, verbs and options.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None
    costs: tuple[str, ...] = ()


def found_of(parts: Iterable[str], refused: Mapping[str, str]) -> str:
    """Which of *parts* there are, and those that were *refused* by reason (pure).

    A reason is what stands behind the last colon: the calls differ, the errno is often one.
    """
    reasons: dict[str, list[str]] = {}
    for part, why in refused.items():
        reasons.setdefault(why.rpartition(": ")[2], []).append(part)
    there = ", ".join(part for part in parts if part not in refused)
    absent = (f"no {', '.join(names)}: {reason}" for reason, names in reasons.items())
    return "; ".join(filter(None, [there, *absent]))
