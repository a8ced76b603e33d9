"""Where a workload plays: starts instances of one backend, each from a worker of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.backend import Features, InstanceSpec
from benchmarks.launcher import RemoteInstance, worker
from benchmarks.results import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One backend with one image; *limits* are given where the backend enforces them."""

    backend: str
    features: Features
    image: str
    limits: Limits

    @contextmanager
    def instance(
        self,
        argv: Sequence[str],
        *,
        exit_within_s: float = 0.0,
        limited: bool = True,
        network: str = "none",
        ports: tuple[tuple[int, int], ...] = (),
        before: Callable[[], None] | None = None,
    ) -> Iterator[RemoteInstance]:
        """An instance that runs *argv*; *before* is called when all but the launch is done.

        Once the block is left, its teardown is known. Raises as ``launcher.worker`` does.
        """
        spec = self._spec(argv, limited=limited, network=network, ports=ports)
        with worker(self.backend) as backend:
            backend.prepare(self.image)
            if before is not None:
                before()
            with backend.launch(spec, exit_within_s=exit_within_s) as instance:
                yield instance

    def _spec(
        self,
        argv: Sequence[str],
        *,
        limited: bool,
        network: str,
        ports: tuple[tuple[int, int], ...],
    ) -> InstanceSpec:
        """The same for all, but for limits that a backend cannot enforce."""
        enforced = self.features.enforces if limited else frozenset()
        return InstanceSpec(
            image=self.image,
            argv=tuple(argv),
            cpus=self.limits.cpus if "cpus" in enforced else None,
            memory_bytes=self.limits.memory_bytes if "memory" in enforced else None,
            network=network,
            ports=ports,
        )
