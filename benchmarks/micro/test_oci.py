"""isoscope-oci beside runc and crun: the same bundle, one command to its end, in turns.

Not part of the test run: ``python -m pytest -s benchmarks/micro/test_oci.py``. ``run`` is the
whole life of a container of ``/bin/true``: namespaces, masks, control groups with three limits
and a list of devices, capabilities, filter, and the removal of all that. ``exec`` is ``/bin/true``
in a container that runs. Timed is the process of the command, from its spawn to its end, as an
engine waits for it; everybody is given the same document, written beforehand, and the same root.

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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.peers.bundle import configuration
from benchmarks.peers.instance import overlaid
from benchmarks.stats import ratio_of_medians
from runtime import syscalls
from runtime.container.container import Options, process_spec
from runtime.container.facts import host_facts
from runtime.container.spec import Limits
from runtime.container.state import instances_dir
from runtime.image import Image, Store, find_image, using_snapshots
from runtime.image.removal import remove_tree

ROUNDS = int(os.environ.get("ISOSCOPE_MICRO_ROUNDS", "100"))
WARM_UPS = 3
SEED = 21
RESAMPLES = 4000
LIMITS = Limits(memory_bytes=64 << 20, cpus=1, pids=64)
OURS = str(Path(__file__).parents[2] / "isoscope-oci")
RUNTIMES = {"isoscope-oci": (OURS, ""), "runc": ("runc", ""), "crun": ("crun", "file:")}
"""Name -> program, and what it wants before the path of a log."""
GOALS = {"run": 0.70, "exec": 0.70}
_HYBRID = Path("/sys/fs/cgroup/unified")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(
        not (shutil.which("runc") and shutil.which("crun")),
        reason="not installed: apt-get install runc crun",
    ),
    pytest.mark.timeout(1800),
]

Arm = Callable[[], None]


@pytest.fixture
def image() -> Iterator[Image]:
    """The image, where crun's dislike of hybrid groups is respected."""
    before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    if os.path.ismount(_HYBRID):
        syscalls.umount2(str(_HYBRID), syscalls.MNT_DETACH)
    instances_dir().mkdir(parents=True, exist_ok=True)
    yield find_image(Store(), "busybox")
    syscalls.setns(before, syscalls.CLONE_NEWNS)
    os.close(before)


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_command_to_its_end(image: Image, way: str) -> None:
    with using_snapshots(Store(), image) as layers, ExitStack() as undo:
        arms = {
            name: undo.enter_context(WAYS[way](name, image, layers.paths[0])) for name in RUNTIMES
        }
        taken_ms = measured(arms)
    print_table(way, taken_ms)
    ours = taken_ms["isoscope-oci"]
    ratio = ratio_of_medians(ours, taken_ms["runc"], resamples=RESAMPLES, key=way)
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


def print_table(way: str, taken_ms: Mapping[str, Mapping[int, float]]) -> None:
    """Every arm's spread, and ours over each peer's with its 95 % interval."""
    print(f"\n{way}: {ROUNDS} rounds, seed {SEED}, load {os.getloadavg()[0]:.1f}")
    print(f"{'':14}{'median':>8}{'p10':>8}{'p90':>8}{'min':>8}   ours / this, 95 % interval")
    for name, by_round in taken_ms.items():
        values = sorted(by_round.values())
        tenths = statistics.quantiles(values, n=10)
        line = f"{name:14}{statistics.median(values):8.2f}{tenths[0]:8.2f}{tenths[-1]:8.2f}"
        ratio = ratio_of_medians(taken_ms["isoscope-oci"], by_round, resamples=RESAMPLES, key=name)
        said = ""
        if ratio is not None and ratio.ci95 is not None and name != "isoscope-oci":
            said = f"{ratio.estimate:.2f}  {ratio.ci95.low:.2f} to {ratio.ci95.high:.2f}"
            said += f"  (goal {GOALS[way]:.2f})" if name == "runc" else ""
        print(f"{line}{values[0]:8.2f}   {said}")


@contextmanager
def running_true(name: str, image: Image, lower: Path) -> Iterator[Arm]:
    """``RUNTIME run`` of /bin/true."""
    with bundle(image, lower, ("/bin/true",)) as directory:
        yield lambda: spawned(name, directory, "run", "--bundle", str(directory), directory.name)


@contextmanager
def entering(name: str, image: Image, lower: Path) -> Iterator[Arm]:
    """``RUNTIME exec`` of /bin/true in a container that sleeps."""
    with bundle(image, lower, ("/bin/sleep", "100000")) as directory:
        spawned(name, directory, "run", "--detach", "--bundle", str(directory), directory.name)
        try:
            yield lambda: spawned(name, directory, "exec", directory.name, "/bin/true")
        finally:
            spawned(name, directory, "delete", "--force", directory.name)


WAYS = {"run": running_true, "exec": entering}


@contextmanager
def bundle(image: Image, lower: Path, argv: tuple[str, ...]) -> Iterator[Path]:
    """A directory with a document, over a root that may be written to."""
    directory = instances_dir() / f"isoscope-micro-{secrets.token_hex(6)}"
    directory.mkdir(mode=0o700)
    process = process_spec(image, argv, Options(), (lower,))
    try:
        with overlaid(lower, directory) as root:
            document = configuration(
                process, root=str(root), hostname="micro", group=f"/{directory.name}",
                limits=LIMITS, facts=host_facts(), idle="",
            )  # fmt: skip
            (directory / "config.json").write_text(json.dumps(document))
            yield directory
    finally:
        remove_tree(directory)


def spawned(name: str, directory: Path, *words: str) -> None:
    """Run the runtime *name* to its end, by the cheapest way there is from here."""
    program, log_prefix = RUNTIMES[name]
    found = shutil.which(program)
    assert found is not None
    state, log = str(directory / "state"), f"{log_prefix}{directory / 'log'}"
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    pid = os.posix_spawn(
        found, (program, "--root", state, "--log", log, *words),
        {"PATH": os.defpath, "ISOSCOPE_HOME": os.environ.get("ISOSCOPE_HOME", "")},
        file_actions=null,
    )  # fmt: skip
    _, status = os.waitpid(pid, 0)
    assert status == 0, log
