"""Every workload of every suite once on host, container and machine, with the bench image.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_workloads.py``. It takes some
ten minutes where machines are emulated. Choose other backends with ``ISOSCOPE_ON=host,crun``.
"""

import os

import pytest

from benchmarks.attempts import Outcome, play
from benchmarks.launcher import worker
from benchmarks.results import Limits
from benchmarks.stage import Stage
from benchmarks.suites import SUITES, TOOLS_IMAGE
from benchmarks.workloads import Ensemble, Workload
from runtime.errors import ImageError
from runtime.image import Image, Store

ON = os.environ.get("ISOSCOPE_ON", "host,container,vm").split(",")
FULL = SUITES["full"]


@pytest.fixture(scope="session")
def image() -> Image:
    try:
        return Store().resolve(TOOLS_IMAGE)
    except ImageError as missing:
        pytest.skip(f"{missing}; benchmarks/images/bench/Dockerfile says how it is made")


@pytest.fixture(scope="session", params=ON)
def stage(request: pytest.FixtureRequest, image: Image) -> Stage:
    name: str = request.param
    with worker(name) as backend:
        if (why := backend.probe()) is not None:
            pytest.skip(f"{name}: {why.reason}; {why.remedy}")
        backend.prepare(image.digest)
        features = backend.features
    limits = Limits(cpus=FULL.cpus, memory_bytes=FULL.memory_bytes)
    return Stage(backend=name, features=features, image=image.digest, limits=limits)


@pytest.mark.parametrize("workload", FULL.workloads, ids=[w.record.name for w in FULL.workloads])
def test_it_gives_every_metric_or_a_reason(stage: Stage, workload: Workload | Ensemble) -> None:
    outcome = Outcome(values={}, facts={}, phases={})
    play(stage, workload, outcome)
    for metric in workload.record.metrics:
        value = outcome.values[metric.name]
        print(f"\n{stage.backend:10} {metric.name:28} {value.value or value.error} {metric.unit}")
        assert (value.value is None) != (value.error is None)
