"""What a student expects, written down before looking."""

from dataclasses import dataclass, fields

from benchmarks.errors import BenchmarkError


class NotAPrediction(BenchmarkError):  # noqa: N818 - named by what is the case
    """What was written down is no positive number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Numbers to be compared with measurements; None is a question left open.

    Starts are from the request to the first output. Memory is what one idle instance adds.
    """

    process_start_ms: float | None = None
    container_start_ms: float | None = None
    vm_start_ms: float | None = None
    process_memory_mib: float | None = None
    container_memory_mib: float | None = None
    vm_memory_mib: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be compared, while the student still looks at the cell."""
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise NotAPrediction(
                    f"{name} is {value!r}, which is no positive number",
                    remedy="write a number, or None to leave the question open",
                )

    def start_ns(self, backend: str) -> float | None:
        """The predicted start of ``host``, ``container`` or ``vm``."""
        value: float | None = getattr(self, f"{_WORDS[backend]}_start_ms")
        return None if value is None else value * 1e6

    def memory_bytes(self, backend: str) -> float | None:
        """The predicted memory of ``host``, ``container`` or ``vm``."""
        value: float | None = getattr(self, f"{_WORDS[backend]}_memory_mib")
        return None if value is None else value * (1 << 20)

    def __repr__(self) -> str:
        """Which questions have an answer."""
        given = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        if not given:
            return "No prediction yet: replace the Nones above, then run the cell again."
        return "You predict: " + ", ".join(f"{name} = {value:g}" for name, value in given.items())


_WORDS = {"host": "process", "container": "container", "vm": "vm"}
