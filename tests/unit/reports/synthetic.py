"""A made-up run for the report's tests: plausible, seeded, and measured by nobody."""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.results import (
    Accelerator,
    Arm,
    Limits,
    Metric,
    Plan,
    PreparationCost,
    Run,
    Sample,
    Skipped,
    Workload,
    write_run,
)

DIGEST = "sha256:" + "5e" * 32
BLOCKS = 10
ARMS = (
    Arm(label="host", backend="host", accelerator=None, note="chroot into the rootfs, no more"),
    Arm(label="host'", backend="host", accelerator=None, note="A/A control"),
    Arm(label="container", backend="container", accelerator=None, note=None),
    Arm(label="vm", backend="vm", accelerator="tcg", note="pids are not enforced"),
)


def _metric(name: str, unit: str, title: str, start: str | None, stop: str | None) -> Metric:
    method = "monotonic clock of the host" if unit == "ns" else "read from the kernel"
    return Metric(
        name=name,
        unit=unit,
        direction="lower",
        start=start,
        stop=stop,
        method=method,
        title=title,
    )


WORKLOADS = (
    Workload(
        name="boot",
        argv=("/bin/echo", "ready"),
        metrics=(
            _metric("boot.first_output", "ns", "Time to first output", "request", "output"),
            _metric("boot.exit", "ns", "Time to exit", "request", "exit"),
            _metric("boot.teardown", "ns", "Teardown", "leaving the block", "gone"),
        ),
    ),
    Workload(
        name="idle",
        argv=(),
        metrics=(
            _metric("memory.pss", "bytes", "Memory, shared pages split (PSS)", None, None),
            _metric("memory.uss", "bytes", "Memory, private pages (USS)", None, None),
            _metric("memory.cgroup", "bytes", "Memory charged to the cgroup", None, None),
            _metric("disk.image", "bytes", "Disk of the first instance", None, None),
            _metric("disk.instance", "bytes", "Disk each further one adds", None, None),
        ),
    ),
    Workload(
        name="sha256",
        argv=("/bin/sha256sum", "/data"),
        metrics=(_metric("cpu.sha256", "ns", "Hashing 64 MiB", "exec", "exit"),),
    ),
)

MIB = 1 << 20
# metric -> label -> (median, log sigma); sigma 0 is a constant
CENTRES: dict[str, dict[str, tuple[float, float]]] = {
    "boot.first_output": {"host": (1.3e6, 0.05), "container": (6.1e6, 0.06), "vm": (1.9e9, 0.04)},
    "boot.exit": {"host": (1.5e6, 0.05), "container": (6.6e6, 0.06), "vm": (2.1e9, 0.04)},
    "boot.teardown": {"host": (0.2e6, 0.1), "container": (2.2e6, 0.12), "vm": (41e6, 0.2)},
    "memory.pss": {"host": (0.9e6, 0), "container": (1.3e6, 0.01), "vm": (131 * MIB, 0.01)},
    "memory.uss": {"host": (0.4e6, 0), "container": (0.7e6, 0.01), "vm": (118 * MIB, 0.01)},
    "memory.cgroup": {"host": (0.6e6, 0.02), "container": (0.9e6, 0.02), "vm": (140 * MIB, 0.01)},
    "disk.image": {"host": (4.4e6, 0), "container": (4.4e6, 0), "vm": (71 * MIB, 0)},
    "disk.instance": {"host": (0, 0), "container": (8192, 0), "vm": (262144, 0)},
    "cpu.sha256": {"host": (4.1e8, 0.012), "container": (4.12e8, 0.012), "vm": (3.3e9, 0.02)},
}
SHARES = {"prepared": 0.2, "engine": 0.3, "kernel": 0.4, "init": 0.85, "exec": 0.95}
SEEN = {
    "host": ("prepared", "exec"),
    "container": ("prepared", "engine", "init", "exec"),
    "vm": ("prepared", "engine", "kernel", "init", "exec"),
}


def make_run(**changes: object) -> Run:
    run = Run(
        run="synthetic-1",
        suite="first-look",
        plan=Plan(
            backends=ARMS,
            workloads=WORKLOADS,
            blocks=BLOCKS,
            seed=7,
            order="randomised complete blocks",
        ),
        images={"isoscope/base:latest": DIGEST},
        preparations=(
            _preparation("host", 210_000_000, 4_400_000, "unpack the layers"),
            _preparation("container", 210_000_000, 4_400_000, "unpack the layers"),
            _preparation("vm", 1_900_000_000, 71 * MIB, "unpack, mkfs.ext4 -d, initramfs"),
        ),
        cache_state="page cache warm",
        boot_profile="minimal",
        limits=Limits(cpus=1, memory_bytes=512 * MIB),
        versions={"isoscope": "0.1.0", "qemu": "7.2.19", "python": "3.11.2"},
        environment={
            "cpu": {"model": "Imaginary CPU", "threads": 2, "governor": None},
            "kernel": "6.1.0-synthetic",
            "cgroup": "v1",
            "clock_source": "tsc",
            "warnings": ["this run is made up", "no CPU frequency governor is visible"],
        },
        accelerators={"vm": Accelerator(name="tcg", sentence="KVM ran a guest too slowly.")},
        skipped=(
            Skipped(
                backend="podman",
                reason="podman is not installed",
                remedy="apt-get install podman",
            ),
        ),
        command=("isoscope", "bench", "first-look", "--blocks", "10", "--seed", "7"),
        started_at="2026-11-23T10:00:00+00:00",
        ended_at="2026-11-23T10:05:12+00:00",
        outcome="complete",
    )
    return replace(run, **changes)  # type: ignore[arg-type]  # the fields vary by test


def _preparation(backend: str, duration_ns: int, disk: int, method: str) -> PreparationCost:
    return PreparationCost(
        backend=backend, duration_ns=duration_ns, disk_bytes=disk, cached=False, method=method
    )


def make_samples(run: Run, *, seed: int = 1) -> list[Sample]:
    """Rows of every instance; one VM timed out and was retried, one container failed."""
    random_ = random.Random(seed)  # noqa: S311 - reproducible noise
    samples: list[Sample] = []
    clock_ns = 0
    for block in range(1, run.plan.blocks + 1):
        arms = random_.sample(run.plan.backends, len(run.plan.backends))
        order = 0
        for workload in run.plan.workloads:
            for arm in arms:
                order += 1
                clock_ns += 50_000_000
                samples += _instances(random_, run, block, order, arm, workload, clock_ns)
    return samples


def _instances(
    random_: random.Random,
    run: Run,
    block: int,
    order: int,
    arm: Arm,
    workload: Workload,
    at_ns: int,
) -> Iterator[Sample]:
    values = {
        metric.name: _draw(random_, *CENTRES[metric.name][arm.backend])
        for metric in workload.metrics
    }
    first = Sample(
        run=run.run,
        block=block,
        order=order,
        label=arm.label,
        backend=arm.backend,
        accelerator=arm.accelerator,
        workload=workload.name,
        instance=f"{arm.label}-{workload.name}-{block}-1",
        attempt=1,
        warmup=False,
        image=DIGEST,
        metric=workload.metrics[0].name,
        value=0,
        unit="ns",
        method="made up",
        status="ok",
        error=None,
        at_ns=at_ns,
        phases=None,
    )
    trouble = {(4, "vm", "boot"): "timeout", (7, "container", "boot"): "failed"}
    status = trouble.get((block, arm.label, workload.name))
    for metric in workload.metrics if status else ():
        yield replace(
            first,
            metric=metric.name,
            unit=metric.unit,
            value=None,
            status=status,  # type: ignore[arg-type]  # one of the two above
            error="no output after 60 s; last phase: kernel" if status == "timeout" else "EIO",
        )
    if status == "failed":
        return
    attempt = 2 if status else 1
    for index, metric in enumerate(workload.metrics):
        yield replace(
            first,
            metric=metric.name,
            unit=metric.unit,
            value=values[metric.name],
            attempt=attempt,
            instance=f"{arm.label}-{workload.name}-{block}-{attempt}",
            phases=_phases(values, arm) if index == 0 and workload.name == "boot" else None,
            facts=_facts(arm, block) if index == 0 else None,
        )


def _draw(random_: random.Random, median: float, sigma: float) -> int:
    return round(median * math.exp(random_.gauss(0, sigma)))


def _phases(values: dict[str, int], arm: Arm) -> dict[str, int]:
    output_ns = values["boot.first_output"]
    exit_ns = max(output_ns, values["boot.exit"])
    return {
        "request": 0,
        **{phase: round(output_ns * SHARES[phase]) for phase in SEEN[arm.backend]},
        "output": output_ns,
        "exit": exit_ns,
        "gone": exit_ns + values["boot.teardown"],
    }


def _facts(arm: Arm, block: int) -> dict[str, str | int | float | bool | None]:
    is_vm = arm.backend == "vm"
    return {
        "kernel_release": "6.1.0-guest" if is_vm else "6.1.0-synthetic",
        "boot_id": f"boot-{block}" if is_vm else "boot-host",
        "processes": {"host": 180, "container": 1, "vm": 41}[arm.backend],
        "rootfs_fingerprint": "sha256:77aa",
        "cpus": 1 if is_vm else 2,
        "memory_total_bytes": 480 * MIB if is_vm else 8192 * MIB,
    }


def write_synthetic_run(
    results: Path, *, change: Callable[[Sample], Sample] | None = None, **changes: object
) -> Path:
    """Write a made-up run under *results*; keyword arguments replace fields of Run."""
    run = make_run(**changes)
    directory = results / run.run
    directory.mkdir(parents=True, exist_ok=True)
    write_run(directory, run)
    lines = [(change(sample) if change else sample).line() for sample in make_samples(run)]
    (directory / "samples.jsonl").write_bytes(b"".join(lines))
    return directory
