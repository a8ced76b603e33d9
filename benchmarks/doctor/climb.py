"""The whole ladder at once, as a value: for notebooks, which print nothing while it is climbed."""

from dataclasses import dataclass

from benchmarks.doctor.ladder import ladder
from benchmarks.doctor.render import render_verdict
from benchmarks.doctor.rung import Rung
from benchmarks.doctor.verdict import Verdict, verdict
from runtime.image import markup

_MARKS = {True: "✓ yes", False: "✗ no", None: "· not tried"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """Every rung that was tried, and what follows from them."""

    rungs: tuple[Rung, ...]

    @property
    def verdict(self) -> Verdict:
        """Which backends run here, and what to type next."""
        return verdict(self.rungs)

    def __str__(self) -> str:
        return render_verdict(self.verdict)

    def _repr_html_(self) -> str:
        head = ("part", "rung", "works", "what was found", "how to have it")
        rows = (
            (rung.part, rung.name, _MARKS[rung.ok], rung.found, rung.remedy or "")
            for rung in self.rungs
        )
        return markup.table(head, rows, caption=str(self))


def climb() -> Climb:
    """Try every rung on this machine; that takes some seconds."""
    return Climb(rungs=tuple(ladder()))
