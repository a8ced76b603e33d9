"""A dockerd of our own: started before any clock, known to be ready, and gone with its children.

It has its own store, sockets and settings, makes no bridge and no firewall rule, and starts its
own containerd; both die at once if the worker is killed. Sources: dockerd(8); sd_notify(3) for how
a daemon says that it is ready.
"""

import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import meters
from benchmarks.peers.ground import RUN, Ground
from benchmarks.peers.probing import PATH, path_of
from benchmarks.peers.program import PeerFailed, end_descendants

_READY_S = 60.0
_END_S = 5.0
_LOG_LINE_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A dockerd that answers at *address*, with its containerd."""

    address: str
    pids: tuple[int, ...]


@contextmanager
def dockerd(data: Path, ground: Ground) -> Iterator[Daemon]:
    """A daemon with its store at *data*. Raises PeerFailed with the end of its log."""
    log = RUN / "dockerd.log"
    settings = RUN / "dockerd.json"
    settings.write_text("{}")
    with ExitStack() as undo:
        heard = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        heard.bind(str(RUN / "ready"))
        undo.callback(end_descendants)
        pid = os.posix_spawn(
            path_of("setpriv"),
            ["setpriv", "--pdeathsig", "KILL", path_of("dockerd"), *_words(data, settings)],
            {"PATH": PATH, "NOTIFY_SOCKET": str(RUN / "ready")},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        pidfd = os.pidfd_open(pid)
        undo.callback(os.close, pidfd)
        undo.callback(_end, pidfd)
        _await_ready(heard, pidfd, log)
        served_by = tuple(p for p in meters.descendants(pid))
        for helper in served_by:
            ground.adopt(helper)  # so that the shims it starts belong to the instance
        yield Daemon(address=f"unix://{RUN}/docker.sock", pids=(pid, *served_by))


def _words(data: Path, settings: Path) -> list[str]:
    return [
        "--config-file", str(settings), "--data-root", str(data),
        "--exec-root", str(RUN / "docker"), "--pidfile", str(RUN / "docker.pid"),
        "--host", f"unix://{RUN}/docker.sock", "--storage-driver", "overlay2",
        "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--ip-masq=false", "--default-cgroupns-mode", "private",
        "--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn",
    ]  # fmt: skip


def _await_ready(heard: socket.socket, pidfd: int, log: Path) -> None:
    ready, _, _ = select.select([heard.fileno(), pidfd], [], [], _READY_S)
    if heard.fileno() not in ready:
        lines = log.read_text(errors="replace").strip().splitlines()
        tail = lines[-1][-_LOG_LINE_CHARACTERS:] if lines else "it said nothing"
        what = "ended" if pidfd in ready else f"was not ready within {_READY_S:g} s"
        raise PeerFailed(f"dockerd {what}: {tail}")


def _end(pidfd: int) -> None:
    """Ask it to end; what does not in time is killed by whoever ends all descendants."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    select.select([pidfd], [], [], _END_S)
