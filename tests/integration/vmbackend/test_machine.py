import itertools
import signal
import threading
import time
from pathlib import Path

import pytest

from vmbackend.command import Completed
from vmbackend.errors import BootTimeout, DeadlineError, GuestError, MachineSpecError
from vmbackend.machine import machine
from vmbackend.parts import prepare
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
LIMIT_S = 60


def shell(image: str, script: str, **more: object) -> MachineSpec:
    return MachineSpec(image=image, argv=("sh", "-c", script), **more)  # type: ignore[arg-type]  # a table


def test_status_and_both_outputs_come_back_apart(busybox: str) -> None:
    script = "printf 'o\\0ut'; printf err >&2; exit 7"
    with machine(shell(busybox, script)) as guest:
        done = guest.wait(timeout_s=LIMIT_S)
    assert (done.exit_status, done.stdout, done.stderr) == (7, b"o\0ut", b"err")


def test_phases_are_named_ordered_and_end_with_gone(busybox: str) -> None:
    with machine(shell(busybox, "echo x")) as guest:
        guest.wait(timeout_s=LIMIT_S)
        assert "gone" not in guest.phases
    phases = guest.phases
    assert list(phases) == [
        "request", "prepared", "engine", "engine.created", "kernel", "init", "init.agent",
        "exec", "output", "exit", "gone", "gone.forgotten",
    ]  # fmt: skip
    assert phases["request"] == 0
    chain = ("request", "prepared", "engine", "engine.created", "init", "init.agent", "exec",
             "output", "exit", "gone", "gone.forgotten")  # fmt: skip
    assert all(phases[a] <= phases[b] for a, b in itertools.pairwise(chain))
    assert phases["engine"] < phases["kernel"] < phases["init"]


def test_an_idle_machine_runs_many_commands(busybox: str) -> None:
    """One boot for everything that does not need its own."""
    spec = MachineSpec(image=busybox, env={"A": "ü", "PATH": "/bin"}, cwd="/made/for/it")
    with machine(spec) as guest:

        def ask(*argv: str, stdin: bytes = b"") -> Completed:
            return guest.run(argv, stdin=stdin, timeout_s=LIMIT_S)

        big = ask("sh", "-c", "head -c 4194304 /dev/zero | tr '\\0' x; yes | head -c 4194304 >&2")
        assert big.stdout == b"x" * (4 << 20)
        assert big.stderr == b"y\n" * (2 << 20)

        assert (
            ask("printf", "%s|", "grüße", "", "a b", "日本").stdout.decode() == "grüße||a b|日本|"
        )
        assert ask("cat", stdin=bytes(range(256)) * 8192).stdout == bytes(range(256)) * 8192
        assert ask("true", stdin=b"unread" * 200_000).exit_status == 0
        assert ask("cat").stdout == b""

        assert sorted(ask("/bin/env").stdout.decode().splitlines()) == [
            "A=ü", "HOME=/root", "PATH=/bin",
        ]  # fmt: skip
        assert ask("pwd").stdout == b"/made/for/it\n"

        assert ask("sh", "-c", "kill -SEGV $$").exit_status == 128 + signal.SIGSEGV
        assert ask("sh", "-c", "kill -KILL $$").exit_status == 128 + signal.SIGKILL
        missing = ask("no-such-program")
        assert (missing.exit_status, missing.failure) == (127, "execve: No such file or directory")
        assert ask("/etc/passwd").exit_status == 126
        assert ask("sh", "-c", "sleep 100 & echo left").stdout == b"left\n"

        kernel = ask("uname", "-r").stdout.decode().strip()
        assert kernel == guest.kernel_release
        assert kernel != Path("/proc/sys/kernel/osrelease").read_text().strip()
        boot_id = ask("cat", "/proc/sys/kernel/random/boot_id").stdout
        assert boot_id != Path("/proc/sys/kernel/random/boot_id").read_bytes()
        assert ask("nproc").stdout == b"1\n"
        assert ask("ps", "-o", "pid,comm").stdout.split()[2:4] == [b"1", b"init"]
        assert ask("sh", "-c", "ip link show lo | grep -c UP").stdout == b"1\n"
        assert ask("ls", "/sys/class/net").stdout == b"lo\n"
        assert ask("sh", "-c", "echo hi > /dev/shm/x; cat /dev/shm/x <&0").stdout == b"hi\n"

        parallel: list[bytes] = []
        threads = [
            threading.Thread(target=lambda text=str(i): parallel.append(ask("echo", text).stdout))
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(parallel) == [b"%d\n" % i for i in range(8)]

        usage = guest.usage()
        pss, uss, rss = (usage.readings[name][0] for name in ("pss", "uss", "rss"))
        assert 32 << 20 < uss <= pss <= rss
        given = guest.spec.memory_bytes
        total, available = (usage.readings[f"guest_{name}"][0] for name in ("total", "available"))
        assert given // 2 < available < total < given
        told = dict(
            line.split()[:2] for line in ask("cat", "/proc/meminfo").stdout.decode().splitlines()
        )
        assert total == int(told["MemTotal:"]) << 10
        assert usage.readings["disk_image"][0] > 1 << 20
        before = usage.readings["disk_instance"][0]
        assert ask("sh", "-c", "head -c 8388608 /dev/urandom > /f; sync").exit_status == 0
        assert guest.usage().readings["disk_instance"][0] >= before + (8 << 20)


@pytest.mark.parametrize(
    ("user", "ids"), [("nobody", b"65534 65534"), ("12:34", b"12 34"), ("0", b"0 0")]
)
def test_the_user_is_who_was_asked_for(busybox: str, user: str, ids: bytes) -> None:
    with machine(shell(busybox, "echo $(id -u) $(id -g)", user=user)) as guest:
        assert guest.wait(timeout_s=LIMIT_S).stdout == ids + b"\n"


def test_processors_and_memory_are_as_asked(busybox: str) -> None:
    script = "nproc; grep MemTotal /proc/meminfo | tr -dc 0-9"
    with machine(shell(busybox, script, cpus=2, memory_bytes=512 << 20)) as guest:
        cpus, memory_kib = guest.wait(timeout_s=LIMIT_S).stdout.split()
    assert cpus == b"2"
    assert 400 << 10 < int(memory_kib) < 512 << 10


def test_a_deadline_kills_everything_and_keeps_what_was_seen(busybox: str) -> None:
    with machine(shell(busybox, "echo so far; echo and >&2; sleep 1000")) as guest:
        while "output" not in guest.phases:
            time.sleep(0.01)
        with pytest.raises(DeadlineError) as caught:
            guest.wait(timeout_s=1)
    error = caught.value
    assert (error.stdout, error.stderr, error.last_phase) == (b"so far\n", b"and\n", "output")
    assert "isoscope: init" in error.console_tail
    assert not isinstance(error, BootTimeout)


def test_a_boot_that_takes_too_long_is_said_with_the_phase_reached(busybox: str) -> None:
    with (
        pytest.raises(BootTimeout) as caught,
        machine(MachineSpec(image=busybox), boot_limit_s=0.3),
    ):
        pytest.fail("it booted in 0.3 s")
    assert caught.value.last_phase in ("prepared", "engine", "engine.created", "kernel", "init")


def test_a_guest_that_panics_is_an_error_with_its_console(busybox: str) -> None:
    spec = shell(busybox, "echo c > /proc/sysrq-trigger; sleep 100")
    with machine(spec) as guest, pytest.raises(GuestError, match="ended before") as caught:
        guest.wait(timeout_s=LIMIT_S)
    assert "sysrq" in caught.value.console_tail


def test_a_signal_reaches_the_command(busybox: str) -> None:
    with machine(
        shell(busybox, "trap 'echo got it; exit 3' TERM; echo on; while :; do sleep 0.1; done")
    ) as guest:
        while "output" not in guest.phases:
            time.sleep(0.01)
        guest.signal(signal.SIGTERM)
        done = guest.wait(timeout_s=LIMIT_S)
    assert (done.exit_status, done.stdout) == (3, b"on\ngot it\n")


def test_two_machines_at_once_do_not_share_what_they_write(busybox: str) -> None:
    with machine(shell(busybox, "echo 1 > /f; sleep 1; cat /f")) as one:
        with machine(shell(busybox, "test ! -e /f && echo clean; echo 2 > /f")) as two:
            assert two.wait(timeout_s=LIMIT_S).stdout == b"clean\n"
        assert one.wait(timeout_s=LIMIT_S).stdout == b"1\n"


def test_an_exception_in_the_block_leaves_nothing(busybox: str) -> None:
    with pytest.raises(ZeroDivisionError), machine(MachineSpec(image=busybox)):
        raise ZeroDivisionError


def test_a_command_that_cannot_be_is_refused_and_the_machine_lives(busybox: str) -> None:
    with machine(MachineSpec(image=busybox)) as guest:
        with pytest.raises(MachineSpecError):
            guest.run(["a\0b"], timeout_s=1)
        assert guest.run(["true"], timeout_s=LIMIT_S).exit_status == 0


def test_preparing_again_costs_nothing_and_says_what_it_cost(busybox: str) -> None:
    first = prepare(busybox)
    again = prepare(busybox)
    assert again.cached
    assert (again.duration_ns, again.disk_bytes) == (first.duration_ns, first.disk_bytes)
    assert first.duration_ns > 0
    assert first.disk_bytes > 1 << 20
