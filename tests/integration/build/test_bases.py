"""Images that a Dockerfile names and that are not here: pulled from a registry of ours."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from integration.build.workplace import Workplace

from runtime.image import Image, Store
from runtime.image.bootstrap import bootstrap_busybox
from runtime.image.reference import parse_reference
from runtime.image.registry.access import Access
from runtime.image.registry.push import push
from runtime.image.registry.server import serving
from runtime.image.registry.service import Service

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry's host and port; what it serves is nowhere else."""
    theirs = Store(tmp_path / "theirs")
    bootstrap_busybox(theirs, "one")
    with serving(Store(tmp_path / "served"), Service(port=0)) as server:
        for name in ("one", "two"):
            push(theirs, "one", parse_reference(f"{server.authority}/{name}:1"), Access())
        yield server.authority


def forget(store: Store, registry: str) -> None:
    names = [name for i in store.images() for name in i.references if name.startswith(registry)]
    if names:
        store.remove(*names)


def test_what_is_missing_is_pulled_and_shown(
    workplace: Workplace, command: Command, registry: str
) -> None:
    workplace.write(
        "Dockerfile",
        f"FROM {registry}/one:1\nCOPY --from={registry}/two:1 /bin/busybox /copied\n"
        "RUN test -x /copied\n",
    )
    try:
        done = command("--progress", "plain")
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert lines[0] == f"#1 [pull] {registry}/one:1"
        assert f"#2 [pull] {registry}/two:1" in lines
        assert any(line.startswith("#3 [1/3] FROM") for line in lines)
        again = command("--progress", "plain")
        assert "[pull]" not in again.stderr
        assert again.stdout == done.stdout
        always = command("--progress", "plain", "--pull")
        assert always.stderr.count("[pull]") == 2
        assert always.stdout == done.stdout
    finally:
        forget(workplace.store, registry)


def test_what_is_not_to_be_pulled_is_an_error_and_so_is_what_is_nowhere(
    workplace: Workplace, command: Command, registry: str
) -> None:
    for line, number in (
        (f"FROM {registry}/none:1\n", 1),
        (f"COPY --from={registry}/none a /\n", 2),
    ):
        workplace.write("Dockerfile", line if number == 1 else f"FROM busybox\n{line}")
        never = command("--pull=never")
        assert never.returncode == 125
        told = never.stderr.splitlines()[-1]
        assert f"Dockerfile:{number}:" in told
        assert "there is no image" in told
        missing = command()
        assert missing.returncode == 125
        told = missing.stderr.splitlines()[-1]
        assert f"Dockerfile:{number}:" in told
        assert "is not here and cannot be pulled: " in told


def test_explaining_pulls_nothing(workplace: Workplace, command: Command, busybox: Image) -> None:
    workplace.write("Dockerfile", "FROM 127.0.0.1:1/none\n")
    done = command("--explain")
    assert done.returncode == 125
    assert "there is no image '127.0.0.1:1/none' here" in done.stderr
    assert busybox.digest
