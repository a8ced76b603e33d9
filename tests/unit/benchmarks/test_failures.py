"""Which arms gave no value at all, and what is said of them."""

import pytest

from benchmarks.failures import failed_arms, has_values
from benchmarks.results import (
    Arm,
    Limits,
    Metric,
    Plan,
    Results,
    Run,
    Sample,
    Status,
    Workload,
)

METRIC = Metric(
    name="m", unit="ns", direction="lower", start=None, stop=None, method="m", title="m"
)
RUN = Run(
    run="r1",
    suite="s",
    plan=Plan(
        backends=tuple(
            Arm(label=label, backend=label.rstrip("'"), accelerator=None, note=None)
            for label in ("host", "host'", "vm")
        ),
        workloads=tuple(
            Workload(name=name, argv=("sh", "-c", f"echo {name}"), metrics=(METRIC,))
            for name in ("boot", "idle")
        ),
        blocks=2,
        seed=7,
        order="o",
    ),
    images={"busybox:latest": "sha256:00"},
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


def row(block: int, label: str, workload: str, status: Status, *, attempt: int = 1) -> Sample:
    return Sample(
        run="r1",
        block=block,
        order=1,
        label=label,
        backend=label.rstrip("'"),
        accelerator=None,
        workload=workload,
        instance="i",
        attempt=attempt,
        warmup=False,
        image="sha256:00",
        metric="m",
        value=1 if status == "ok" else None,
        unit="ns",
        method="m",
        status=status,
        error=None if status == "ok" else f"{workload} {status} in block {block}",
        at_ns=0,
        phases=None,
    )


def results(*rows: Sample) -> Results:
    return Results(run=RUN, samples=rows)


def test_an_arm_that_gave_nothing_is_named_with_the_first_reason_and_a_command() -> None:
    (arm,) = failed_arms(
        results(
            row(1, "host", "boot", "ok"),
            row(1, "vm", "boot", "failed"),
            row(1, "vm", "boot", "timeout", attempt=2),
            row(1, "vm", "idle", "failed"),
        )
    )
    assert arm.sentence() == (
        "vm: every instance of boot, idle failed (3 of 3); the first: boot failed in block 1;"
        " to look further: ./isoscope run --on vm busybox:latest sh -c 'echo boot'"
    )


@pytest.mark.parametrize(
    "rows",
    [
        [row(1, "vm", "boot", "failed"), row(1, "vm", "boot", "ok", attempt=2)],
        [row(1, "vm", "boot", "failed"), row(2, "vm", "boot", "ok")],
        [row(1, "vm", "boot", "skipped")],
        [],
    ],
)
def test_one_value_or_no_failure_is_no_failed_arm(rows: list[Sample]) -> None:
    assert failed_arms(results(*rows)) == ()


def test_a_workload_that_fails_alone_is_named_alone() -> None:
    (arm,) = failed_arms(
        results(row(1, "host'", "boot", "ok"), row(1, "host'", "idle", "timeout"))
    )
    assert (arm.label, arm.workloads) == ("host'", ("idle",))
    assert "--on host busybox" in arm.command


def test_a_preparation_is_no_measurement() -> None:
    assert not has_values(results(row(0, "host", "boot", "ok"), row(1, "host", "boot", "failed")))
    assert has_values(results(row(1, "host", "boot", "failed"), row(2, "host", "boot", "ok")))
