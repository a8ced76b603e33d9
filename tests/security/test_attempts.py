"""Every line of the table in ``attempts``: it ends as it says, and its control shows why."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import golden_files
import pytest
from attempts import Attempt, Run, every, rendered

from runtime.container.protection import Protection
from runtime.volume.mount import MountRequest

NOT_HERE = {"ENOENT", "ENOSYS", "EAFNOSUPPORT"}
"""How an attempt ends that is let through on a kernel which lacks what is attempted."""

Ends = Mapping[str, str]


@pytest.fixture(scope="module")
def given() -> Iterator[Mapping[str, str]]:
    """What stands for the host in the words: a process, and a socket without a file."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0isoscope-host")
        listening.listen()
        with subprocess.Popen(["sleep", "1000"]) as process:
            yield {"HOST": str(process.pid), "SOCKET": "isoscope-host"}
            process.kill()


def words_of(given: Mapping[str, str]) -> list[str]:
    return [filled(each, given) for each in every()]


def filled(attempt: Attempt, given: Mapping[str, str]) -> str:
    name, equals, argument = attempt.word.partition("=")
    return f"{name}{equals}{given.get(argument, argument)}"


def ends_of(output: bytes) -> Ends:
    lines = (line.rpartition(" ") for line in output.decode().splitlines())
    return {word: end for word, _, end in lines}


@pytest.fixture(scope="module")
def inside(run: Run, given: Mapping[str, str]) -> Ends:
    return ends_of(run(["/t/attempt", *words_of(given)]).stdout)


@pytest.fixture(scope="module")
def privileged_ends(run: Run, given: Mapping[str, str], privileged: Protection) -> Ends:
    return ends_of(run(["/t/attempt", *words_of(given)], protection=privileged).stdout)


@pytest.fixture(scope="module")
def host_ends(
    tool: MountRequest, given: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Ends:
    """As a plain process, chroot and nothing else."""
    root = tmp_path_factory.mktemp("root")
    (root / "tmp").mkdir()
    shutil.copy(Path(tool.source, "attempt"), root / "attempt")
    words = [filled(each, given) for each in every() if each.control == "host"]
    done = subprocess.run(
        ["chroot", str(root), "/attempt", *words], capture_output=True, check=True, timeout=60
    )
    return ends_of(done.stdout)


@pytest.mark.parametrize("attempt", list(every()), ids=lambda attempt: attempt.word)
def test_it_ends_as_the_table_says(
    attempt: Attempt, inside: Ends, privileged_ends: Ends, given: Mapping[str, str]
) -> None:
    word = filled(attempt, given)
    end = inside[word]
    lacks_it = end in NOT_HERE and privileged_ends[word] == end
    assert end == attempt.ends or lacks_it


@pytest.mark.parametrize(
    "attempt", [each for each in every() if each.control], ids=lambda attempt: attempt.word
)
def test_without_the_protection_it_is_let_through(
    attempt: Attempt, privileged_ends: Ends, host_ends: Ends, given: Mapping[str, str]
) -> None:
    word = filled(attempt, given)
    end = (host_ends if attempt.control == "host" else privileged_ends)[word]
    if end in NOT_HERE - attempt.passes:
        pytest.skip(f"this machine has nothing to try it on: {attempt.word} ended with {end}")
    assert end in attempt.passes


def test_the_page_tells_of_every_test_here() -> None:
    golden_files.check("../security/README.md", rendered(_own_tests()))


def _own_tests() -> Mapping[str, str]:
    """The tests of this folder that are no line of the table: name -> what their name says."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name != Path(__file__).name:
            names = re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
            found |= {name: name.removeprefix("test_").replace("_", " ") for name in names}
    return found


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root; run as root")
