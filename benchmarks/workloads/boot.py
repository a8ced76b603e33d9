"""boot: from the request to a small program's first output and its end, and the teardown."""

from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.workloads import Facts, Value, Values, between, succeeded
from benchmarks.workloads.facts import KERNEL_FILES, of_kernel

_METHOD = "host CLOCK_MONOTONIC in the worker that launches"


class Boot:
    """The program prints which kernel it runs on, so that its output proves where it ran."""

    question = "How long from the request to a small program's first output and to its end?"
    threats = (
        "the harness and the host's load are part of the time",
        "a warm start: what is read was read before",
    )
    runs_to_exit = True
    timeout_s = 60.0
    record = Record(
        name="boot",
        argv=("cat", *KERNEL_FILES),
        metrics=(
            Metric(
                name="boot.first_output", unit="ns", direction="lower", start="request",
                stop="output", method=_METHOD, title="Start to first output",
            ),
            Metric(
                name="boot.exit", unit="ns", direction="lower", start="request",
                stop="exit", method=_METHOD, title="Start to exit",
            ),
            Metric(
                name="boot.teardown", unit="ns", direction="lower", start="leaving", stop="gone",
                method=_METHOD, title="Teardown until nothing is left",
            ),
        ),
    )  # fmt: skip

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:
        """Wait for the end; the output must be the two lines."""
        result = succeeded(instance.wait(timeout_s=self.timeout_s))
        of_kernel(result.stdout, facts)
        return {
            "boot.first_output": between(instance.phases, "request", "output"),
            "boot.exit": between(instance.phases, "request", "exit"),
        }

    def conclude(self, instance: RemoteInstance) -> Values:
        """How long leaving took, timed by the worker."""
        unseen = None if instance.teardown_ns is not None else "the phase 'gone' was not seen"
        return {"boot.teardown": Value(value=instance.teardown_ns, method=_METHOD, error=unseen)}
