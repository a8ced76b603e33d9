"""Containers of an ordinary user, whose account is made here, with a range of ids and without."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import leftovers
import pytest

from runtime.container.cgroups import LIMITED
from runtime.container.facts import host_facts
from runtime.container.state import inits_of

ROOT = Path(__file__).parents[3]
LIMIT_S = 60

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="adds users; run as root"),
    pytest.mark.skipif(shutil.which("newuidmap") is None, reason="apt-get install uidmap"),
]

needs_relay = pytest.mark.skipif(
    shutil.which("slirp4netns") is None, reason="apt-get install slirp4netns"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account of this machine, with a home for our state."""

    uid: int
    home: Path

    def argv(self, *words: str, groups: tuple[Path, ...] = ()) -> list[str]:
        """``isoscope WORDS`` as this user, in the control *groups*."""
        joining = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        return [
            "sh", "-c", f'{joining}exec "$@"', "sh",
            "setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups",
            sys.executable, str(ROOT / "isoscope.py"), *words,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """What the account has."""
        path = f"{os.environ['PATH']}:/usr/bin"
        return {"HOME": str(self.home), "ISOSCOPE_HOME": f"{self.home}/state", "PATH": path}

    def run(
        self, *words: str, groups: tuple[Path, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(
            self.argv(*words, groups=groups), env=self.environment, cwd=self.home,
            capture_output=True, text=True, check=False, timeout=LIMIT_S,
        )  # fmt: skip

    def said(self, *words: str) -> str:
        """The output of a run that must not fail."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def account(*options: str) -> Iterator[User]:
    """A new user with the busybox image; both are gone when the block is left."""
    name = f"isoscope-{secrets.token_hex(4)}"
    home = Path(tempfile.mkdtemp(prefix="rootless-"))
    subprocess.run(["useradd", "--home-dir", str(home), *options, name], check=True)
    try:
        uid = int(subprocess.check_output(["id", "-u", name]))
        os.chown(home, uid, uid)
        user = User(uid=uid, home=home)
        if subprocess.run(
            ["setpriv", f"--reuid={uid}", "--clear-groups", "test", "-r", str(ROOT / "README.md")],
            check=False,
        ).returncode:
            pytest.skip("an ordinary user cannot read this checkout; put it where he can")
        user.said("image", "bootstrap", "busybox")
        yield user
        assert not list((home / "state" / "instances").glob("*"))
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with account("--shell", "/bin/sh") as made:
        yield made


@pytest.fixture(scope="module")
def loner() -> Iterator[User]:
    """A system account: such have no range of ids."""
    with account("--system", "--user-group") as made:
        yield made


def test_root_inside_is_the_user_outside(user: User) -> None:
    script = "id -u; touch /x; chown 1000:1000 /x; ls -n /x | cut -c1-40; cat /proc/self/uid_map"
    first, second, *maps = user.said("run", "busybox", "sh", "-c", script).splitlines()
    assert first == "0"
    assert second.split()[2:4] == ["1000", "1000"]
    assert maps[0].split() == ["0", str(user.uid), "1"]
    assert len(maps) == 2


def test_devices_and_kernel_files_are_there_and_locked(user: User) -> None:
    script = (
        "echo > /dev/null; head -c 3 /dev/urandom | wc -c; ls /sys/class/net; ls -d /proc/[0-9]*;"
        "echo x > /proc/sys/kernel/core_pattern; echo x > /sys/kernel/uevent_helper;"
        "mknod /tmp/sda b 8 0; mount -t tmpfs none /tmp; chroot / hostname other; exit 7"
    )
    done = user.run("run", "busybox", "sh", "-c", script)
    assert done.returncode == 7
    assert done.stdout.split()[:3] == ["3", "lo", "/proc/1"]
    assert done.stderr.count("\n") == 5, done.stderr


def test_an_image_with_other_owners_and_removed_files_is_built_and_runs(user: User) -> None:
    context = user.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN mkdir /d && echo a > /d/a && echo b > /bin/gone && chown -R 33:44 /d\n"
        "RUN rm /bin/gone && rm -r /d && mkdir /d && echo c > /d/c && chown 7 /d\n"
        "USER 7:8\n"
    )
    user.said("image", "build", "--network", "none", "-t", "own", str(context))
    said = user.said(
        "run", "own", "sh", "-c", "id -u; ls -n /d | tail -n 1; ls -nd /d; ls /bin/gone || true"
    )
    lines = said.splitlines()
    assert lines[0] == "7"
    assert lines[1].split()[-1] == "c"
    assert lines[2].split()[2] == "7"
    assert len(lines) == 3
    user.said("image", "rm", "own")
    user.said("image", "prune")


def test_the_hosts_network_and_none_that_root_would_have_to_make(user: User) -> None:
    names = user.said("run", "--network", "host", "busybox", "ls", "/sys/class/net").split()
    assert set(names) == set(os.listdir("/sys/class/net"))  # noqa: PTH208 - names, no paths
    user.said("network", "create", "own")
    done = user.run("run", "--network", "own", "busybox", "true")
    assert done.returncode == 125
    assert "root is needed" in done.stderr
    assert done.stderr.count("\n") == 1
    user.said("network", "rm", "own")


SERVES = """
import socket, sys
line = socket.socket(socket.AF_INET, getattr(socket, sys.argv[1]))
line.bind(("0.0.0.0", 80))
if sys.argv[1] == "SOCK_STREAM":
    line.listen()
    line, _ = line.accept()
said, peer = line.recvfrom(100)
line.sendto(said[::-1], peer) if peer else line.send(said[::-1])
"""


@needs_relay
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_published_port_leads_inside_and_nothing_of_the_hosts_does(
    user: User, kind: str
) -> None:
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    where = "127.0.0.1" if kind == "tcp" else _own_address()
    own = socket.create_server(("127.0.0.1", 0))
    script = (
        f"for ip in 127.0.0.1 10.0.2.2; do nc -w 1 $ip {own.getsockname()[1]} </dev/null"
        " && echo leak; done; echo up; exec sleep 1000"
    )
    before = leftovers.seen()
    argv = user.argv("run", "-p", f"{where}::80/{kind}", "busybox", "sh", "-c", script)
    with (
        own,
        subprocess.Popen(
            argv, env=user.environment, cwd=user.home, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as command,
        ExitStack() as undo,
    ):  # fmt: skip
        undo.callback(command.kill)
        assert command.stdout is not None
        assert command.stderr is not None
        published = re.search(r"published [0-9.]+:(\d+)->80", command.stderr.readline())
        assert published is not None
        assert command.stdout.readline() == "up\n"
        (instance,) = (user.home / "state" / "instances").iterdir()
        (init,) = inits_of(instance)
        inside = ["nsenter", "-t", str(init), "-n", sys.executable, "-c", SERVES, family.name]
        serving = undo.enter_context(subprocess.Popen(inside))
        undo.callback(serving.kill)
        _until(lambda: _asked((where, int(published[1])), family) == b"tfel")
    user.said("gc")
    assert not leftovers.settled(before)
    _until(lambda: not _processes(b"slirp4netns"))


def _own_address() -> str:
    """An address of this machine that is not its loopback's; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        try:
            line.connect(("192.0.2.250", 9))
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        return str(line.getsockname()[0])


@needs_relay
def test_names_are_resolved_as_on_the_host(user: User) -> None:
    said = user.said(
        "run", "--network", "bridge", "busybox", "cat", "/etc/resolv.conf", "/etc/hosts"
    )
    assert "nameserver 10.0.2.3" in said
    assert "10.0.2.100" in said


@needs_relay
def test_a_datagram_that_could_not_be_answered_is_not_published(user: User) -> None:
    done = user.run("run", "-p", "127.0.0.1:5353:53/udp", "busybox", "true")
    assert done.returncode == 125
    assert "-p 5353:53/udp" in done.stderr


def _asked(where: tuple[str, int], family: socket.SocketKind) -> bytes:
    with socket.socket(socket.AF_INET, family) as line:
        line.settimeout(1)
        try:
            line.connect(where)
            line.send(b"left")
            return line.recv(100)
        except OSError:
            return b""


def _processes(name: bytes) -> list[str]:
    return [
        path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline")
        if name in _content(path).partition(b"\0")[0]
    ]  # fmt: skip


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@needs_relay
def test_a_taken_port_is_said_and_nothing_starts(user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = user.run("run", "-p", f"127.0.0.1:{port}:80", "busybox", "true")
    assert done.returncode == 125
    assert "is taken" in done.stderr


def test_a_second_command_enters_the_namespace_of_the_first(user: User) -> None:
    first = subprocess.Popen(
        user.argv("run", "busybox", "sh", "-c", "echo up; exec sleep 1000 # left-over"),
        env=user.environment, cwd=user.home, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert first.stdout is not None
    try:
        assert first.stdout.readline() == "up\n"
        (directory,) = (user.home / "state" / "instances").iterdir()
        own = f"container:{directory.name}"
        assert user.said("run", "--network", own, "busybox", "cat", "/proc/1/comm") == "cat\n"
    finally:
        first.kill()
        first.wait()
        first.stdout.close()
    _until(lambda: user.said("gc") == user.said("gc"))  # the second finds nothing


def test_limits_need_a_group_that_was_given_to_the_user(user: User) -> None:
    done = user.run("run", "-m", "64m", "busybox", "true")
    assert done.returncode == 125
    assert "no cgroup hierarchy here controls memory" in done.stderr
    hierarchies = [h for h in host_facts().hierarchies if {*LIMITED} & {*h.controllers}]
    if any(h.version == 2 for h in hierarchies):
        pytest.skip("moving into a delegated group takes a session's help on v2")
    before = leftovers.seen()
    groups = [
        Path(f"{h.mount_point}{h.own_path.rstrip('/')}/delegated-{user.uid}") for h in hierarchies
    ]
    try:
        for group in groups:
            group.mkdir()
            for path in (group, group / "cgroup.procs", group / "tasks"):
                os.chown(path, user.uid, user.uid)
        script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
        done = user.run(
            "run", "-m", "64m", "--cpus", "0.5", "busybox", "sh", "-c", script,
            groups=tuple(groups),
        )  # fmt: skip
        assert done.stdout == f"{64 << 20}\n", done.stderr
        assert not any(list(group.glob("isoscope-*")) for group in groups)
    finally:
        for group in groups:
            group.rmdir()
    assert not leftovers.settled(before)


def test_without_a_range_of_ids_there_is_root_alone(loner: User) -> None:
    script = "id -u; cat /proc/self/uid_map; touch /x; chown 1 /x || echo refused"
    said = loner.said("run", "busybox", "sh", "-c", script).split()
    assert said == ["0", "0", str(loner.uid), "1", "refused"]
    done = loner.run("run", "-u", "1000", "busybox", "true")
    assert done.returncode == 125
    assert "/etc/subuid" in done.stderr


def test_what_a_killed_command_left_goes_with_the_next(user: User) -> None:
    with subprocess.Popen(
        user.argv("run", "busybox", "sh", "-c", "echo up; exec sleep 1000 # left-over"),
        env=user.environment, cwd=user.home, stdout=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        assert command.stdout.readline() == "up\n"
        command.kill()
    user.said("run", "busybox", "true")
    assert not list((user.home / "state" / "instances").iterdir())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_protection_is_chosen_by_roots_words(user: User) -> None:
    script = "echo x > /file || echo locked; mount -t tmpfs x /tmp && ulimit -n && ls /proc/keys"
    words = ("--read-only", "--ulimit", "nofile=64", "--cap-add", "SYS_ADMIN", "busybox")
    assert user.said("run", *words, "sh", "-c", script).split() == ["locked", "64", "/proc/keys"]
    everything = user.said(
        "run", "--privileged", "busybox", "grep", "Seccomp:", "/proc/self/status"
    )
    assert everything.split() == ["Seccomp:", "0"]
    made = user.run("run", "--cap-add", "MKNOD", "busybox", "mknod", "/dev/x", "c", "1", "5")
    assert (made.returncode, "not permitted" in made.stderr) == (1, True)
    given = user.run("run", "--device", "/dev/zero:/dev/x", "busybox", "true")
    assert (given.returncode, given.stdout) == (125, "")
    assert "has no devices to give" in given.stderr


def test_a_container_is_kept_while_and_after_nobody_is_there(user: User) -> None:
    script = "echo up; touch /made; trap 'exit 3' TERM; while :; do sleep 0.1; done"
    both = [
        subprocess.Popen(
            user.argv("run", "-d", "--name", name, "busybox", "sh", "-c", script),
            env=user.environment, cwd=user.home, stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    assert [process.wait(LIMIT_S) for process in both] == [0, 0]
    for process in both:
        process.communicate()
    _until(lambda: user.said("logs", "one") == "up\n")
    for name in ("one", "two"):  # begun at once, they are in one namespace all the same
        assert user.said("exec", name, "id", "-u") == "0\n"
    user.said("stop", "one", "two")
    assert user.said("wait", "one") == "3\n"  # nobody is in that namespace any more
    assert user.said("diff", "one") == "A /made\n"
    user.said("start", "one")
    assert user.said("exec", "one", "ls", "/made") == "/made\n"
    user.said("rm", "-f", "one", "two")


@needs_relay
def test_a_kept_container_keeps_its_ports_until_it_ends(user: User) -> None:
    serve = "echo kept > /index.html; exec httpd -f -h /"
    user.said("run", "-d", "--name", "web", "-p", "80", "busybox", "sh", "-c", serve)
    for command in (("ps",), ("restart", "-t", "0", "web")):
        user.said(*command)
        _until(lambda: b"kept" in _fetched(_port(user, "web")))
    last = _port(user, "web")
    user.said("rm", "-f", "web")
    _until(lambda: _fetched(last) == b"")


def _port(user: User, name: str) -> int:
    (port,) = json.loads(user.said("inspect", name))[0]["ports"]
    return int(port["host"])


def _fetched(port: int) -> bytes:
    """What a server at *port* of this machine says; nothing if there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as line:
            line.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: line.recv(4096), b""))
    except OSError:
        return b""
