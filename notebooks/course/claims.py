"""Sentences that people say about containers and virtual machines, judged by evidence (pure).

They stand in a Korean introduction to Docker. A verdict is as narrow as the evidence: what an
emulated processor cannot tell, it does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from notebooks.course.evidence import SUBJECTS, Evidence, Look

Judgement = Literal["confirmed", "confirmed_if", "refuted", "cannot_tell_here"]
Observed = Literal["yes", "no", "missing"]

EMULATED = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence and what follows for it; its words are the catalogue's, under ``claim.KEY``.

    ``observed`` says whether what the sentence needs was seen; ``caveat`` names its caveat.
    """

    key: str
    observed: Observed
    judgement: Judgement
    caveat: Literal["caveat", "emulated"] = "caveat"


def claims(evidence: Evidence) -> tuple[Claim, ...]:
    """What this evidence says about five sentences."""
    looks = {name: evidence.of(name) for name in SUBJECTS}
    emulated = evidence.accelerator == EMULATED
    return (
        _shared_kernel(looks),
        _own_kernel(looks),
        _slow_start(looks, emulated=emulated),
        _hungry(looks, emulated=emulated),
        Claim(
            key="c19",
            observed="yes",
            judgement="cannot_tell_here",
            caveat="emulated" if emulated else "caveat",
        ),
    )


def values(looks: tuple[Look, ...], fact: str) -> frozenset[object]:
    """Every different value that *fact* had."""
    return frozenset(look.facts.get(fact) for look in looks)


def _shared_kernel(looks: Mapping[str, tuple[Look, ...]]) -> Claim:
    host, container = values(looks["host"], "boot_id"), values(looks["container"], "boot_id")
    observed = _seen(bool(host and container), holds=host == container and len(host) == 1)
    return Claim(key="c13", observed=observed, judgement=_judge(observed))


def _own_kernel(looks: Mapping[str, tuple[Look, ...]]) -> Claim:
    host, vm = values(looks["host"], "boot_id"), values(looks["vm"], "boot_id")
    own = not host & vm and len(vm) == len(looks["vm"])
    observed = _seen(bool(host and vm), holds=own)
    return Claim(key="c08", observed=observed, judgement=_judge(observed))


def _slow_start(looks: Mapping[str, tuple[Look, ...]], *, emulated: bool) -> Claim:
    container, vm = _starts(looks["container"]), _starts(looks["vm"])
    known = bool(container and vm)
    observed = _seen(known, holds=known and max(container) < min(vm))
    return Claim(
        key="c10",
        observed=observed,
        judgement="confirmed_if" if observed == "yes" else "cannot_tell_here",
        caveat="emulated" if emulated else "caveat",
    )


def _hungry(looks: Mapping[str, tuple[Look, ...]], *, emulated: bool) -> Claim:
    container, vm = _pss(looks["container"]), _pss(looks["vm"])
    known = bool(container and vm)
    observed = _seen(known, holds=known and max(container) < min(vm))
    judgement = _judge(observed)
    if emulated:
        judgement = "cannot_tell_here"
    elif judgement == "confirmed":
        judgement = "confirmed_if"
    return Claim(
        key="c11",
        observed=observed,
        judgement=judgement,
        caveat="emulated" if emulated else "caveat",
    )


def _starts(looks: tuple[Look, ...]) -> list[int]:
    return [look.phases["output"] for look in looks if "output" in look.phases]


def _pss(looks: tuple[Look, ...]) -> list[int]:
    return [look.memory_bytes["pss"] for look in looks if "pss" in look.memory]


def _seen(known: bool, *, holds: bool) -> Observed:  # noqa: FBT001 - reads as a condition
    if not known:
        return "missing"
    return "yes" if holds else "no"


def _judge(observed: Observed) -> Judgement:
    match observed:
        case "yes":
            return "confirmed"
        case "no":
            return "refuted"
        case "missing":
            return "cannot_tell_here"
