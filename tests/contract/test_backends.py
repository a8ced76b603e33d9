"""One suite against every backend, through a worker as the harness uses it."""

import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import leftovers
import pytest

from benchmarks.backend import Features, InstanceSpec, InstanceTimeout
from benchmarks.backends import BACKENDS, OWN
from benchmarks.launcher import InstanceFailed, RemoteBackend, RemoteInstance, worker
from runtime.image import Image

pytestmark = pytest.mark.slow
WAIT_S = 60.0
MACHINES = frozenset({"vm", "vm:restored", "qemu"})
"""What has a kernel of its own."""
ELSEWHERE = frozenset({"vm:distro", "vm:ordinary", "vm:session", "vm:system"})
"""What needs an image with an init, or boots for long, or asks a daemon for what ``vm`` is: tried
in tests/integration/vmbackend."""
_NSPAWN = (
    "container", "container_uuid", "container_host_id", "container_host_version_id",
    "container_host_build_id", "container_host_variant_id", "NOTIFY_SOCKET", "LANG", "LOGNAME",
    "PWD", "TERM", "USER",
)  # fmt: skip
ADDED = {
    "bwrap": frozenset({"PWD"}),
    "nspawn": frozenset(_NSPAWN),
    "podman": frozenset({"HOSTNAME"}),
}
"""The variables that a peer sets whatever it is told."""


@pytest.fixture(scope="session", params=[n for n in BACKENDS if n not in ELSEWHERE])
def name(request: pytest.FixtureRequest, busybox: Image) -> str:
    chosen: str = request.param
    with worker(chosen) as backend:
        if (why := backend.probe()) is not None:
            pytest.skip(f"{chosen}: {why.reason}; {why.remedy}")
        backend.prepare(busybox.digest)
    return chosen


@pytest.fixture(scope="session")
def features(name: str) -> Features:
    with worker(name) as backend:
        return backend.features


@pytest.fixture(autouse=True)
def nothing_left(name: str) -> Iterator[None]:
    assert name
    before = leftovers.seen()
    yield
    assert not leftovers.settled(before)


@pytest.fixture
def backend(name: str, busybox: Image) -> Iterator[RemoteBackend]:
    with worker(name) as backend:
        backend.prepare(busybox.digest)
        yield backend


def shell(image: Image, script: str, **changes: object) -> InstanceSpec:
    return InstanceSpec(image=image.digest, argv=("sh", "-c", script), **changes)  # type: ignore[arg-type]


def test_status_and_streams_are_exact_and_apart(backend: RemoteBackend, busybox: Image) -> None:
    script = "printf 'out\\0\\377'; printf err >&2; exit 7"
    with backend.launch(shell(busybox, script)) as instance:
        result = instance.wait(timeout_s=WAIT_S)
    assert result.exit_status == 7
    assert result.stdout == b"out\0\xff"
    assert result.stderr == b"err"


def test_death_by_signal_is_128_and_its_number(backend: RemoteBackend, busybox: Image) -> None:
    # PID 1 of a namespace is spared its own signals, so a child dies and the shell reports it.
    script = "sh -c 'kill -9 $$'; exit $?"
    with backend.launch(shell(busybox, script)) as instance:
        assert instance.wait(timeout_s=WAIT_S).exit_status == 128 + signal.SIGKILL


def test_a_command_killed_from_outside(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(InstanceSpec(image=busybox.digest)) as instance:
        result = instance.run(("sh", "-c", "kill -TERM $$"), timeout_s=WAIT_S)
    assert result.exit_status == 128 + signal.SIGTERM


def test_a_missing_command_is_127(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(InstanceSpec(image=busybox.digest, argv=("no-such",))) as instance:
        result = instance.wait(timeout_s=WAIT_S)
    assert result.exit_status == 127
    assert b"no-such" in result.stderr


def test_large_output_arrives_whole(backend: RemoteBackend, busybox: Image) -> None:
    script = "head -c 4194304 /dev/zero | tr '\\0' x; echo end >&2"
    with backend.launch(shell(busybox, script)) as instance:
        result = instance.wait(timeout_s=2 * WAIT_S)
    assert len(result.stdout) == 4 << 20
    assert set(result.stdout) == {ord("x")}
    assert result.stderr == b"end\n"


def test_words_of_any_script(backend: RemoteBackend, busybox: Image) -> None:
    words = ("도커", "naïve ☃", "a b", "", "$HOME", "*")
    argv = ("printf", "[%s]", *words)
    with backend.launch(InstanceSpec(image=busybox.digest, argv=argv)) as instance:
        result = instance.wait(timeout_s=WAIT_S)
    assert result.stdout.decode() == "".join(f"[{word}]" for word in words)


def test_the_environment_is_exact(backend: RemoteBackend, busybox: Image) -> None:
    spec = InstanceSpec(image=busybox.digest, argv=("env",), env={"A": "1", "B": "x=y z"})
    with backend.launch(spec) as instance:
        lines = instance.wait(timeout_s=WAIT_S).stdout.decode().splitlines()
    image = dict(busybox.config.env)
    expected = image | {"A": "1", "B": "x=y z", "HOME": "/root"}
    variables = dict(line.split("=", 1) for line in lines)
    added = ADDED.get(backend.name, frozenset())
    assert {name: value for name, value in variables.items() if name not in added} == expected


def test_the_working_directory_is_made(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(shell(busybox, "pwd", cwd="/tmp/new/place")) as instance:
        assert instance.wait(timeout_s=WAIT_S).stdout == b"/tmp/new/place\n"


def test_the_user_is_who_was_asked_for(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(shell(busybox, "id -u; id -g; id -G", user="1234:567")) as instance:
        assert instance.wait(timeout_s=WAIT_S).stdout == b"1234\n567\n567\n"


def test_input_arrives_and_ends(backend: RemoteBackend, busybox: Image) -> None:
    given = secrets.token_bytes(300_000)
    spec = InstanceSpec(image=busybox.digest, argv=("md5sum",), stdin=given)
    with backend.launch(spec) as instance:
        first = instance.wait(timeout_s=WAIT_S).stdout
    with backend.launch(InstanceSpec(image=busybox.digest)) as instance:
        second = instance.run(("md5sum",), stdin=given, timeout_s=WAIT_S).stdout
    assert first == second
    assert len(first.split()[0]) == 32


def test_one_more_command_inside(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(InstanceSpec(image=busybox.digest)) as instance:
        wrote = instance.run(("sh", "-c", "echo kept > /tmp/file; exit 3"), timeout_s=WAIT_S)
        read = instance.run(("cat", "/tmp/file"), timeout_s=WAIT_S)
        instance.run(("rm", "/tmp/file"), timeout_s=WAIT_S)
    assert wrote.exit_status == 3
    assert read.stdout == b"kept\n"
    assert read.phases["exit"] > 0


def test_phases_are_in_the_order_of_life(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(shell(busybox, "echo x; sleep 0.05")) as instance:
        instance.wait(timeout_s=WAIT_S)
    phases = instance.phases
    life = ("request", "engine", "init", "exec", "output", "exit", "gone")
    seen = life if backend.name in OWN else ("request", "output", "exit", "gone")
    assert phases["request"] == 0
    assert set(seen) <= set(phases)
    ordered = [phases[phase] for phase in life if phase in phases]
    assert ordered == sorted(ordered)
    assert phases["exit"] - phases["output"] >= 40_000_000
    assert instance.teardown_ns is not None
    assert 0 < instance.teardown_ns <= phases["gone"] - phases["exit"]


def test_usage_is_positive_and_says_how(backend: RemoteBackend, busybox: Image) -> None:
    with backend.launch(InstanceSpec(image=busybox.digest)) as instance:
        usage = instance.usage()
    for definition in ("pss", "uss", "rss", "instrument"):
        assert usage.readings[definition].value_bytes > 0
        assert usage.readings[definition].method
    assert "cgroup" in usage.readings or usage.absent["cgroup"]
    assert "disk_instance" in usage.readings or usage.absent["disk_instance"]


def test_a_deadline_ends_all_descendants(backend: RemoteBackend, busybox: Image) -> None:
    script = "echo early; for i in 1 2 3; do sh -c 'sleep 1000 # left-over' & done; wait"
    with (
        backend.launch(shell(busybox, script)) as instance,
        pytest.raises(InstanceTimeout) as caught,
    ):
        instance.wait(timeout_s=2)
    assert caught.value.stdout == b"early\n"
    assert caught.value.last_phase in {"output", "exec"}


def test_an_exception_in_the_block_leaves_nothing(name: str, busybox: Image) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        worker(name) as backend,
        backend.launch(shell(busybox, "sleep 1000 # left-over")),
    ):
        raise ZeroDivisionError


def test_killing_the_worker_leaves_nothing_running(name: str, busybox: Image) -> None:
    from runtime.container.state import sweep

    spec = shell(busybox, "echo on; sleep 1000 # left-over")
    with worker(name) as backend:
        backend.prepare(busybox.digest)
        with pytest.raises(InstanceFailed), backend.launch(spec) as instance:
            _kill_worker(backend, instance)
    sweep()  # what every command does first, for owners that died


def _kill_worker(backend: RemoteBackend, instance: RemoteInstance) -> None:
    assert instance.until_output(timeout_s=WAIT_S)
    os.kill(backend.pid, signal.SIGKILL)
    instance.usage()


def test_two_at_once_do_not_meet(name: str, busybox: Image) -> None:
    results: dict[str, bytes] = {}

    def one(word: str) -> None:
        with worker(name) as backend:
            backend.prepare(busybox.digest)
            with backend.launch(shell(busybox, f"sleep 0.2; echo {word}")) as instance:
                results[word] = instance.wait(timeout_s=WAIT_S).stdout

    threads = [threading.Thread(target=one, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"one": b"one\n", "two": b"two\n"}


def test_a_memory_limit_is_enforced(
    backend: RemoteBackend, busybox: Image, features: Features
) -> None:
    if "memory" not in features.enforces:
        pytest.skip(f"{backend.name} enforces no memory limit, and says so")
    greedy = "tail /dev/zero"  # reads for ever and keeps all of it
    spec = InstanceSpec(image=busybox.digest, memory_bytes=128 << 20)
    with backend.launch(spec) as instance:
        result = instance.run(("sh", "-c", f"{greedy}; echo $?"), timeout_s=WAIT_S)
    assert result.stdout.split()[-1:] == [b"137"]


def test_a_cpu_limit_is_enforced(
    backend: RemoteBackend, busybox: Image, features: Features
) -> None:
    if "cpus" not in features.enforces:
        pytest.skip(f"{backend.name} enforces no cpu limit, and says so")
    spec = InstanceSpec(image=busybox.digest, cpus=1.0)
    script = "for i in 1 2; do (timeout 1 sh -c 'while :; do :; done') & done; wait; times"
    with backend.launch(spec) as instance:
        started = time.monotonic()
        result = instance.run(("sh", "-c", script), timeout_s=WAIT_S)
        wall_s = time.monotonic() - started
    children = result.stdout.decode().splitlines()[-1].split()
    used_s = sum(float(t.rstrip("s").split("m")[0]) * 60 + float(t.rstrip("s").split("m")[1])
                 for t in children)  # fmt: skip
    assert used_s <= wall_s * 1.25


def test_a_directory_is_shared(
    backend: RemoteBackend, busybox: Image, features: Features, tmp_path: Path
) -> None:
    if not features.mounts:
        pytest.skip(f"{backend.name} mounts nothing, and says so")
    (tmp_path / "given").write_text("given")
    mounts = ((str(tmp_path), "/mnt/shared"),)
    script = "cat /mnt/shared/given; echo back > /mnt/shared/back"
    with backend.launch(shell(busybox, script, mounts=mounts)) as instance:
        assert instance.wait(timeout_s=WAIT_S).stdout == b"given"
    assert (tmp_path / "back").read_text() == "back\n"


@pytest.mark.usefixtures("elsewhere")
def test_a_port_leads_inside(backend: RemoteBackend, busybox: Image, features: Features) -> None:
    if not features.ports:
        pytest.skip(f"{backend.name} publishes no ports, and says so")
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    script = "mkdir /srv && echo served > /srv/f && httpd -p 80 -h /srv && echo on && sleep 1000"
    [network] = features.networks & {"bridge", "user"}
    spec = shell(busybox, script, ports=((port, 80),), network=network)
    with backend.launch(spec) as instance:
        assert instance.until_output(timeout_s=WAIT_S)
        with socket.create_connection(("127.0.0.1", port), WAIT_S) as line:
            line.sendall(b"GET /f HTTP/1.0\r\n\r\n")
            assert line.makefile("rb").read().endswith(b"served\n")


@pytest.mark.usefixtures("elsewhere")
def test_the_network_is_the_one_that_was_asked_for(
    backend: RemoteBackend, busybox: Image, features: Features
) -> None:
    own = {name for _, name in socket.if_nameindex()}
    for network in sorted(features.networks, key=lambda each: each != "host"):  # before bridges
        with backend.launch(shell(busybox, "ls /sys/class/net", network=network)) as instance:
            seen = set(instance.wait(timeout_s=WAIT_S).stdout.decode().split())
        if network == "host" and backend.name not in {"host", *MACHINES}:
            assert seen == own
        elif network == "bridge":
            assert "eth0" in seen


def test_the_same_image_on_its_own_terms(
    backend: RemoteBackend, busybox: Image, name: str
) -> None:
    from benchmarks.workloads import Facts
    from benchmarks.workloads.facts import of_instance

    facts: Facts = {}
    with backend.launch(InstanceSpec(image=busybox.digest)) as instance:
        of_instance(instance, facts)
    here = os.uname().release
    assert (facts["kernel_release"] == here) == (name not in MACHINES)
    assert len(str(facts["rootfs_fingerprint"])) == 64


def test_memory_that_is_held_is_charged(
    backend: RemoteBackend, busybox: Image, features: Features
) -> None:
    if "memory" not in features.enforces:
        pytest.skip(f"{backend.name} has no group of its own to charge")
    held = 40 << 20
    script = f"head -c {held} /dev/zero > /dev/shm/held && echo on && sleep 1000"
    spec = shell(busybox, script, memory_bytes=256 << 20)
    with backend.launch(spec) as instance:
        assert instance.until_output(timeout_s=WAIT_S)
        usage = instance.usage()
    if "cgroup" not in usage.readings:
        pytest.skip(f"{backend.name}: {usage.absent['cgroup']}")
    assert usage.readings["cgroup"].value_bytes >= held
