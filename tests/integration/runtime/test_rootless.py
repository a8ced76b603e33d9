"""Containers of an ordinary user, whose account is made here, with a range of ids and without."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import leftovers
import pytest

from runtime.container.cgroups import LIMITED
from runtime.container.facts import host_facts

ROOT = Path(__file__).parents[3]
LIMIT_S = 60

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="adds users; run as root"),
    pytest.mark.skipif(shutil.which("newuidmap") is None, reason="apt-get install uidmap"),
]


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


def test_the_network_is_none_or_the_hosts(user: User) -> None:
    names = user.said("run", "--network", "host", "busybox", "ls", "/sys/class/net").split()
    assert set(names) == set(os.listdir("/sys/class/net"))  # noqa: PTH208 - names, no paths
    done = user.run("run", "-p", "8080:80", "busybox", "true")
    assert done.returncode == 125
    assert "root is needed" in done.stderr
    assert done.stderr.count("\n") == 1


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
