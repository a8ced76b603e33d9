"""The wheel holds exactly the declared top level, and the front door stays light."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOP_LEVEL = {"runtime", "vmbackend", "benchmarks", "reports", "isoscope.py"}


def test_the_wheel_is_what_is_declared(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == TOP_LEVEL
    needed = {
        "vmbackend/guest/agent.c",
        "vmbackend/watchdog.c",
        "runtime/container/launch/executor.c",
        "benchmarks/completion/isoscope.bash",
        "reports/templates/report.html.j2",
    }
    assert needed <= set(names)


def test_the_lock_pins_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["vm"], *extras["report"]]
    locked = (ROOT / "requirements.lock").read_text()
    for requirement in asked:
        name = requirement.partition(">")[0]
        assert f"\n{name}==" in f"\n{locked}", name


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_the_front_door_imports_nothing_heavy() -> None:
    loaded = loaded_by("import isoscope")
    assert not loaded & {"runtime", "benchmarks", "reports", "vmbackend", "argparse", "json"}


def test_running_a_container_imports_no_other_engine() -> None:
    loaded = loaded_by("import runtime.cli")
    heavy = {"numpy", "rich", "matplotlib", "jinja2", "libvirt", "benchmarks", "vmbackend"}
    assert not loaded & heavy


def test_a_worker_imports_one_engine() -> None:
    loaded = loaded_by("import benchmarks.worker; import benchmarks.backends.container")
    assert not loaded & {"numpy", "rich", "libvirt", "vmbackend", "reports"}
