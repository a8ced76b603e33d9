"""The executor in C and the one in Python do the same, and nothing outlives its owner."""

import os
import re
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import leftovers
import pytest

from runtime import syscalls
from runtime.container import state
from runtime.container.container import (
    Container,
    Options,
    complete,
    container,
    container_spec,
    piped,
    process_spec,
)
from runtime.container.facts import host_facts
from runtime.container.launch.interpreter import run_steps
from runtime.container.launch.process import (
    EXECUTIONS,
    CommandNotRunnable,
    Executor,
    Process,
    start,
)
from runtime.container.launch.program import OWNER, STATUS
from runtime.container.plan import plan, plan_plain
from runtime.container.rungs.programs import executor_rung
from runtime.container.spec import Limits
from runtime.container.steps import Plan, Step
from runtime.errors import StepError, SyscallError, Unsupported
from runtime.image import Image, Store, state_dir, unpacked

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")
ROOT = Path(__file__).parents[3]
LIMIT_S = 30.0
SOME = Limits(memory_bytes=32 << 20, cpus=0.5, pids=20)

both = pytest.mark.parametrize("executor", Executor)


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)
    assert not list((state_dir() / "instances").glob("*"))


@contextmanager
def idle(image: Image, executor: Executor, *, limits: Limits = SOME) -> Iterator[Container]:
    options = Options(limits=limits, executor=executor, env={"WHO": "me"})
    with container(image, (), options, stdio=(0, 1, 2)) as running:
        yield running


LOOK = """
cd /proc/self; grep -E '^(Uid|Gid|Groups|Cap|NoNew|Seccomp|Sig[BIC]|Umask)' status
cut -d' ' -f4- mountinfo; cat cgroup; pwd; hostname; env; ls fd
cat /proc/net/dev | wc -l; ulimit -a; ls -l /dev; readlink ns/pid ns/net ns/mnt ns/ipc | wc -l
cat /sys/fs/cgroup/*/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true
"""


def seen(said: bytes) -> str:
    """What LOOK said, without the names and numbers that are of one instance."""
    text = re.sub(r"[0-9a-f]{12}", "ID", said.decode())
    text = re.sub(r"\b[0-9]+:[0-9]+ ", "DEVICE ", text)
    return re.sub(r"[A-Z][a-z]{2} +[0-9]+ [0-9:]{5}", "DATE", text)


def run(decided: Plan, executor: Executor, *, within: Process | None = None) -> Any:
    asked_ns = time.monotonic_ns()
    with piped(decided, b"", within=within, executor=executor) as (process, gathering):
        return complete(process, gathering, asked_ns, timeout_s=LIMIT_S)


def of_container(image: Image, executor: Executor) -> Any:
    name = secrets.token_hex(6)
    with ExitStack() as undo:
        directory = state.new_directory(name)
        undo.callback(state.remove_instance, directory)
        decided = prepared(image, ("sh", "-c", LOOK), name, directory)
        return run(decided, executor)


def prepared(image: Image, argv: tuple[str, ...], name: str, directory: Path) -> Plan:
    """The plan of a container whose directory and groups have been made."""
    tree = unpacked(Store(), image, purpose="container").path
    options = Options(limits=SOME, env={"WHO": "me"})
    spec = container_spec(
        process_spec(image, argv, options, tree), options, lower=(tree,), name=name
    )
    facts = host_facts()
    decided = plan(spec, facts)
    groups = [Path(step.args[0]) for step in decided.undo if isinstance(step.args[0], str)]
    state.record_owner(directory, groups)
    for layer in ("upper", "work", "root"):
        (directory / layer).mkdir()
    run_steps(decided.host)
    return decided


def of_join(image: Image, executor: Executor) -> Any:
    with idle(image, executor) as running:
        return running.run(("sh", "-c", LOOK), timeout_s=LIMIT_S)


def of_plain(image: Image, executor: Executor) -> Any:
    tree = unpacked(Store(), image, purpose="host").path
    process = process_spec(
        image, ("/bin/sh", "-c", "id; pwd; env; umask; ulimit -a"), Options(), tree
    )
    return run(plan_plain(process, str(tree), os.uname().machine), executor)


@pytest.mark.parametrize("kind", [of_container, of_join, of_plain])
def test_both_leave_the_same(busybox: Image, kind: Callable[..., Any]) -> None:
    ours, other = (kind(busybox, executor) for executor in Executor)
    assert ours.exit_status == other.exit_status == 0
    assert ours.stdout.count(b"\n") > 3
    assert seen(ours.stdout) == seen(other.stdout)
    assert ours.stderr == other.stderr
    assert set(ours.phases) == set(other.phases)
    assert {"engine", "engine.clone", "exec", "output", "exit"} <= set(ours.phases)
    order = sorted(set(ours.phases) & {"engine", "init", "prepared", "exec", "exit"})
    assert sorted(order, key=ours.phases.__getitem__) == sorted(
        order, key=["engine", "init", "prepared", "exec", "exit"].index
    )


def small(*steps: Step, flags: int = 0) -> Plan:
    return Plan(clone_flags=flags, inside=steps)


@both
@pytest.mark.parametrize(
    ("steps", "index", "errno"),
    [
        ((Step("setsid", (), "a"), Step("chdir", ("/nowhere",), "b")), 1, 2),
        ((Step("write", ("/proc/sys/kernel/nothing", "1"), "a"),), 0, 2),
        ((Step("write", ("/proc/version", "1"), "a"), Step("setsid", (), "b")), 0, 5),
        ((Step("rmdir", ("/proc",), "a"), Step("setsid", (), "b")), 0, 16),
    ],
)
def test_a_refused_step_is_named(
    executor: Executor, steps: tuple[Step, ...], index: int, errno: int
) -> None:
    with pytest.raises(StepError) as caught:
        start(small(*steps), stdin=0, stdout=1, stderr=2, executor=executor)
    assert (caught.value.index, caught.value.errno) == (index, errno)
    assert steps[index].call in str(caught.value)
    assert steps[index].reason in str(caught.value)


@both
def test_what_is_allowed_to_fail_is_passed_over(executor: Executor) -> None:
    steps = (
        Step("write", ("/nowhere/x", "1"), "a", allow=frozenset({2, 13, 20})),
        Step("mkdir", ("/proc", 0o755), "b", allow=frozenset({17})),
        Step("chdir", ("/nowhere",), "c"),
    )
    with pytest.raises(StepError) as caught:
        start(small(*steps), stdin=0, stdout=1, stderr=2, executor=executor)
    assert caught.value.index == 2


@both
def test_a_refused_clone_is_named(executor: Executor) -> None:
    contradiction = syscalls.CLONE_NEWUSER | 0x200  # CLONE_FS: clone(2), EINVAL
    with pytest.raises(SyscallError, match="clone"):
        start(
            small(Step("setsid", (), "a"), flags=contradiction),
            stdin=0, stdout=1, stderr=2, executor=executor,
        )  # fmt: skip


@both
@pytest.mark.parametrize(("name", "status"), [("nothing", 127), ("/etc", 126)])
def test_a_program_that_is_not_there_is_said(
    busybox: Image, executor: Executor, name: str, status: int
) -> None:
    with idle(busybox, executor) as running, pytest.raises(CommandNotRunnable) as caught:
        running.run((name,), timeout_s=LIMIT_S)
    assert caught.value.status == status


@both
def test_descriptors_of_the_caller_do_not_collide(busybox: Image, executor: Executor) -> None:
    """Whatever numbers the caller's descriptors have, each arrives where it belongs."""
    saved = [os.dup(fd) for fd in (0, 1, 2)]
    read, write = os.pipe()
    try:
        os.dup2(write, 0)  # the workload's output is our standard input
        with container(
            busybox, ("sh", "-c", "echo out; echo err >&2; ls /proc/self/fd"),
            Options(executor=executor), stdio=(saved[0], 0, write),
        ) as running:  # fmt: skip
            assert running.process.poll(LIMIT_S) == 0
        assert os.read(read, 100).split() == [b"out", b"err", b"0", b"1", b"2", b"3"]
    finally:
        os.dup2(saved[0], 0)
        for fd in (*saved, read, write):
            os.close(fd)


OWNING = """
import os, sys, time
from runtime.container.container import Options, container
from runtime.container.launch.process import Executor
from runtime.image import Store
image = Store().resolve("busybox")
options = Options(executor=Executor(sys.argv[1]))
user = "echo 'n:x:7:7::/:/bin/sh' > /etc/passwd"
script = f"{user}; exec su n -c 'id -u; exec sleep 1000 # left-over'"
with container(image, ("sh", "-c", script), options, stdio=(0, 1, 2)) as running:
    if os.fork() == 0:  # and has our end of the executor's socket
        os.read(0, 1)
        os._exit(0)
    os.write(1, f"{running.pid} {running.process.executor}\\n".encode())  # at once, or not a line
    time.sleep(1000)
"""


@contextmanager
def owner(executor: Executor) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A process with a container that has shed the signal it should die by; both pidfds."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNING, executor.value],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process, ExitStack() as undo:  # fmt: skip
        undo.callback(process.kill)
        assert process.stdout is not None
        said = process.stdout.readline().split() + process.stdout.readline().split()
        pids = next(said[i : i + 2] for i in range(2) if said[i] != "7" and said[i + 1] != "7")
        init, keeper = (os.pidfd_open(int(pid)) for pid in pids)
        try:
            yield process, init, keeper
        finally:
            process.kill()
            os.close(init)
            os.close(keeper)
    state.sweep()


def has_ended(pidfd: int, within_s: float) -> bool:
    return bool(select.select([pidfd], [], [], within_s)[0])


@both
def test_a_workload_of_another_user_dies_with_an_owner_whose_fork_lives_on(
    executor: Executor,
) -> None:
    with owner(executor) as (process, init, keeper):
        assert not has_ended(init, 0)
        process.kill()
        assert has_ended(init, LIMIT_S)
        assert has_ended(keeper, LIMIT_S)


def test_a_killed_executor_leaves_the_workload_to_its_owner(busybox: Image) -> None:
    """Both at once need not be survived: the owner still holds what the executor has lost."""
    script = "echo 'n:x:7:7::/:/bin/sh' > /etc/passwd; exec su n -c 'echo; exec sleep 1000'"
    read, write = os.pipe()
    with container(busybox, ("sh", "-c", script), Options(), stdio=(0, write, 2)) as running:
        os.read(read, 1)
        pidfd = os.dup(running.process.pidfd)
        os.kill(running.process.executor, signal.SIGKILL)
        os.waitid(os.P_PID, running.process.executor, os.WEXITED | os.WNOWAIT)
        assert not has_ended(pidfd, 0)  # so it had shed the signal, and the test above means it
    assert has_ended(pidfd, LIMIT_S)
    assert running.process.poll() == 137
    for fd in (read, write, pidfd):
        os.close(fd)


@both
def test_an_owner_that_hangs_up_with_words_unread_leaves_no_child(
    busybox: Image, executor: Executor
) -> None:
    """The socket calls that a reset; an executor that stopped there would not reap its child."""
    tree = unpacked(Store(), busybox, purpose="host").path
    spec = process_spec(busybox, ("/bin/sleep", "1000"), Options(), tree)
    plain = plan_plain(spec, str(tree), os.uname().machine)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said, status = os.pipe()
    with EXECUTIONS[executor](plain, writes_end=False) as execution:
        pid = execution.spawn({0: 0, 1: 1, 2: 2, STATUS: status, OWNER: theirs.fileno()})
        theirs.close()
        assert select.select([ours], [], [], LIMIT_S)[0]
        ours.close()
        assert os.waitpid(pid, 0)[1] == 0  # which it says when its child is no more
    os.close(said)
    os.close(status)


KEEPER = """
import os, sys
from pathlib import Path
from runtime.container import state
from runtime.container.launch.process import Executor, start
from runtime.container.plan import plan_waiting
from runtime.image import Store
sys.path.insert(0, "tests/integration/runtime")
from test_executors import prepared
image, directory = Store().resolve("busybox"), Path(sys.argv[2])
decided = plan_waiting(prepared(image, tuple(sys.argv[3:]), directory.name, directory))
os.mkfifo(directory / "gate")
held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
process = start(
    decided, stdin=0, stdout=1, stderr=2, executor=Executor(sys.argv[1]), directory=held,
    gate=os.open(directory / "gate", os.O_RDWR | os.O_CLOEXEC),
)
state.record_owner(directory, [Path(s.args[0]) for s in decided.undo], pid=process.executor)
process.keep()
print("made", flush=True)
"""


@both
@pytest.mark.parametrize(
    ("command", "status"), [(("sh", "-c", "echo ran; exit 7"), 7), (("nothing",), 127)]
)
@pytest.mark.usefixtures("busybox")
def test_it_waits_to_be_started_and_its_end_is_known_when_its_maker_has_gone(
    executor: Executor, command: tuple[str, ...], status: int
) -> None:
    directory = state.new_directory(secrets.token_hex(6))
    try:
        made = subprocess.Popen(
            [sys.executable, "-c", KEEPER, executor.value, str(directory), *command],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        )  # fmt: skip
        assert made.stdout is not None
        assert made.stdout.readline() == b"made\n"
        assert made.wait(LIMIT_S) == 0
        assert directory.name not in state.sweep()
        assert state.read_end(directory) is None
        assert not select.select([made.stdout], [], [], 0)[0]  # nothing has run
        state.open_gate(directory)
        said = made.stdout.read()  # ends when the workload has
        assert said == (b"ran\n" if status == 7 else b"")
        deadline = time.monotonic() + LIMIT_S
        while (end := state.read_end(directory)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert end is not None
        assert end.exit_status == status
        assert not list(directory.glob(".end*"))
        made.stdout.close()
    finally:
        state.remove_instance(directory)


LEAVER = """
import os, sys
from runtime import syscalls
from runtime.container.container import Options, process_spec
from runtime.container.launch.process import Executor, start
from runtime.container.plan import plan_orphan, plan_plain
from runtime.image import Store, unpacked
syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
image = Store().resolve("busybox")
tree = unpacked(Store(), image, purpose="host").path
spec = process_spec(image, ("/bin/sh", "-c", "read -r x; exit 7"), Options(), tree)
read, write = os.pipe()
process = start(
    plan_orphan(plan_plain(spec, str(tree), os.uname().machine)),
    stdin=read, stdout=1, stderr=2, executor=Executor(sys.argv[1]),
)
process.leave()
assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # it lives, and the executor has gone
os.write(write, b"go")
os.close(write)
assert os.waitpid(process.pid, 0)[1] == 7 << 8
"""


@both
@pytest.mark.usefixtures("busybox")
def test_an_orphan_is_left_to_whoever_adopts_orphans(executor: Executor) -> None:
    argv = [sys.executable, "-c", LEAVER, executor.value]
    subprocess.run(argv, cwd=ROOT, check=True, timeout=LIMIT_S)


@both
def test_a_caller_with_many_descriptors_is_served(busybox: Image, executor: Executor) -> None:
    """As one has that holds many containers; select(2) would take none above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("RLIMIT_NOFILE is below 2048 here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as undo:
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1024):
            undo.callback(os.close, os.dup(2))
        with idle(busybox, executor) as running:
            assert running.process.pidfd > 1023
            assert running.run(("echo", "here"), timeout_s=LIMIT_S).stdout == b"here\n"


def test_without_a_compiler_python_serves_and_doctor_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert executor_rung().ok
    monkeypatch.setenv("ISOSCOPE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    rung = executor_rung()
    assert rung.ok is False
    assert "no C compiler" in rung.found
    assert rung.remedy
    step = Step("chdir", ("/nowhere",), "a")
    with pytest.raises(StepError):
        start(small(step), stdin=0, stdout=1, stderr=2)
    with pytest.raises(Unsupported, match="no C compiler"):
        start(small(step), stdin=0, stdout=1, stderr=2, executor=Executor.COMPILED)
