"""The n-th start beside the first, and eight callers at once beside one, with runc for comparison.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_many.py``. While a number of
idle containers stand, starts of ``/bin/true`` to its end are timed, ours and runc's in turns.
The numbers come in random order in every round, so that a drift of the machine is not taken for
the cost of a crowd. Judged are ratios to the empty machine, and that no start is lost.
"""

import os
import random
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import groupby

import pytest

from benchmarks.micro.test_start import LIMITS, RESAMPLES, SEED, image, oci, ours  # noqa: F401 - a fixture
from benchmarks.stats import ratio_of_medians
from runtime.container.container import Options, container
from runtime.container.facts import HostFacts, host_facts
from runtime.container.launch.process import Executor
from runtime.image import Image, Store, using_snapshots

STANDING = tuple(map(int, os.environ.get("ISOSCOPE_MICRO_STANDING", "0,1,10,100,500").split(",")))
ROUNDS = int(os.environ.get("ISOSCOPE_MICRO_ROUNDS", "4"))
PROBES = 12
THREADS = 8
EACH = 12

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(shutil.which("runc") is None, reason="apt-get install runc"),
    pytest.mark.timeout(1800),
]

Taken = dict[tuple[str, int], dict[int, float]]


def test_the_nth_start_beside_the_first(image: Image) -> None:  # noqa: F811
    facts = host_facts()
    order = random.Random(SEED)
    taken: Taken = {}
    with using_snapshots(Store(), image) as layers:
        arms = {
            "isoscope": ours(image, facts, Executor.COMPILED),
            "runc": oci("runc", "", image, layers.paths[0], facts),
        }
        for number in range(ROUNDS):
            for standing in order.sample(STANDING, len(STANDING)):
                with crowd(image, facts, standing):
                    for probe in range(PROBES):
                        for name in order.sample(list(arms), len(arms)):
                            key = (number * PROBES) + probe
                            taken.setdefault((name, standing), {})[key] = milliseconds(arms[name])
    print_curve(taken)
    assert all(len(values) == ROUNDS * PROBES for values in taken.values())


def test_eight_callers_at_once_beside_one(image: Image) -> None:  # noqa: F811
    start = ours(image, host_facts(), Executor.COMPILED)
    walls: dict[str, dict[int, float]] = {"one after the other": {}, "eight at once": {}}
    for number in range(ROUNDS):
        walls["one after the other"][number] = milliseconds(lambda: several(start, threads=1))
        walls["eight at once"][number] = milliseconds(lambda: several(start, threads=THREADS))
    print(f"\n{THREADS * EACH} starts, {os.cpu_count()} processors, {ROUNDS} rounds")
    for name, by_round in walls.items():
        each_ms = statistics.median(by_round.values()) / (THREADS * EACH)
        print(f"{name:22}{each_ms:8.2f} ms a start")


def several(start: Callable[[], None], *, threads: int) -> None:
    """The same number of starts, by that many callers; one that fails is raised here."""
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(start) for _ in range(THREADS * EACH)]:
            done.result()


class crowd(ExitStack):  # noqa: N801 - reads as a function
    """So many idle containers, as long as the block lasts."""

    def __init__(self, image: Image, facts: HostFacts, number: int) -> None:  # noqa: F811
        super().__init__()
        options = Options(limits=LIMITS)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.callback(os.close, null)
        with ExitStack() as undo:  # of those that stand when one does not
            undo.push(self)
            for _ in range(number):
                stdio = (null, null, null)
                self.enter_context(container(image, (), options, stdio=stdio, facts=facts))
            undo.pop_all()


def milliseconds(action: Callable[[], None]) -> float:
    """How long *action* takes."""
    begun_ns = time.monotonic_ns()
    action()
    return (time.monotonic_ns() - begun_ns) / 1e6


def print_curve(taken: Mapping[tuple[str, int], Mapping[int, float]]) -> None:
    """Each arm's medians, and their ratios to those with nothing standing."""
    print(f"\n{ROUNDS} rounds of {PROBES}, seed {SEED}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':12}{'standing':>9}{'median':>9}{'p10':>9}   to none standing, 95 % interval")
    for name, keys in groupby(sorted(taken), key=lambda key: key[0]):
        for key in keys:
            values = taken[key]
            first = statistics.quantiles(values.values(), n=10)[0]
            line = f"{name:12}{key[1]:9}{statistics.median(values.values()):9.2f}{first:9.2f}"
            ratio = ratio_of_medians(
                values, taken[name, STANDING[0]], resamples=RESAMPLES, key=f"{key}"
            )
            if key[1] != STANDING[0] and ratio is not None and ratio.ci95 is not None:
                line += f"   {ratio.estimate:.2f}  {ratio.ci95.low:.2f} to {ratio.ci95.high:.2f}"
            print(line)
