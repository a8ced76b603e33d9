"""Every command that the README shows is run: as it is typed there, or where it says below."""

import ast
import re
import subprocess
from pathlib import Path

import leftovers
import pytest

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^ {4}(\./isoscope\b.*?)(?: {2,}#.*)?$", re.MULTILINE)
_INLINE = re.compile(r"`(\./isoscope [^`]+)`")

LESS = "--blocks 1"
SMALLER = {
    "./isoscope bench": "--blocks 1 --on host,container",
    "./isoscope bench boot --on container,vm --blocks 20 --seed 1": LESS,
    "./isoscope bench boot --blocks 6 --json": LESS,
    "./isoscope bench boot --on vm,vm:restored": LESS,
    "./isoscope bench boot --on qemu,vm,vm:ordinary": LESS,
    "./isoscope bench boot --precision 5% --budget 20m": "--budget 10s --on host,container",
    "./isoscope bench boot --on host,container,vm,runc,crun,bwrap,podman,docker,qemu": LESS,
}
"""What is added to a command that takes the minutes that it says."""

KEPT = "integration/kept/test_life.py::test_it_lives_on_is_found_asked_and_removed"
ELSEWHERE = {
    "./isoscope test": ".ci/run",
    "./isoscope setup --peers": "isoscope",
    "./isoscope image bootstrap debian": (
        "integration/image/test_debian.py::test_a_base_with_nothing_of_this_machine"
    ),
    "./isoscope image push busybox localhost:5000/team/busybox:1": (
        "integration/registry/test_peers.py::test_docker_registry_both_ways"
    ),
    "./isoscope run -p 8080:80 -v ./site:/srv:ro busybox httpd -f -h /srv": (
        "integration/test_networks.py::test_a_published_port_is_reached_from_everywhere"
    ),
    "./isoscope registry serve --port 5000": (
        "integration/registry/test_server.py::test_the_command_serves_and_ends_clean"
    ),
    "./isoscope run -d --name web busybox httpd -f -h /etc": KEPT,
    "./isoscope exec web ps": KEPT,
    "./isoscope rm -f web": KEPT,
    "./isoscope run --on vm --connect qemu:///system busybox uname -r": (
        "integration/vmbackend/test_connections.py::test_the_systems_daemon_has_the_machine_and_outlives_its_own_death"
    ),
    "./isoscope uninstall": "packaging/test_uninstall.py::test_what_we_made_goes_and_no_more",
    "./isoscope lab": "notebooks/test_lab.py::test_jupyterlab_is_opened_on_the_copies",
}
"""What cannot run inside a test as it stands, and the place that runs it."""

STATUS = {"exit 7": 7}


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    typed = (*_BLOCK.findall(text), *_INLINE.findall(text))
    parts = (part.strip() for line in typed for part in line.split("&&"))
    return list(dict.fromkeys(parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    (folder / "isoscope").symlink_to(ROOT / "isoscope")
    for name in ("examples", "benchmarks"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> str:
    """A finished run, whose name stands for RUN."""
    shell("./isoscope bench boot --blocks 1 --on host,container --out results/first", folder, 0)
    [found] = folder.glob("results/first/**/run.json")
    return str(found.parent.relative_to(folder))


def shell(command: str, folder: Path, status: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=280,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == status, f"{command}\n{said[-4000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("command", [each for each in commands() if each not in ELSEWHERE])
def test_it_does_what_it_says(command: str, folder: Path, request: pytest.FixtureRequest) -> None:
    before = leftovers.seen()
    typed = f"{command} {SMALLER.get(command, '')}"
    if "results/RUN" in typed:
        typed = typed.replace("results/RUN", request.getfixturevalue("run"))
    if "primes" in typed and "build" not in typed:
        shell("./isoscope image build -q -t primes examples/multi-stage", folder, 0)
    status = next((code for words, code in STATUS.items() if words in command), 0)
    shell(typed, folder, status)
    assert not leftovers.settled(before)


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_runs_elsewhere_is_there(command: str) -> None:
    file, _, test = ELSEWHERE[command].partition("::")
    text = (ROOT / "tests" / file if test else ROOT / file).read_text()
    if test:
        functions = (each for each in ast.walk(ast.parse(text)) if hasattr(each, "name"))
        assert test in {each.name for each in functions}
    else:
        assert command.rsplit(maxsplit=1)[-1] in text


def test_nothing_is_listed_that_the_readme_does_not_show() -> None:
    assert {*SMALLER, *ELSEWHERE} <= set(commands())
