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
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.micro.test_start import (
    LIMITS,
    RESAMPLES,
    Arm,
    image,  # noqa: F401 - a fixture
    measured,
    print_table,
    scratch,
)
from benchmarks.peers.bundle import configuration
from benchmarks.peers.instance import overlaid
from benchmarks.stats import ratio_of_medians
from runtime.container.container import Options, process_spec
from runtime.container.facts import host_facts
from runtime.image import Image, Store, using_snapshots

OURS = str(Path(__file__).parents[2] / "isoscope-oci")
RUNTIMES = {"isoscope-oci": (OURS, ""), "runc": ("runc", ""), "crun": ("crun", "file:")}
"""Name -> program, and what it wants before the path of a log."""
GOALS = {"runc": 0.70}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root"),
    pytest.mark.skipif(
        not (shutil.which("runc") and shutil.which("crun")),
        reason="not installed: apt-get install runc crun",
    ),
    pytest.mark.timeout(1800),
]


@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_command_to_its_end(image: Image, way: str) -> None:  # noqa: F811
    with using_snapshots(Store(), image) as layers, ExitStack() as undo:
        arms = {
            name: undo.enter_context(WAYS[way](name, image, layers.paths[0])) for name in RUNTIMES
        }
        taken_ms = measured(arms)
    print(f"\n{way}:", end="")
    print_table(taken_ms, ours="isoscope-oci", goals=GOALS)
    ours = taken_ms["isoscope-oci"]
    ratio = ratio_of_medians(ours, taken_ms["runc"], resamples=RESAMPLES, key=way)
    assert ratio is not None
    assert ratio.ci95 is not None
    assert ratio.ci95.high < 1


@contextmanager
def running_true(name: str, image: Image, lower: Path) -> Iterator[Arm]:  # noqa: F811
    """``RUNTIME run`` of /bin/true."""
    with bundle(image, lower, ("/bin/true",)) as directory:
        yield lambda: spawned(name, directory, "run", "--bundle", str(directory), directory.name)


@contextmanager
def entering(name: str, image: Image, lower: Path) -> Iterator[Arm]:  # noqa: F811
    """``RUNTIME exec`` of /bin/true in a container that sleeps."""
    with bundle(image, lower, ("/bin/sleep", "100000")) as directory:
        spawned(name, directory, "run", "--detach", "--bundle", str(directory), directory.name)
        try:
            yield lambda: spawned(name, directory, "exec", directory.name, "/bin/true")
        finally:
            spawned(name, directory, "delete", "--force", directory.name)


WAYS = {"run": running_true, "exec": entering}


@contextmanager
def bundle(image: Image, lower: Path, argv: tuple[str, ...]) -> Iterator[Path]:  # noqa: F811
    """A directory with a document, over a root that may be written to."""
    process = process_spec(image, argv, Options(), (lower,))
    with scratch() as directory, overlaid(lower, directory) as root:
        document = configuration(
            process, root=str(root), hostname="micro", group=f"/{directory.name}",
            limits=LIMITS, facts=host_facts(), idle="",
        )  # fmt: skip
        (directory / "config.json").write_text(json.dumps(document))
        yield directory


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
