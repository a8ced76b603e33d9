"""``runtime.run`` and ``runtime.Container``: what a notebook types."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

import runtime
from runtime.container.container import DeadlinePassed
from runtime.container.launch.process import CommandNotRunnable
from runtime.errors import ImageError, RuntimeFault, SpecError
from runtime.image import Image, state_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)
    assert not list((state_dir() / "instances").glob("*"))


def test_one_call_runs_a_command(busybox: Image) -> None:
    script = "cat; echo $WHO; pwd; id -u; cat /sys/fs/cgroup/pids/pids.max >&2; exit 3"
    done = runtime.run(
        busybox, ["sh", "-c", script], stdin=b"in ", env={"WHO": "me"}, cwd="/tmp", user="7",
        memory_bytes=32 << 20, cpus=0.5, pids=9,
    )  # fmt: skip
    assert (done.exit_status, done.stdout.split()) == (3, [b"in", b"me", b"/tmp", b"7"])
    assert done.stderr == b"9\n"
    times = [done.phases[name] for name in ("request", "engine", "init", "exec", "exit")]
    assert times == sorted(times)
    assert times[0] == 0


def test_an_image_is_found_by_name() -> None:
    assert runtime.run("busybox", ["echo", "hi"]).stdout == b"hi\n"
    with pytest.raises(ImageError, match="no-such-image"):
        runtime.run("no-such-image", ["true"])


def test_what_goes_wrong_leaves_nothing(busybox: Image) -> None:
    with pytest.raises(DeadlinePassed) as passed:
        runtime.run(busybox, ["sh", "-c", "echo so far; sleep 1000 # left-over"], timeout_s=1)
    assert passed.value.stdout == b"so far\n"
    with pytest.raises(CommandNotRunnable):
        runtime.run(busybox, ["nothing"])
    with pytest.raises(SpecError):
        runtime.run(busybox, ["a\0b"])


def test_a_block_holds_a_container(busybox: Image) -> None:
    asked = runtime.Container(busybox, env={"WHO": "me"}, pids=20)
    with asked as running:
        assert running.run(["sh", "-c", "echo $WHO > /x"], timeout_s=30).exit_status == 0
        assert running.run(["cat", "/x"], timeout_s=30).stdout == b"me\n"
        assert str(running.pid) in running._repr_html_()
    with pytest.raises(RuntimeFault, match="has ended"):
        running.run(["true"], timeout_s=30)
    with asked as again:  # a second block is a second container
        assert again.id != running.id
        assert again.run(["cat", "/x"], timeout_s=30).exit_status == 1


def test_an_error_in_the_block_ends_the_container(busybox: Image) -> None:
    def fail() -> None:
        with runtime.Container(busybox) as running:
            pidfds.append(os.pidfd_open(running.pid))
            raise KeyError(running.id)

    pidfds: list[int] = []
    with pytest.raises(KeyError):
        fail()
    with pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(pidfds[0], 0)
    os.close(pidfds[0])


def test_it_is_shown_without_acting() -> None:
    shown = runtime.Container("<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, runtime; assert not any(m.startswith('runtime.') for m in sys.modules);"
        "assert callable(runtime.run); assert 'runtime.container' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        runtime.nothing  # noqa: B018 - the attempt is the test
