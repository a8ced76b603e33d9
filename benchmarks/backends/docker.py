"""docker with a daemon of our own: https://docs.docker.com/reference/cli/dockerd/.

The daemon and its containerd are up before any clock starts; a client, a shim and the container
are what an instance adds.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.backend import Unavailable
from benchmarks.peers.archive import write_docker_archive
from benchmarks.peers.dockerd import Daemon, dockerd
from benchmarks.peers.engines import Engine, EngineBackend, clear, engine_store
from benchmarks.peers.ground import RUN, ground
from benchmarks.peers.probing import PATH, found, path_of
from benchmarks.peers.program import PeerFailed


@contextmanager
def backend(within: str | None = None) -> Iterator[EngineBackend]:
    """The backend; its daemon answers when this is entered, or it is not available."""
    with ExitStack() as undo:
        standing = undo.enter_context(ground(within))
        obstacle = (
            found("dockerd", "docker", package="docker.io")
            or found("setpriv", package="util-linux")
            or standing.obstacle
        )
        engine: Engine | None = None
        if obstacle is None:
            store = undo.enter_context(engine_store("docker"))
            try:
                daemon = undo.enter_context(dockerd(store / "data", standing))
                engine = _engine(daemon, store / "data")
                clear(engine)
            except PeerFailed as failed:
                obstacle = Unavailable(
                    reason=failed.message, remedy="see whether dockerd starts by hand here"
                )
        yield EngineBackend("docker", standing, engine, obstacle)


def _engine(daemon: Daemon, data: Path) -> Engine:
    return Engine(
        name="docker",
        words=(path_of("docker"), "--host", daemon.address),
        env={"PATH": PATH, "HOME": str(RUN), "DOCKER_CONFIG": str(RUN / "client")},
        storage=data,
        complaint=b"docker: ",
        write_archive=write_docker_archive,
        run=("--env", "HOSTNAME"),  # a name that we do not have: docker takes its own away
        daemons=daemon.pids,
    )
