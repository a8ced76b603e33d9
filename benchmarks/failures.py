"""What a run could not measure at all, and how to look further. Pure."""

import shlex
from dataclasses import dataclass

from benchmarks.results import Results, Sample
from benchmarks.results import Workload as Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedArm:
    """A label that gave no value for *workloads*: each of its *instances* failed.

    ``reason`` is the first one's; ``command`` does by hand what it did.
    """

    label: str
    workloads: tuple[str, ...]
    instances: int
    reason: str
    command: str

    def sentence(self) -> str:
        """For a terminal, after ``runtime.fault.printable``."""
        return (
            f"{self.label}: every instance of {', '.join(self.workloads)} failed"
            f" ({self.instances} of {self.instances}); the first: {self.reason};"
            f" to look further: {self.command}"
        )


def failed_arms(results: Results) -> tuple[FailedArm, ...]:
    """The labels with a workload of which no instance gave a value, in the plan's order."""
    rows: dict[tuple[str, str], list[Sample]] = {}
    for sample in _instances(results):
        rows.setdefault((sample.label, sample.workload), []).append(sample)
    records = {workload.name: workload for workload in results.run.plan.workloads}
    found = []
    for arm in results.run.plan.backends:
        failed = [
            sample
            for (label, _), samples in rows.items()
            if label == arm.label and not any(each.status == "ok" for each in samples)
            for sample in samples
            if sample.status in {"failed", "timeout"}
        ]
        if failed:
            found.append(_failed_arm(results, failed, records))
    return tuple(found)


def has_values(results: Results) -> bool:
    """Whether any instance gave a value; preparations, in block 0, are none."""
    return any(sample.status == "ok" for sample in _instances(results))


def _instances(results: Results) -> list[Sample]:
    return [sample for sample in results.samples if sample.block > 0 and not sample.warmup]


def _failed_arm(results: Results, failed: list[Sample], records: dict[str, Record]) -> FailedArm:
    first = failed[0]
    on, argv = ["--on", first.backend], records[first.workload].argv
    image = next(iter(results.run.images), first.image)
    return FailedArm(
        label=first.label,
        workloads=tuple(dict.fromkeys(sample.workload for sample in failed)),
        instances=len({sample.key for sample in failed}),
        reason=first.error or "no reason was written down",
        command=shlex.join(["./isoscope", "run", *on, image, *argv]),
    )
