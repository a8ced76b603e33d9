"""Samples for other programs, and pytest-benchmark's as a run of ours.

A row of csv and parquet is a line of ``samples.jsonl``; phases and facts stand in it as JSON.
pytest-benchmark's format has no document of its own: fields are those its version 5 writes, times
in seconds. What is imported are the rounds of one process in their order: no independent
instances, and the report of such a run says that nothing was randomised.
"""

import csv
import dataclasses
import importlib
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.errors import ResultsError
from benchmarks.results import (
    SAMPLES_FILE,
    Arm,
    Limits,
    Metric,
    Plan,
    Results,
    Run,
    Sample,
    Workload,
    write_atomically,
    write_run,
)
from benchmarks.strict_json import as_json, loads
from benchmarks.summary import counted
from reports.style import printable

COLUMNS = tuple(field.name for field in dataclasses.fields(Sample))
MAX_IMPORT_BYTES = 1 << 26
LABEL = "pytest"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(results: Results) -> bytes:
    """A row for each sample; a stranger's text steers no terminal and is no formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for sample in results.samples:
        writer.writerow([_inert(_cell(sample, name)) for name in COLUMNS])
    return text.getvalue().encode()


def as_json_document(results: Results) -> bytes:
    """The record and every sample, as they are in the run's folder."""
    return as_json({"run": results.run, "samples": results.samples}) + b"\n"


def as_parquet(results: Results) -> bytes:
    """A column for each field of a sample, values as double. Raises ResultsError."""
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ResultsError(
            "parquet needs pyarrow, which is not installed here",
            remedy="install it with: .venv/bin/pip install pyarrow; or export as csv",
        ) from None
    columns = {name: [_cell(sample, name) for sample in results.samples] for name in COLUMNS}
    columns["value"] = [None if value is None else float(value) for value in columns["value"]]
    sink = io.BytesIO()
    parquet.write_table(arrow.table(columns), sink)
    return sink.getvalue()


def as_pytest_benchmark(results: Results) -> bytes:
    """Every duration of every label as a benchmark, its counted values as rounds."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for sample in counted(results.samples):
        if sample.value is not None and sample.unit == "ns" and sample.block > 0:
            place = (sample.workload, sample.metric, sample.label)
            values.setdefault(place, []).append(sample.value / 1e9)
    run = results.run
    if not values:
        raise ResultsError(f"run {run.run} has no durations, which is all that this format holds")
    benchmarks = [
        {
            "group": f"{workload}: {metric}",
            "name": f"{metric}[{label}]",
            "fullname": f"isoscope/{run.suite}::{workload}::{metric}[{label}]",
            "params": {"label": label},
            "param": label,
            "extra_info": {"isoscope_run": run.run, "backend": label, "unit": "instance"},
            "options": {"warmup": False, "timer": "monotonic_ns"},
            "stats": _statistics(data),
        }
        for (workload, metric, label), data in values.items()
    ]
    document = {
        "machine_info": {"cpu": {"brand_raw": run.environment.get("cpu") or "unknown"}},
        "commit_info": {"id": run.versions.get("isoscope", "unknown"), "dirty": False},
        "benchmarks": benchmarks,
        "datetime": run.started_at,
        "version": "5.0.0",
    }
    return as_json(document, indent=2) + b"\n"


FORMATS: Mapping[str, Callable[[Results], bytes]] = {
    "csv": as_csv,
    "json": as_json_document,
    "parquet": as_parquet,
    "pytest-benchmark": as_pytest_benchmark,
}


def imported(file: Path, out: Path) -> Path:
    """Make a run in *out* of what pytest-benchmark wrote to *file*. Raises ResultsError."""
    content = b""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_IMPORT_BYTES + 1)
        document = loads(content)
    except OSError as wrong:
        raise ResultsError(f"{file} cannot be read: {wrong.strerror}") from None
    except ResultsError as wrong:
        is_cut = len(content) > MAX_IMPORT_BYTES
        why = f"it is larger than {MAX_IMPORT_BYTES} bytes" if is_cut else wrong.message
        raise ResultsError(f"{file}: {why}", remedy=wrong.remedy) from None
    rounds = _rounds(document, file)
    at = str(_field(document, "datetime", str, file))
    try:
        started = datetime.fromisoformat(at)
    except ValueError:
        raise ResultsError(f"{file}: {at[:40]!r} is no date") from None
    run = _run(f"{started:%Y%m%dT%H%M%S}-pytest", rounds, started.isoformat(), file)
    directory = out / run.run
    try:
        directory.mkdir(parents=True)
    except OSError as wrong:
        raise ResultsError(
            f"{directory} cannot be made: {wrong.strerror}", remedy="choose another --out"
        ) from None
    lines = [row.line() for name, data in rounds.items() for row in _rows(run, name, data)]
    write_atomically(directory / SAMPLES_FILE, b"".join(lines))
    write_run(directory, run)  # last: without it there is no run
    return directory


def _rounds(document: object, file: Path) -> dict[str, list[float]]:
    """Full name of each benchmark -> seconds of its rounds."""
    found: dict[str, list[float]] = {}
    for each in _field(document, "benchmarks", list, file):
        name = str(_field(each, "fullname", str, file))
        data = _field(_field(each, "stats", dict, file), "data", list, file)
        good = [value for value in data if type(value) in (int, float) and 0 <= value < 1e9]
        if not data or len(good) != len(data):
            raise ResultsError(
                f"{file}: {name[:60]!r} holds no rounds, or one that is no time",
                remedy="write it again with: pytest --benchmark-json FILE",
            )
        found[name] = [float(value) for value in good]
    if not found:
        raise ResultsError(f"{file} holds no benchmark")
    return found


def _field(value: object, name: str, kind: type, file: Path) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(name), kind):
        raise ResultsError(
            f"{file} is not what pytest-benchmark writes: no {name!r} where one belongs",
            remedy="give the file of: pytest --benchmark-json FILE",
        )
    return value[name]


def _run(name: str, rounds: Mapping[str, Sequence[float]], at: str, file: Path) -> Run:
    arm = Arm(label=LABEL, backend=LABEL, accelerator=None, note="rounds of one process")
    metric = Metric(
        name="pytest.round", unit="ns", direction="lower", start="call", stop="return",
        method="pytest-benchmark, rounds of one process: not independent", title="One round",
    )  # fmt: skip
    return Run(
        run=name,
        suite="pytest-benchmark",
        plan=Plan(
            backends=(arm,),
            workloads=tuple(Workload(name=each, argv=(), metrics=(metric,)) for each in rounds),
            blocks=max(len(data) for data in rounds.values()),
            seed=0,
            order="rounds of one process, one after the other: not independent",
        ),
        images={},
        preparations=(),
        cache_state="as the tests left it",
        boot_profile="none: functions were called",
        limits=Limits(cpus=None, memory_bytes=None),
        versions={},
        environment={},
        accelerators={},
        skipped=(),
        command=("isoscope", "results", "import", file.name),
        started_at=at,
        ended_at=None,
        outcome="complete",
    )


def _rows(run: Run, name: str, data: Sequence[float]) -> list[Sample]:
    metric = run.plan.workloads[0].metrics[0]
    return [
        Sample(
            run=run.run, block=block, order=1, label=LABEL, backend=LABEL, accelerator=None,
            workload=name, instance=f"round-{block}", attempt=1, warmup=False, image="",
            metric=metric.name, value=round(seconds * 1e9), unit="ns", method=metric.method,
            status="ok", error=None, at_ns=0, phases=None,
        )
        for block, seconds in enumerate(data, start=1)
    ]  # fmt: skip


def _statistics(data: Sequence[float]) -> dict[str, object]:
    """What pytest-benchmark tells of its rounds, in its words; outliers are not counted."""
    low, middle, high = (
        statistics.quantiles(data, n=4, method="inclusive") if len(data) > 1 else [data[0]] * 3
    )
    mean = statistics.fmean(data)
    return {
        "min": min(data), "max": max(data), "mean": mean, "median": middle, "q1": low, "q3": high,
        "stddev": statistics.stdev(data) if len(data) > 1 else 0.0, "iqr": high - low,
        "iqr_outliers": 0, "stddev_outliers": 0, "outliers": "0;0",
        "ld15iqr": min(data), "hd15iqr": max(data), "ops": 1 / mean if mean else 0.0,
        "rounds": len(data), "iterations": 1, "total": math.fsum(data), "data": list(data),
    }  # fmt: skip


def _cell(sample: Sample, name: str) -> Any:
    value = getattr(sample, name)
    return as_json(value).decode() if isinstance(value, Mapping) else value


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return printable(f"'{cell}" if cell.startswith(_FORMULA) else cell, limit=len(cell) + 1)
