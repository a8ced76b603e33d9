"""A container, and a command in one, on a terminal whose master only its owner holds."""

import os
import secrets
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import leftovers
import pytest

from runtime.container import state
from runtime.container.container import Container, Options, container_spec, process_spec
from runtime.container.facts import host_facts
from runtime.container.launch.interpreter import run_steps
from runtime.container.launch.process import Executor, Process, start
from runtime.container.plan import plan, plan_exec
from runtime.container.spec import ContainerSpec
from runtime.container.steps import Plan
from runtime.container.terminal import Terminal
from runtime.image import Image, Store, unpacked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
LIMIT_S = 30.0
SIZE = Terminal(rows=33, columns=101)
LOOK = "tty; stty size; [ -t 0 -a -t 1 -a -t 2 ] && ls -l /proc/self/fd >/tmp/f 2>&1; cat; exit 7"

both = pytest.mark.parametrize("executor", Executor)


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)


@contextmanager
def on_terminal(
    decided: Plan, executor: Executor, *, init: Process | None = None
) -> Iterator[tuple[Process, int]]:
    """*decided*, started with a console socket; the process and the master that came over it."""
    with ExitStack() as undo:
        ours, theirs = socket.socketpair()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        undo.callback(os.close, null)
        with ours, theirs:
            process = start(
                decided, stdin=null, stdout=null, stderr=null, executor=executor,
                init=-1 if init is None else init.pidfd, console=theirs.fileno(),
            )  # fmt: skip
            undo.callback(process.close)
            _, (master,), _, _ = socket.recv_fds(ours, 64, 4, socket.MSG_CMSG_CLOEXEC)
        undo.callback(os.close, master)
        yield process, master


def read_until(master: int, words: bytes) -> bytes:
    """What the terminal shows up to *words*."""
    shown = b""
    while words not in shown:
        assert select.select([master], [], [], LIMIT_S)[0], shown
        shown += os.read(master, 4096)
    return shown


@contextmanager
def standing(image: Image, *argv: str, terminal: Terminal | None) -> Iterator[ContainerSpec]:
    """The specification of a container whose directory and groups are made."""
    name = secrets.token_hex(6)
    tree = unpacked(Store(), image, purpose="container").path
    process = replace(process_spec(image, argv, Options(), tree), terminal=terminal)
    spec = container_spec(process, Options(), lower=(tree,), name=name)
    directory = state.new_directory(name)
    groups = [s.args[0] for s in plan(spec, host_facts()).undo]
    try:
        state.record_owner(directory, [Path(str(g)) for g in groups])
        for layer in ("upper", "work", "root"):
            (directory / layer).mkdir()
        yield spec
    finally:
        state.remove_instance(directory)


@both
def test_a_container_on_a_terminal(busybox: Image, executor: Executor) -> None:
    with standing(busybox, "sh", "-c", LOOK, terminal=SIZE) as spec:
        decided = plan(spec, host_facts())
        run_steps(decided.host)
        with on_terminal(decided, executor) as (process, master):
            shown = read_until(master, b"33 101")
            assert b"/dev/pts/0" in shown
            os.write(master, b"caf\xc3\xa9\n")
            assert read_until(master, b"caf\xc3\xa9\r\ncaf\xc3\xa9")  # echoed, then written by cat
            open_here = (Path(spec.directory) / "upper/tmp/f").read_text()
            assert open_here.count("/dev/pts/0") == 1  # its output is the file
            assert "ptmx" not in open_here
            os.write(master, b"\x04")
            assert process.poll(LIMIT_S) == 7  # as LOOK says


@both
def test_a_command_on_a_terminal_of_the_container(busybox: Image, executor: Executor) -> None:
    with standing(busybox, terminal=None) as spec:
        facts = host_facts()
        decided = plan(spec, facts)
        run_steps(decided.host)
        init = start(decided, stdin=0, stdout=1, stderr=2, executor=executor)
        try:
            assert Container(spec, facts, init).pid == init.pid
            own = replace(spec.process, argv=("sh", "-c", LOOK), terminal=SIZE)
            with on_terminal(plan_exec(own, spec, facts), executor, init=init) as (_, master):
                assert b"/dev/pts/0" in read_until(master, b"33 101")
        finally:
            init.close()
