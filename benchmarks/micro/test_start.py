"""One start to its end beside runc, crun and bwrap: the same image and limits, in turns.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_start.py``. Asked from an
interpreter that has matplotlib loaded, as a notebook has. Timed is ``/bin/true`` in a container
of its own, from the request until nothing of it exists: root file system with a writable layer,
namespaces, masks, control groups with three limits, capabilities, filter. Everyone's writable
layer is made and removed within the time. bwrap has no limits and no filter, so it does less.

The conditions of a run are those of the machine while it runs: arms of a round follow each other
in random order, and only ratios are judged.
"""

import json
import os
import random
import secrets
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.backends.bwrap import APART, KERNEL_FILES
from benchmarks.peers.bundle import configuration
from benchmarks.peers.instance import overlaid
from benchmarks.stats import ratio_of_medians
from runtime import syscalls
from runtime.container.container import Options, container, process_spec
from runtime.container.facts import HostFacts, host_facts
from runtime.container.launch.process import Executor
from runtime.container.spec import Limits
from runtime.container.state import instances_dir
from runtime.image import Image, Store, find_image, using_snapshots
from runtime.image.removal import remove_tree

ROUNDS = int(os.environ.get("ISOSCOPE_MICRO_ROUNDS", "60"))
WARM_UPS = 3
SEED = 20
RESAMPLES = 4000
LIMITS = Limits(memory_bytes=64 << 20, cpus=1, pids=64)
PEERS = ("runc", "crun", "bwrap")
GOALS = {"runc": 0.20, "crun": 0.35, "bwrap": 1.00}
_HYBRID = Path("/sys/fs/cgroup/unified")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(
        not all(shutil.which(peer) for peer in PEERS),
        reason="not installed: apt-get install runc crun bubblewrap",
    ),
    pytest.mark.timeout(1800),
]

Arm = Callable[[], None]


@pytest.fixture
def image() -> Iterator[Image]:
    """The image, with its layer unpacked; crun's dislike of hybrid groups is respected."""
    pytest.importorskip("matplotlib.pyplot")
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    if os.path.ismount(_HYBRID):
        syscalls.umount2(str(_HYBRID), syscalls.MNT_DETACH)
    instances_dir().mkdir(parents=True, exist_ok=True)
    yield find_image(Store(), "busybox")
    syscalls.setns(before, syscalls.CLONE_NEWNS)
    os.close(before)


def test_start_to_end(image: Image) -> None:
    facts = host_facts()
    with using_snapshots(Store(), image) as layers:
        arms = {
            "isoscope": ours(image, facts, Executor.COMPILED),
            "isoscope, Python": ours(image, facts, Executor.PYTHON),
            "runc": oci("runc", "", image, layers.paths[0], facts),
            "crun": oci("crun", "file:", image, layers.paths[0], facts),
            "bwrap": bwrap(layers.paths[0]),
        }
        taken_ms = measured(arms)
    print_table(taken_ms, ours="isoscope", goals=GOALS)
    for peer in ("runc", "crun"):
        ratio = ratio_of_medians(
            taken_ms["isoscope"], taken_ms[peer], resamples=RESAMPLES, key=peer
        )
        assert ratio is not None
        assert ratio.ci95 is not None
        assert ratio.ci95.high < 1


def measured(arms: Mapping[str, Arm]) -> dict[str, dict[int, float]]:
    """Arm -> round -> milliseconds; the first rounds warm up and do not count."""
    order = random.Random(SEED)
    taken_ms: dict[str, dict[int, float]] = {name: {} for name in arms}
    for number in range(-WARM_UPS, ROUNDS):
        for name in order.sample(list(arms), len(arms)):
            begun_ns = time.monotonic_ns()
            arms[name]()
            if number >= 0:
                taken_ms[name][number] = (time.monotonic_ns() - begun_ns) / 1e6
    return taken_ms


def print_table(
    taken_ms: Mapping[str, Mapping[int, float]], *, ours: str, goals: Mapping[str, float]
) -> None:
    """Every arm's spread, and *ours* over each other's with its 95 % interval and its goal."""
    print(f"\n{ROUNDS} rounds, seed {SEED}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':18}{'median':>8}{'p10':>8}{'p90':>8}{'min':>8}   ours / this, 95 % interval")
    for name, by_round in taken_ms.items():
        values = sorted(by_round.values())
        tenths = statistics.quantiles(values, n=10)
        line = f"{name:18}{statistics.median(values):8.2f}{tenths[0]:8.2f}{tenths[-1]:8.2f}"
        ratio = ratio_of_medians(taken_ms[ours], by_round, resamples=RESAMPLES, key=name)
        said = ""
        if ratio is not None and ratio.ci95 is not None and name != ours:
            said = f"{ratio.estimate:.2f}  {ratio.ci95.low:.2f} to {ratio.ci95.high:.2f}"
            said += f"  (goal {goals[name]:.2f})" if name in goals else ""
        print(f"{line}{values[0]:8.2f}   {said}")


def ours(image: Image, facts: HostFacts, executor: Executor) -> Arm:
    """Our own API, in this very process."""
    options = Options(limits=LIMITS, executor=executor)

    def run() -> None:
        with container(
            image, ("/bin/true",), options, stdio=(0, 1, 2), facts=facts
        ) as running:  # fmt: skip
            assert running.process.poll(None) == 0

    return run


def oci(name: str, log_prefix: str, image: Image, lower: Path, facts: HostFacts) -> Arm:
    """``RUNTIME run`` on a bundle with the same isolation, its document written beforehand."""
    program = path_of(name)
    process = process_spec(image, ("/bin/true",), Options(), (lower,))

    def run() -> None:
        with scratch() as directory, overlaid(lower, directory) as root:
            (directory / "config.json").write_text(
                json.dumps(
                    configuration(
                        process, root=str(root), hostname="micro", group=f"/{directory.name}",
                        limits=LIMITS, facts=facts, idle="",
                    )
                )
            )  # fmt: skip
            spawned(
                program, "--root", str(directory / "state"),
                "--log", f"{log_prefix}{directory / 'log'}",
                "run", "--bundle", str(directory), directory.name,
            )  # fmt: skip

    return run


def bwrap(lower: Path) -> Arm:
    """The same namespaces and mounts; it has neither limits nor a filter of its own."""
    program = path_of("bwrap")

    def run() -> None:
        with scratch() as directory, overlaid(lower, directory) as root:
            spawned(program, *APART, "--bind", str(root), "/", *KERNEL_FILES, "--", "/bin/true")

    return run


@contextmanager
def scratch() -> Iterator[Path]:
    """A peer's directory, where our own instances have theirs."""
    directory = instances_dir() / f"isoscope-micro-{secrets.token_hex(6)}"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        remove_tree(directory)


def spawned(program: str, *arguments: str) -> None:
    """Run *program* to its end, by the cheapest way there is from here."""
    pid = os.posix_spawn(program, (program, *arguments), {"PATH": os.defpath})
    _, status = os.waitpid(pid, 0)
    assert status == 0


def path_of(name: str) -> str:
    """Where *name* is installed."""
    found = shutil.which(name)
    assert found is not None
    return found
