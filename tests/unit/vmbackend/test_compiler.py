import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmbackend.compiler import AGENT, WATCHDOG

STRICT = ("-Wall", "-Wextra", "-Wshadow", "-Werror", "-std=gnu11", "-O2", "-fsyntax-only")


@pytest.mark.parametrize("sources", [AGENT, WATCHDOG])
def test_our_c_is_free_of_warnings(sources: Sequence[Path]) -> None:
    units = [source for source in sources if source.suffix == ".c"]
    done = subprocess.run(["gcc", *STRICT, *units], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
