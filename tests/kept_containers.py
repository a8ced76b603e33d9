"""Containers that outlive who started them, in tests: isoscope as people type it, and no remains.

As a command it is the stress test: ``python tests/kept_containers.py STEPS [SEED]`` does so many
random things to a few containers, killing isoscope in the middle of every third.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
LIMIT_S = 60.0
NAMES = ("one", "two", "three")
_Value = TypeVar("_Value")


def argv(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "isoscope.py"), *words]


def isoscope(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(*words), capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


def ok(*words: str) -> str:
    done = isoscope(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*words: str, status: int = 125) -> str:
    """The one sentence with which *words* are refused."""
    done = isoscope(*words)
    assert done.returncode == status, done
    (line,) = done.stderr.splitlines()
    return line


def until(look: Callable[[], _Value]) -> _Value:
    deadline = time.monotonic() + LIMIT_S
    while not (seen := look()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return seen


def ids() -> set[str]:
    parent = Path(os.environ["ISOSCOPE_HOME"], "instances")
    return {each.name for each in parent.iterdir()} if parent.is_dir() else set()


def remains(seen: set[str]) -> list[str]:
    """What is there of the containers *seen*: directories, groups, processes that name them."""
    found = [f"directory {each}" for each in seen & ids()]
    for directory, _, _ in os.walk("/sys/fs/cgroup"):
        if Path(directory).name.removeprefix("isoscope-") in seen:
            found.append(f"group {directory}")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            found += [f"process {command}" for each in seen if each in command]
    return found


@contextmanager
def leaving_nothing() -> Iterator[set[str]]:
    """Nothing is left of the containers noted in the set, nor of those there at the end."""
    before = ids()
    seen: set[str] = set()
    try:
        yield seen
    finally:
        own = seen | (ids() - before)
        if left := own & ids():
            isoscope("rm", "-f", *left)
    until(lambda: not remains(own))


def stress(steps: int, seed: int, tell: Callable[[str], object]) -> None:
    """*steps* random things, from *seed*; raises AssertionError for what should not be."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    with leaving_nothing() as seen:
        for number in range(steps):
            words = _step(chance)
            kill_after_s = chance.uniform(0.05, 0.5) if chance.random() < 1 / 3 else None
            tell(f"{number} {' '.join(words)}{' KILL' if kill_after_s else ''}\n")
            _do(words, kill_after_s)
            seen |= {each for each in ids() if re.fullmatch("[0-9a-f]{12}", each)}
        isoscope("rm", "-f", *NAMES)
        for each in ok("ps", "-aq").split():
            ok("rm", "-f", each)


def _step(chance: random.Random) -> list[str]:
    name = chance.choice(NAMES)
    script = chance.choice(("sleep 100", "echo said; sleep 0.2", "exit 3", "nothing-of-the-kind"))
    return chance.choice(
        [
            ["run", "-d", "--name", name, "busybox", "sh", "-c", script],
            ["run", "-d", "--rm", "--name", name, "busybox", *script.split()],
            ["start", name],
            ["exec", name, "true"],
            ["exec", "-d", name, "sleep", "50"],
            ["kill", name],
            ["stop", "-t", "0", name],
            ["restart", "-t", "0", name],
            ["rm", name],
            ["rm", "-f", name],
            ["logs", name],
            ["ps", "-a"],
        ]
    )


def _do(words: list[str], kill_after_s: float | None) -> None:
    with subprocess.Popen(
        argv(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _, said = process.communicate(timeout=kill_after_s or LIMIT_S)
        except subprocess.TimeoutExpired:
            assert kill_after_s is not None, f"{words} does not end"
            process.kill()
            return
    assert process.returncode in {0, 3, 125, 126, 127}, (words, process.returncode, said)
    assert "error of ours" not in said, said


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kept-") as home:
        os.environ["ISOSCOPE_HOME"] = home
        stress(int(sys.argv[1]), int((sys.argv[2:] or ["1"])[0]), sys.stdout.write)
    sys.stdout.write("nothing is left\n")
