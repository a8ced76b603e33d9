"""A run of one metric, and a sample of it, for tests of statistics to fill with values."""

from collections.abc import Sequence

from benchmarks.results import Arm, Limits, Metric, Plan, Run, Sample, Workload

METRIC = Metric(
    name="boot.exit",
    unit="ns",
    direction="lower",
    start="request",
    stop="exit",
    method="m",
    title="t",
)
SAMPLE = Sample(
    run="r",
    block=1,
    order=1,
    label="host",
    backend="host",
    accelerator=None,
    workload="boot",
    instance="i",
    attempt=1,
    warmup=False,
    image="sha256:00",
    metric="boot.exit",
    value=1,
    unit="ns",
    method="m",
    status="ok",
    error=None,
    at_ns=0,
    phases=None,
)


def run_with(
    labels: Sequence[str],
    metric: Metric = METRIC,
    blocks: int = 10,
    workloads: tuple[Workload, ...] | None = None,
) -> Run:
    return Run(
        run="r",
        suite="s",
        plan=Plan(
            backends=tuple(
                Arm(label=label, backend=label.rstrip("'"), accelerator=None, note=None)
                for label in labels
            ),
            workloads=workloads or (Workload(name="boot", argv=(), metrics=(metric,)),),
            blocks=blocks,
            seed=1,
            order="o",
        ),
        images={},
        preparations=(),
        cache_state="warm",
        boot_profile="minimal",
        limits=Limits(cpus=None, memory_bytes=None),
        versions={},
        environment={},
        accelerators={},
        skipped=(),
        command=(),
        started_at="2026-11-23T10:00:00+00:00",
        ended_at=None,
        outcome="complete",
    )
