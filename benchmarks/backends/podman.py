"""podman: an engine without a daemon: https://docs.podman.io.

Each container is held by conmon; the runtime below is the one that podman chooses itself.
"""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.backend import Unavailable
from benchmarks.peers.archive import write_oci_archive
from benchmarks.peers.engines import Engine, EngineBackend, clear, engine_store
from benchmarks.peers.ground import RUN, ground
from benchmarks.peers.probing import PATH, found, path_of
from benchmarks.peers.program import PeerFailed

_ADDED = ("TERM", "container")
"""What podman adds to an environment unless told not to; HOSTNAME it does not leave out."""


@contextmanager
def backend(within: str | None = None) -> Iterator[EngineBackend]:
    """The backend; its store is open and holds no containers when this is entered."""
    with ExitStack() as undo:
        standing = undo.enter_context(ground(within))
        obstacle = found("podman", "conmon", package="podman") or standing.obstacle
        engine: Engine | None = None
        if obstacle is None:
            store = undo.enter_context(engine_store("podman"))
            engine = _engine(store)
            try:
                clear(engine)
            except PeerFailed as failed:
                obstacle = Unavailable(
                    reason=failed.message, remedy="see whether podman works by hand here"
                )
                engine = None
        yield EngineBackend("podman", standing, engine, obstacle)


def _engine(store: Path) -> Engine:
    data = store / "data"
    data.mkdir(exist_ok=True)
    temporary = store / "tmp"
    temporary.mkdir(exist_ok=True)
    return Engine(
        name="podman",
        words=(
            path_of("podman"), "--root", str(data), "--runroot", str(RUN / "podman"),
            "--tmpdir", str(RUN / "podman-tmp"), "--events-backend", "none",
            "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay",
        ),
        env={"PATH": PATH, "HOME": str(RUN), "TMPDIR": str(temporary)},
        storage=data,
        complaint=b"Error: ",
        write_archive=write_oci_archive,
        run=(*_our_limits(), *(word for name in _ADDED for word in ("--unsetenv", name))),
        remove=("--ignore", "--time", "0"),
        makes_cwd=False,
    )  # fmt: skip


def _our_limits() -> tuple[str, ...]:
    """What podman itself has left: without CAP_SYS_RESOURCE it cannot give what it asks for."""
    most = int(Path("/proc/sys/kernel/pid_max").read_text())  # to which it lowers its own
    files = _pair(resource.getrlimit(resource.RLIMIT_NOFILE), most=1 << 20)
    processes = _pair(resource.getrlimit(resource.RLIMIT_NPROC), most=most)
    return ("--ulimit", f"nofile={files}", "--ulimit", f"nproc={processes}")


def _pair(limits: tuple[int, int], *, most: int) -> str:
    """Soft and hard, each at most *most*; ``RLIM_INFINITY`` is -1."""
    soft, hard = (most if limit < 0 else min(limit, most) for limit in limits)
    return f"{soft}:{hard}"
