"""The baseline: a plain process of the image's own files.

The tree is entered by chroot and that is all: same kernel, same process table, same network, no
limits. What it writes stays for the next one. The host's own /proc, /dev and /sys are bound into
the tree once, before any clock starts, in a mount namespace private to the worker, so that
programs find what they need and nothing is left mounted.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks import meters
from benchmarks.backend import (
    Features,
    InstanceSpec,
    Preparation,
    Reading,
    Unavailable,
    Usage,
)
from benchmarks.processes import ProcessInstance, UnstartedInstance
from runtime import syscalls
from runtime.container.container import Options, process_spec
from runtime.container.interrupts import delivered, end_on_termination, held
from runtime.container.launch.process import CommandNotRunnable, start
from runtime.container.launch.streams import Gathering, Pipes
from runtime.container.plan import plan_plain
from runtime.container.steps import Plan
from runtime.image import Image, Store, unpacked

PURPOSE = "host"
"""A tree of its own: it is written to, and no container's lower layer may change."""

_MACHINE = os.uname().machine
FOREGROUND = "foreground"
"""The tree that ``run --on host`` writes to."""

_BOUND = ("proc", "dev", "sys")


@contextmanager
def backend(_within: str | None = None) -> Iterator["HostBackend"]:
    """The backend, in a mount namespace of this process alone."""
    yield HostBackend()


class HostBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "host"
    features = Features(exec=True, stdin=True, networks=frozenset({"host"}))

    def __init__(self) -> None:
        self._trees: dict[str, tuple[Image, Path]] = {}

    def probe(self) -> Unavailable | None:
        """Try chroot, in a process that does nothing else."""
        pid = os.fork()
        if pid == 0:
            try:
                os.chroot("/")
            except OSError:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status == 0:
            return None
        return Unavailable(
            reason="a plain process enters the image by chroot, which needs root",
            remedy="run isoscope as root",
        )

    def prepare(self, image: str) -> Preparation:
        """Unpack the image into a tree for plain processes; bind the kernel's files into it."""
        store = Store()
        made = unpacked(store, store.resolve(image), purpose=PURPOSE)
        self.tree(image)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method="layers verified and unpacked into a directory",
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[ProcessInstance | UnstartedInstance]:
        """Start the program; leaving kills it and all that it started."""
        _, tree = self.tree(spec.image)
        before_bytes = meters.allocated_bytes(tree)  # an instrument's work, not the start's
        requested_ns = time.monotonic_ns()
        image = Store().resolve(spec.image)  # as every backend does when it is asked
        options = Options(env=spec.env, cwd=spec.cwd, user=spec.user)
        pipes = Pipes.open()

        def plan(argv: Sequence[str]) -> Plan:
            return plan_plain(process_spec(image, argv, options, tree), str(tree), _MACHINE)

        with ExitStack() as undo:
            undo.callback(pipes.close)
            try:
                process = start(
                    plan(spec.argv),
                    stdin=pipes.child[0], stdout=pipes.child[1], stderr=pipes.child[2],
                )  # fmt: skip
            except CommandNotRunnable as error:
                yield UnstartedInstance(requested_ns=requested_ns, error=error)
                return
            pipes.close_child()
            instance = ProcessInstance(
                requested_ns=requested_ns,
                process=process,
                gathering=Gathering(pipes, spec.stdin),
                plan_run=plan,
                read_usage=lambda: _usage(tree, before_bytes),
            )
            undo.callback(instance.gone)
            undo.callback(_end_descendants)
            undo.callback(process.close)
            yield instance

    def tree(self, digest: str, *, purpose: str = PURPOSE) -> tuple[Image, Path]:
        """The image and its tree, with the kernel's files bound into it."""
        if digest not in self._trees:
            store = Store()
            image = store.resolve(digest)
            tree = unpacked(store, image, purpose=purpose).path
            if not self._trees:
                syscalls.unshare(syscalls.CLONE_NEWNS)
                private = syscalls.MS_REC | syscalls.MS_PRIVATE
                syscalls.mount("", "/", "", private, "")
            for name in _BOUND:
                (tree / name).mkdir(exist_ok=True)
                bind = syscalls.MS_BIND | syscalls.MS_REC
                syscalls.mount(f"/{name}", str(tree / name), "", bind, "")
            self._trees[digest] = (image, tree)
        return self._trees[digest]


def foreground(
    image: Image, argv: Sequence[str], options: Options, *, timeout_s: float | None
) -> int | None:
    """Run *argv* with our own descriptors; its exit status, or None if it had to be killed.

    In a tree of its own kind, so that what it writes never reaches a measurement; it stays for
    the next one. Raises CommandNotRunnable.
    """
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)  # its orphans are ours to end
    end_on_termination()
    with held() as before, backend() as host:
        _, tree = host.tree(image.digest, purpose=FOREGROUND)
        plan = plan_plain(process_spec(image, argv, options, tree), str(tree), _MACHINE)
        process = start(plan, stdin=0, stdout=1, stderr=2)
        try:
            with delivered(before):
                return process.poll(timeout_s)
        finally:
            process.close()
            _end_descendants()


def _usage(tree: Path, before_bytes: int) -> Usage:
    readings = dict(meters.memory(meters.descendants(os.getpid())))
    readings["disk_instance"] = Reading(
        value_bytes=max(0, meters.allocated_bytes(tree) - before_bytes),
        method="growth of the tree's allocated blocks since before the start",
    )
    return Usage(readings=readings)


def _end_descendants() -> None:
    """Kill and reap whatever the instance left; as a subreaper we inherit its orphans."""
    while pids := meters.descendants(os.getpid()):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
