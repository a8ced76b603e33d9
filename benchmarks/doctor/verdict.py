"""What follows from the rungs: which backends run here, and the next command to type (pure)."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.doctor.rung import Rung

BACKENDS = ("host", "container", "vm")
_KVM = "vm[kvm]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``accelerator`` is what machines run under, None if none run; ``next`` what to type."""

    runs: tuple[str, ...]
    lacking: tuple[str, ...]
    accelerator: str | None
    next: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The backends that run, as results name them: ``vm[tcg]``."""
        return tuple(f"vm[{self.accelerator}]" if name == "vm" else name for name in self.runs)


def verdict(rungs: Sequence[Rung]) -> Verdict:
    """A backend runs if it says so and no rung that failed costs it."""
    lost = {cost for rung in rungs if rung.ok is False for cost in rung.costs}
    said = {rung.name for rung in rungs if rung.name == rung.part and rung.ok}
    runs = tuple(name for name in BACKENDS if name in said - lost)
    kvm = [rung.ok is True for rung in rungs if _KVM in rung.costs]
    under = "kvm" if kvm and all(kvm) else "tcg"
    return Verdict(
        runs=runs,
        lacking=tuple(name for name in BACKENDS if name not in runs),
        accelerator=under if "vm" in runs else None,
        next=_next(runs) if runs else _first_remedy(rungs),
    )


def _next(runs: tuple[str, ...]) -> str:
    match runs:
        case (only,):
            return f"./isoscope run --on {only} busybox uname -r"
        case _ if runs == BACKENDS:
            return "./isoscope bench"
        case _:
            return f"./isoscope bench --on {','.join(runs)}"


def _first_remedy(rungs: Sequence[Rung]) -> str:
    """Of the lowest rung that broke under a backend: what stands on it cannot be mended before."""
    remedies = (r.remedy for r in rungs if r.ok is False and set(r.costs) & set(BACKENDS))
    return next(filter(None, remedies), "./isoscope setup")
