import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmbackend.probe import probe

FORK = """
import os, sys
from vmbackend.errors import MachineUnavailable
from vmbackend.hypervisor import hypervisor
engine = hypervisor()
pid = os.fork()
if pid == 0:
    try:
        hypervisor()
    except MachineUnavailable:
        sys.exit(3)  # runs the clean-up of the parent, which must not clean up
    sys.exit(4)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), engine.root.is_dir(), engine.root)
"""


def test_a_fork_does_not_close_what_its_parent_opened() -> None:
    why = probe()
    if why is not None:
        pytest.skip("; ".join(why))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    status, alive, root = done.stdout.split()
    assert (status, alive) == ("3", "True")
    assert not Path(root).exists()
