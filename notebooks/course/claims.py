"""Sentences that people say about containers and virtual machines, judged by evidence (pure).

The quotes are from a Korean introduction to Docker. A verdict is as narrow as the evidence: what
an emulated processor cannot tell, it does not tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from notebooks.course.evidence import SUBJECTS, Evidence, Look

Judgement = Literal["CONFIRMED", "CONFIRMED-IF", "REFUTED", "CANNOT-TELL-HERE"]

EMULATED = "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A sentence, what was observed about it, and what follows for it."""

    key: str
    quote: str
    english: str
    observed: str
    judgement: Judgement
    caveat: str


def claims(evidence: Evidence) -> tuple[Claim, ...]:
    """What this evidence says about five sentences."""
    looks = {name: evidence.of(name) for name in SUBJECTS}
    emulated = evidence.accelerator == EMULATED
    return (
        _shared_kernel(looks),
        _own_kernel(looks),
        _slow_start(looks, emulated=emulated),
        _hungry(looks, emulated=emulated),
        _slogan(emulated=emulated),
    )


def values(looks: tuple[Look, ...], fact: str) -> frozenset[object]:
    """Every different value that *fact* had."""
    return frozenset(look.facts.get(fact) for look in looks)


def _shared_kernel(looks: Mapping[str, tuple[Look, ...]]) -> Claim:
    host, container = values(looks["host"], "boot_id"), values(looks["container"], "boot_id")
    known = bool(host and container)
    shared = known and host == container and len(host) == 1
    return Claim(
        key="C13",
        quote="호스트 운영체제의 커널을 공유",
        english="a container shares the host's kernel",
        observed=_told(known, "the boot_id is the same" if shared else "the boot_ids differ"),
        judgement=_judge(known, holds=shared),
        caveat="so a Linux image needs a Linux kernel: elsewhere a VM is hidden below",
    )


def _own_kernel(looks: Mapping[str, tuple[Look, ...]]) -> Claim:
    host, vm = values(looks["host"], "boot_id"), values(looks["vm"], "boot_id")
    known = bool(host and vm)
    own = known and not host & vm and len(vm) == len(looks["vm"])
    said = "every machine has a boot_id of its own" if own else "a boot_id was met twice"
    return Claim(
        key="C08",
        quote="각 가상 머신은 독립된 운영체제, 커널, 드라이버 등을 가짐",
        english="each virtual machine has its own kernel",
        observed=_told(known, said),
        judgement=_judge(known, holds=own),
        caveat="its files are the image's: only the kernel and a small init were added",
    )


def _slow_start(looks: Mapping[str, tuple[Look, ...]], *, emulated: bool) -> Claim:
    container, vm = _starts(looks["container"]), _starts(looks["vm"])
    known = bool(container and vm)
    later = known and max(container) < min(vm)
    said = "every vm came later than every container" if later else "the starts overlap"
    speed = "; by what factor, an emulated processor cannot tell" if emulated else ""
    confirmed: Judgement = "CONFIRMED-IF" if later else "CANNOT-TELL-HERE"
    return Claim(
        key="C10",
        quote="운영체제의 부팅 과정이 필요하므로 시간이 오래 걸림",
        english="a VM must boot an operating system, so it takes long",
        observed=_told(known, said),
        judgement=confirmed,
        caveat=f"if it boots a general-purpose kernel, as here{speed}",
    )


def _hungry(looks: Mapping[str, tuple[Look, ...]], *, emulated: bool) -> Claim:
    container, vm = _pss(looks["container"]), _pss(looks["vm"])
    known = bool(container and vm)
    more = known and max(container) < min(vm)
    said = "every vm took more (PSS) than every container" if more else "the amounts overlap"
    unclear = emulated or not known
    if emulated:
        caveat = (
            "an emulator keeps translated code beside the guest's memory: not a VM's footprint"
        )
    else:
        caveat = "a guest keeps what it once touched; another guest touches less"
    return Claim(
        key="C11",
        quote="메모리, 디스크 공간 등 자원을 많이 소비",
        english="VMs consume much memory",
        observed=_told(known, said),
        judgement="CANNOT-TELL-HERE" if unclear else "CONFIRMED-IF" if more else "REFUTED",
        caveat=caveat,
    )


def _slogan(*, emulated: bool) -> Claim:
    missing = "an accelerated vm, and work after the start"
    return Claim(
        key="C19",
        quote="가상머신은 무겁고 느리지만, 도커 컨데이너는 가볍고 빠르게 실행",
        english="VMs are heavy and slow, containers light and fast",
        observed="starts and idle memory only; no work was timed",
        judgement="CANNOT-TELL-HERE",
        caveat=f"still to be measured: {missing if emulated else 'work after the start'}",
    )


def _starts(looks: tuple[Look, ...]) -> list[int]:
    return [look.phases["output"] for look in looks if "output" in look.phases]


def _pss(looks: tuple[Look, ...]) -> list[int]:
    return [look.memory_bytes["pss"] for look in looks if "pss" in look.memory]


def _told(known: bool, said: str) -> str:  # noqa: FBT001 - reads as a condition
    return said if known else "an instance that was needed did not run"


def _judge(known: bool, *, holds: bool) -> Judgement:  # noqa: FBT001 - reads as a condition
    if not known:
        return "CANNOT-TELL-HERE"
    return "CONFIRMED" if holds else "REFUTED"
