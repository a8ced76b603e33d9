"""A small internet of its own: two network namespaces, in one of which isoscope is run.

``here`` is the machine that runs containers, ``outside`` another one on a wire to it. Both end
with the test, and with them every interface and rule that was made there.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
LIMIT_S = 60.0
HERE, OUTSIDE = "198.51.100.1", "198.51.100.2"
_WAITING = ("sh", "-c", "ip link set lo up && echo ready && exec cat # left-over")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Laboratory:
    here: int
    outside: int

    def run(self, *words: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        """isoscope with *words*, to its end."""
        return self.do(*_isoscope(words), input=input)

    def fails(self, *words: str) -> str:
        """The sentence with which isoscope refuses *words*."""
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (125, b"")
        (line,) = done.stderr.decode().splitlines()
        return line

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def do(self, *argv: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        return self._in(self.here, argv, input=input)

    def do_outside(self, *argv: str) -> subprocess.CompletedProcess[bytes]:
        return self._in(self.outside, argv)

    @contextmanager
    def started(
        self, *words: str, ready: str = "ready", within: Sequence[str] = ()
    ) -> Iterator[subprocess.Popen[bytes]]:
        """isoscope with *words*, started by *within*, once the container has said *ready*.

        It is asked to end as a service manager would.
        """
        argv = _entering(self.here, [*within, *_isoscope(words)])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                lines = iter(process.stdout.readline, b"")
                heard = any(line == f"{ready}\n".encode() for line in lines)
                assert heard, process.stderr.read()
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=LIMIT_S)

    @contextmanager
    def serving(self, pid: int, script: str) -> Iterator[None]:
        """A Python *script* in the network of *pid*, once it has said that it is ready."""
        argv = _entering(pid, [sys.executable, "-c", f"{script} # left-over"])
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                yield
            finally:
                process.kill()

    def members(self, network: str) -> list[dict[str, object]]:
        (found,) = json.loads(self.ok("network", "inspect", network))
        members: list[dict[str, object]] = found["members"]
        return members

    def left(self) -> str:
        """What of ours is in the namespace: interfaces, rules, keepers."""
        links = json.loads(self.do("ip", "-j", "link").stdout)
        names = [each["ifname"] for each in links if each["ifname"].startswith("is")]
        rules = self.do("nft", "list", "tables").stdout.decode()
        return " ".join(names) + rules + " ".join(keepers())

    def _in(
        self,
        pid: int,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            _entering(pid, argv), input=input, capture_output=True, check=False, timeout=LIMIT_S
        )


@contextmanager
def laboratory() -> Iterator[Laboratory]:
    with ExitStack() as undo:
        here, outside = (undo.enter_context(_namespace()) for _ in range(2))
        lab = Laboratory(here, outside)
        for command in (
            f"ip link add wire type veth peer name wire netns {outside}",
            f"ip address add {HERE}/24 dev wire",
            "ip link set wire up",
        ):
            assert lab.do(*command.split()).returncode == 0
        for command in (f"ip address add {OUTSIDE}/24 dev wire", "ip link set wire up"):
            assert lab.do_outside(*command.split()).returncode == 0
        yield lab


@contextmanager
def _namespace() -> Iterator[int]:
    with subprocess.Popen(
        ["unshare", "--net", *_WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def until(look: Callable[[], _Value]) -> _Value:
    """What *look* sees once it is something; fails when it never is."""
    deadline = time.monotonic() + LIMIT_S
    while not (seen := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return seen


def keepers() -> list[str]:
    """The keepers of networks of the tests' own home."""
    home = os.environ["ISOSCOPE_HOME"]
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "runtime.network.keeper" in command and home in command:
                found.append(entry.name)
    return found


def _isoscope(words: Sequence[str]) -> list[str]:
    return [sys.executable, str(ROOT / "isoscope.py"), *words]


def _entering(pid: int, argv: Sequence[str]) -> list[str]:
    return ["nsenter", "--target", str(pid), "--net", "--", *argv]
