import subprocess
import sys
from typing import Any

import pytest

from vmbackend.errors import MachineSpecError
from vmbackend.spec import MachineSpec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cpus": 0}, "processors"),
        ({"cpus": 1000}, "processors"),
        ({"memory_bytes": 1 << 20}, "at least 96 MiB"),
        ({"accelerator": "xen"}, "no accelerator"),
        ({"argv": ("a\0b",)}, "NUL"),
        ({"env": {"A=B": "c"}}, "variable"),
        ({"env": {"": "c"}}, "variable"),
        ({"cwd": "relative"}, "not absolute"),
        ({"argv": ("x" * (3 << 20),)}, "2 MiB"),
    ],
)
def test_what_no_machine_can_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(MachineSpecError, match=says):
        MachineSpec(image="sha256:0", **change)


def test_importing_the_backend_loads_no_libvirt() -> None:
    code = "import sys, vmbackend.cli, vmbackend.probe; print('libvirt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
