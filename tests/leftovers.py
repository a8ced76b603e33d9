"""What a test may leave on the machine: nothing. One place that knows where to look."""

import os
import socket
import time
from pathlib import Path

from runtime.image import state_dir

_SETTLE_S = 5.0
_OURS = (
    "benchmarks.worker", "runtime.network.keeper", "qemu-system", "left-over", "isoscope-idle",
    "dockerd", "containerd", "conmon",
)  # fmt: skip
"""What the command lines of our processes, and of those that peers start for us, hold."""


def seen() -> frozenset[str]:
    """Everything on this machine that one of our instances could be, as readable lines."""
    return frozenset([*_mounts(), *groups(), *_processes(), *_files(), *_links()])


def settled(before: frozenset[str]) -> frozenset[str]:
    """What is there now, was not *before*, and does not go when it is given a moment.

    What comes and goes meanwhile is somebody else's: others may run instances here too.
    """
    deadline = time.monotonic() + _SETTLE_S
    left = seen() - before
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left &= seen()
    return left


def _mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount {line.split()[4]}" for line in lines]


def groups() -> list[str]:
    """The control groups of all instances here, as lines."""
    return [
        f"cgroup {directory}"
        for directory, _, _ in os.walk("/sys/fs/cgroup")
        if "isoscope" in directory
    ]


def _processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, UnicodeDecodeError):
                continue
            if state != "Z" and _ours(command):
                found.append(f"process {entry.name} {command[:60]}")
    return found


def _ours(command: str) -> bool:
    return any(part in command for part in _OURS)


def _links() -> list[str]:
    return [f"interface {name}" for _, name in socket.if_nameindex() if name.startswith("is")]


def _files() -> list[str]:
    instances = state_dir() / "instances"
    return [f"directory {path}" for path in instances.iterdir()] if instances.is_dir() else []
