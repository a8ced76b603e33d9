"""A person at a terminal: what they type and see, and that their terminal is theirs again."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kept_containers import LIMIT_S, argv, leaving_nothing, refused

from runtime.container.container import Options
from runtime.container.kept.kept import Kept
from runtime.image import Image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root; run as root")


@pytest.fixture(autouse=True)
def nothing_left(busybox: Image) -> Iterator[None]:
    assert busybox.digest
    with leaving_nothing():
        yield


class Person:
    """Who types at a terminal and reads what it shows."""

    def __init__(self, keys: int, screen: int, process: subprocess.Popen[bytes]) -> None:
        self._keys, self._screen, self.process = keys, screen, process
        self._seen = ""

    def types(self, keys: str) -> None:
        os.write(self._keys, keys.encode())

    def sees(self, text: str) -> None:
        """Wait until *text* is shown; what was before it no longer counts."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._keys], [], [], 0.5)[0]:
                self._seen += os.read(self._keys, 65536).decode(errors="replace")
        self._seen = self._seen.partition(text)[2]

    def resizes(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))

    def manner(self) -> list[object]:
        return termios.tcgetattr(self._screen)


@contextmanager
def person(*words: str) -> Iterator[Person]:
    """At a terminal of 24 rows and 80 columns, where isoscope has been started with *words*."""
    keys, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("=4H", 24, 80, 0, 0))

    before = termios.tcgetattr(screen)
    with subprocess.Popen(
        ["setsid", "--ctty", *argv(*words)], stdin=screen, stdout=screen, stderr=screen,
        env=os.environ | {"TERM": "vt100"},
    ) as process:  # fmt: skip
        try:
            yield Person(keys, screen, process)
            assert termios.tcgetattr(screen) == before
        finally:
            process.kill()
            os.close(keys)
            os.close(screen)


def test_a_shell_at_a_terminal_of_its_own() -> None:
    with person("run", "-it", "busybox", "sh") as user:
        raw = user.manner()
        user.types("stty size; tty; echo $TERM\n")
        user.sees("24 80\r\n/dev/pts/0\r\nvt100\r\n")
        assert user.manner() != raw or not raw[3] & termios.ECHO  # type: ignore[operator]
        user.resizes(30, 100)
        user.types("while ! stty size | grep -q '^30 100'; do sleep 0.05; done; echo gr''own\n")
        user.sees("grown")
        loop = "echo re''ady; while :; do sleep 0.05; done"
        user.types(f"sh -c \"trap 'echo inter''rupted; exit' INT; {loop}\"\n")
        user.sees("ready")
        user.types("\x03")
        user.sees("interrupted")
        user.types("exit 7\n")
        assert user.process.wait(LIMIT_S) == 7


def test_a_command_in_a_container_at_a_terminal(busybox: Image) -> None:
    kept, _ = Kept.run(busybox, ("sleep", "100"), Options())
    with kept:
        with person("exec", "-it", kept.id, "sh", "-c", "stty size; read -r x; exit $x") as user:
            user.sees("24 80\r\n")
            user.types("9\n")
            assert user.process.wait(LIMIT_S) == 9
        assert kept.standing.state == "running"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_given_back_to_whoever_ends_us(number: int) -> None:
    with person("run", "-it", "busybox", "sh", "-c", "echo re''ady; exec sleep 100") as user:
        user.sees("ready")
        user.process.send_signal(number)
        assert user.process.wait(LIMIT_S) == 128 + number


def test_much_is_shown_whole() -> None:
    with person(
        "run", "-t", "busybox", "sh", "-c", "yes 0123456789 | head -n 20000; echo done"
    ) as user:
        user.sees("done")
        assert user.process.wait(LIMIT_S) == 0


def test_without_a_terminal_it_is_refused() -> None:
    assert "-t needs a terminal, and the output is none" in refused("run", "-t", "busybox", "true")
    assert "-d" in refused("run", "-dit", "busybox", "true")


def test_who_sits_there_for_too_long_is_told_and_has_the_terminal_back() -> None:
    with person("run", "-it", "--timeout", "1", "busybox", "sh") as sitting:
        sitting.sees("no end after 1 s")
        assert sitting.process.wait(LIMIT_S) == 125
