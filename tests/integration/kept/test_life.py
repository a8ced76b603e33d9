"""Containers that run on their own, from their start to their removal, as people type it."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kept_containers import (
    LIMIT_S,
    argv,
    ids,
    isoscope,
    leaving_nothing,
    ok,
    refused,
    stress,
    until,
)

import runtime
from runtime.container.container import Options
from runtime.container.kept.kept import Kept, tidy
from runtime.container.kept.record import wait_for
from runtime.container.launch.process import CommandNotRunnable
from runtime.container.spec import Limits
from runtime.container.state import instances_dir, sweep
from runtime.errors import RuntimeFault, SpecError
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")


@pytest.fixture(autouse=True)
def seen(busybox: Image) -> Iterator[set[str]]:
    assert busybox.digest
    with leaving_nothing() as seen:
        yield seen


def made(image: Image, *command: str, name: str | None = None, **options: object) -> Kept:
    kept, _ = Kept.run(image, command, Options(**options), name=name)  # type: ignore[arg-type]
    return kept


def test_it_lives_on_is_found_asked_and_removed() -> None:
    script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    whole = ok("run", "-d", "--name", "web", "-e", "A=1", "busybox", "sh", "-c", script).strip()
    until(lambda: ok("logs", whole[:6]) == "ready\n")
    (row,) = json.loads(ok("ps", "--json"))
    assert (row["id"], row["name"], row["state"]) == (whole, "web", "running")
    done = isoscope("exec", "-w", "/tmp", "web", "sh", "-c", "echo $A $PWD; echo e >&2; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, "1 /tmp\n", "e\n")
    assert "is running" in refused("rm", "web")
    assert ok("stop", "web") == "web\n"
    assert ok("ps", "-q") == ""
    assert ok("wait", "web") == "4\n"
    assert "does not run" in refused("exec", "web", "true")
    assert f"in use by {whole}" in refused("image", "rm", "busybox")
    assert ok("rm", "web") == "web\n"
    assert "no container 'web'" in refused("inspect", "web")


def test_what_it_wrote_is_there_when_it_starts_again(busybox: Image) -> None:
    with made(busybox, "sh", "-c", "echo x >> /file; wc -l < /file") as kept:
        assert kept.wait() == 0
        kept.start()
        assert kept.wait() == 0
        assert b"".join(each.data for each in kept.frames()) == b"1\n2\n"
        assert kept.directory.name not in sweep()


def test_a_name_is_one_containers_own(busybox: Image) -> None:
    with made(busybox, "true", name="a-name") as kept:
        with pytest.raises(SpecError, match=kept.id):
            made(busybox, "true", name="a-name")
        kept.rename("another")
        with made(busybox, "true", name="a-name") as second:
            with pytest.raises(SpecError, match="a-name"):
                kept.rename("a-name")
            assert [each.id for each in runtime.containers("another")] == [kept.id]
            second.wait()
        with pytest.raises(SpecError, match="cannot be the name"):
            kept.rename("../x")


def test_a_command_that_is_not_there_leaves_nothing(busybox: Image) -> None:
    before = ids()
    with pytest.raises(CommandNotRunnable):
        made(busybox, "nothing-of-the-kind")
    assert ids() == before
    assert isoscope("run", "-d", "busybox", "nothing-of-the-kind").returncode == 127
    assert ids() == before


def test_one_that_cleans_up_is_gone_after_its_end_which_is_known(busybox: Image) -> None:
    kept, _ = Kept.run(busybox, ("sh", "-c", "sleep 0.3; exit 5"), Options(), is_kept=False)
    assert kept.wait() == 5
    until(lambda: not kept.directory.exists())


def test_a_killed_one_is_told_as_such(busybox: Image) -> None:
    with made(busybox, "sleep", "100") as kept:
        kept.kill(signal.SIGKILL)
        assert kept.wait() == 137
        with pytest.raises(RuntimeFault, match="does not run"):
            kept.kill(signal.SIGTERM)


def test_a_killed_executor_is_no_running_container(busybox: Image) -> None:
    with made(busybox, "sleep", "100") as kept:
        executor = kept.record.executor
        assert executor is not None
        os.kill(executor.pid, signal.SIGKILL)
        assert wait_for(kept.record.init, LIMIT_S)
        assert kept.wait() == 137
        kept.start()
        assert kept.standing.state == "running"


def test_init_ignores_the_request_and_is_killed(busybox: Image) -> None:
    with made(busybox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done") as kept:
        kept.stop(0.1)
        assert kept.standing.exit_status == 137


def test_limits_change_while_it_runs_and_stay(busybox: Image) -> None:
    with made(busybox, "sleep", "100", limits=Limits(memory_bytes=64 << 20)) as kept:
        assert kept.stats().memory_limit_bytes == 64 << 20
        for size_bytes in (128 << 20, 32 << 20):  # v1 wants the two files in another order
            kept.update(Limits(memory_bytes=size_bytes))
            assert kept.stats().memory_limit_bytes == size_bytes
        kept.stop(0)
        kept.start()
        assert kept.stats().memory_limit_bytes == 32 << 20
        (process,) = kept.processes()
        assert process.command == "sleep 100"


def test_stop_and_removal_at_the_same_time(busybox: Image) -> None:
    with made(busybox, "sh", "-c", "trap '' TERM; while :; do sleep 1; done") as kept:
        with ThreadPoolExecutor(4) as pool:
            verbs = [("stop", "-t", "1"), ("rm", "-f"), ("stop", "-t", "1"), ("rm", "-f")]
            done = [pool.submit(isoscope, *verb, kept.id) for verb in verbs]
        for each in done:
            result = each.result()
            assert result.returncode in {0, 125}
            assert "error of ours" not in result.stderr
        assert not kept.directory.exists()


def test_two_starts_make_one(busybox: Image) -> None:
    with made(busybox, "sleep", "100") as kept:
        kept.stop(0)
        with ThreadPoolExecutor(2) as pool:
            done = [*pool.map(isoscope, ["start"] * 2, [kept.id] * 2)]
        assert {each.returncode for each in done} == {0}
        assert len([p for p in kept.processes() if p.command == "sleep 100"]) == 1


def test_a_command_in_the_foreground_can_be_found_too() -> None:
    with subprocess.Popen(
        argv("run", "--name", "front", "busybox", "sh", "-c", "echo ready; sleep 100"),
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        until(lambda: "front" in ok("ps"))
        assert "front" in refused("run", "--name", "front", "busybox", "true")
        assert ok("exec", "front", "echo", "in") == "in\n"
        assert "in the foreground" in refused("logs", "front")
        ok("rm", "-f", "front")
        assert process.wait(LIMIT_S) == 137
    assert "front" not in ok("ps", "-a")


def test_a_record_that_cannot_be_read_is_no_obstacle(busybox: Image) -> None:
    with made(busybox, "true") as kept:
        kept.wait()
        until(lambda: not list(instances_dir().glob(f"{kept.id}/.record*")))
        (kept.directory / "record.json").write_text('{"schema": 1}')
        assert kept.id not in sweep()
        assert "rm -f" in refused("inspect", kept.id)
        ok("rm", "-f", kept.id)
        assert not kept.directory.exists()


def test_a_removed_one_is_not_tidied(tmp_path: Path) -> None:
    tidy(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_random_things_and_kills() -> None:
    said: list[str] = []
    stress(20, random_seed(), said.append)
    assert len(said) == 20


def random_seed() -> int:
    return int.from_bytes(os.urandom(2), "little")
