"""What a student expects, written down before looking."""

from dataclasses import dataclass, fields
from typing import Any

from benchmarks.errors import BenchmarkError
from notebooks.course.wording import ENGLISH
from reports.words import Words


class NotAPrediction(BenchmarkError):  # noqa: N818 - named by what is the case
    """What was written down is no positive number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Numbers to be compared with measurements; None is a question left open.

    Starts are from the request to the first output. Memory is what one idle instance adds.
    ``kernels`` run in three processes, three containers and three virtual machines.
    ``vm_given_128_mib`` is what a machine takes, in MiB, that is given so much.
    """

    process_start_ms: float | None = None
    container_start_ms: float | None = None
    vm_start_ms: float | None = None
    process_memory_mib: float | None = None
    container_memory_mib: float | None = None
    vm_memory_mib: float | None = None
    kernels: float | None = None
    vm_given_128_mib: float | None = None
    vm_given_1024_mib: float | None = None
    words: Words = ENGLISH

    def __post_init__(self) -> None:
        """Refuse what cannot be compared, while the student still looks at the cell."""
        for name, value in self._answers().items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise NotAPrediction(
                    self.words("prediction.bad", name=name, value=repr(value)),
                    remedy=self.words("prediction.remedy"),
                )

    def start_ns(self, backend: str) -> float | None:
        """The predicted start of ``host``, ``container`` or ``vm``."""
        value: float | None = getattr(self, f"{_WORDS[backend]}_start_ms")
        return None if value is None else value * 1e6

    def memory_bytes(self, backend: str) -> float | None:
        """The predicted memory of ``host``, ``container`` or ``vm``."""
        value: float | None = getattr(self, f"{_WORDS[backend]}_memory_mib")
        return None if value is None else value * _MIB

    def given_bytes(self, limit_bytes: int) -> float | None:
        """The predicted memory of a vm that is given *limit_bytes*; None if nobody asked."""
        value: float | None = getattr(self, f"vm_given_{limit_bytes // _MIB}_mib", None)
        return None if value is None else value * _MIB

    def __repr__(self) -> str:
        """Which questions have an answer."""
        if not (answers := self._answers()):
            return self.words("prediction.none")
        told = ", ".join(f"{name} = {value:g}" for name, value in answers.items())
        return self.words("prediction.given", answers=told)

    def _answers(self) -> dict[str, Any]:
        asked = (field.name for field in fields(self) if field.name != "words")
        return {name: value for name in asked if (value := getattr(self, name)) is not None}


_WORDS = {"host": "process", "container": "container", "vm": "vm"}
_MIB = 1 << 20
