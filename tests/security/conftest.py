"""Containers from inside: a program that tries what it must not be able to do."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attempts import Run

from runtime.container.attachments import Wishes
from runtime.container.capabilities import CAPABILITIES
from runtime.container.container import Completed, Options, complete, container
from runtime.container.devices import host_devices
from runtime.container.interrupts import delivered, held
from runtime.container.launch.streams import Gathering, Pipes
from runtime.container.protection import Protection
from runtime.container.state import instances_dir
from runtime.image import Image, state_dir
from runtime.volume.mount import MountRequest

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def _nothing_left(home: Path) -> Iterator[None]:
    """Of the tests' own home: others may run containers here too."""
    assert home == state_dir()
    yield
    assert str(state_dir() / "instances") not in Path("/proc/self/mountinfo").read_text()
    assert not instances_dir().exists() or not list(instances_dir().iterdir())


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> MountRequest:
    """The directory /t with ``attempt``, to be mounted."""
    if os.geteuid() != 0:
        pytest.skip("containers need root; run as root")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make the attempts with; apt-get install gcc")
    directory = tmp_path_factory.mktemp("t")
    source = Path(__file__).with_name("attempt.c")
    made = [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-static"]
    subprocess.run([*made, "-o", str(directory / "attempt"), str(source)], check=True)
    return MountRequest(kind="bind", target="/t", source=str(directory), read_only=True)


@pytest.fixture(scope="session")
def privileged() -> Protection:
    """What ``--privileged`` comes to."""
    every = frozenset(CAPABILITIES)
    return Protection(is_privileged=True, capabilities=every, devices=host_devices())


@pytest.fixture(scope="session")
def run(busybox: Image, tool: MountRequest) -> Run:
    """The function that runs words in a container with /t in it, to its end.

    Its groups are gone then. To *seen* the modes of its directory are added.
    """

    def to_its_end(
        words: Sequence[str],
        *,
        protection: Protection | None = None,
        mounts: Sequence[MountRequest] = (),
        seen: set[int] | None = None,
        **options: object,
    ) -> Completed:
        chosen = Options(
            attached=Wishes(mounts=(tool, *mounts)),
            protection=protection or Protection(),
            **options,  # type: ignore[arg-type]
        )
        with held() as before:
            pipes = Pipes.open()
            try:
                with container(busybox, words, chosen, stdio=pipes.child) as running:
                    pipes.close_child()
                    with delivered(before):
                        gathering = Gathering(pipes, b"")
                        done = complete(running.process, gathering, 0, timeout_s=LIMIT_S)
                    if seen is not None:
                        seen.add(running.directory.stat().st_mode & 0o777)
            finally:
                pipes.close()
        assert not [group for group in running.groups if group.exists()]
        return done

    return to_its_end
