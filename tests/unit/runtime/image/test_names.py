"""What the package offers is there, and nothing heavy is imported for who does not name it."""

import subprocess
import sys

import pytest

import runtime.image


def test_every_name_is_there_and_no_other() -> None:
    assert all(getattr(runtime.image, name) is not None for name in runtime.image.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_ours'"):
        runtime.image.nothing_of_ours  # noqa: B018 - the access is what is tried


def test_a_look_into_the_store_unpacks_nothing() -> None:
    script = "import sys, runtime.image; runtime.image.Store; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    heavy = {"runtime.image.snapshots", "runtime.image.bootstrap", "tarfile", "ctypes"}
    assert not heavy & {*said.stdout.decode().split()}


def test_a_container_whose_layers_are_there_imports_nothing_that_unpacks() -> None:
    script = "import sys, runtime.container.container; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    heavy = {f"runtime.image.{name}" for name in ("making", "layer", "changes", "unpacking")}
    assert not heavy & {*said.stdout.decode().split()}
