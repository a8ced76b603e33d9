"""cpu.sha256: the same static binary hashes the same bytes; what the processor loses inside."""

from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.workloads import Facts, Values, WorkloadFailed, between, succeeded
from benchmarks.workloads.facts import KERNEL_FILES, of_kernel

_BYTES = 16 << 20
_SHA256 = "080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e"
"""Of 16 MiB of zeros; a test computes it anew."""


class CpuSha256:
    """Program start to exit, so the shell and a pipe are in it; on every backend the same."""

    question = "How long does one thread take to hash 16 MiB?"
    threats = (
        "program start, a shell and a pipe are in it",
        "under TCG this measures the emulator, not the processor",
    )
    runs_to_exit = True
    timeout_s = 120.0
    record = Record(
        name="cpu.sha256",
        argv=(
            "sh", "-c",
            f"cat {' '.join(KERNEL_FILES)}; head -c {_BYTES} /dev/zero | sha256sum",
        ),
        metrics=(
            Metric(
                name="cpu.sha256", unit="ns", direction="lower", start="exec", stop="exit",
                method="host CLOCK_MONOTONIC", title="SHA-256 of 16 MiB",
            ),
        ),
    )  # fmt: skip

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:
        """Wait for the end; the digest must be the right one."""
        result = succeeded(instance.wait(timeout_s=self.timeout_s))
        of_kernel(result.stdout, facts)
        digest = result.stdout.split()[-2].decode(errors="replace")
        if digest != _SHA256:
            raise WorkloadFailed(f"the digest is {digest}, not {_SHA256}")
        return {"cpu.sha256": between(instance.phases, "exec", "exit")}

    def conclude(self, instance: RemoteInstance) -> Values:  # noqa: ARG002 - the protocol's
        """Nothing is read of what is gone."""
        return {}
