"""What a suite's workloads ask, in words: for people before they believe a number. Pure."""

from benchmarks.results import Metric
from benchmarks.suites import Suite
from benchmarks.workloads import Ensemble, Workload


def explained(suite: Suite) -> str:
    """*suite* as text: each workload's question, command, metrics and threats."""
    head = f"{suite.name}: {suite.purpose}; image {suite.image}, {suite.blocks} blocks"
    return "\n\n".join([head, *(_one(workload) for workload in suite.workloads)])


def _one(workload: Workload | Ensemble) -> str:
    record = workload.record
    command = " ".join(" ".join(record.argv).split())
    return "\n".join(
        [
            f"{record.name}: {workload.question}",
            f"  runs: {command}",
            *(f"  {_metric(metric)}" for metric in record.metrics),
            *(f"  threat: {threat}" for threat in workload.threats),
        ]
    )


def _metric(metric: Metric) -> str:
    better = f"{metric.direction} is better"
    events = "" if metric.start is None else f"; {metric.start} to {metric.stop}"
    return f"{metric.name} [{metric.unit}, {better}{events}]: {metric.title}; {metric.method}"
