"""runc and crun: the same bundle, the same verbs of the OCI runtime command line.

An instance is ``RUNTIME run`` in the foreground on a bundle that we write: the image's tree with
a writable layer that we mount. Every runtime keeps its state in a directory of the instance's own.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import meters
from benchmarks.backend import Features, InstanceSpec, Preparation, Reading, Unavailable, Usage
from benchmarks.peers.bundle import configuration
from benchmarks.peers.ground import Ground, ground
from benchmarks.peers.instance import (
    PeerInstance,
    Timeline,
    home,
    memory,
    overlaid,
    refuse_more,
    running,
)
from benchmarks.peers.probing import PATH, found, path_of, tried
from benchmarks.peers.program import Ended, PeerFailed, Program, said
from benchmarks.peers.trees import Trees
from benchmarks.peers.waiting import waiting_program
from runtime.container.launch.process import NOT_EXECUTABLE, NOT_FOUND
from runtime.container.spec import Limits, ProcessSpec
from runtime.image import Identity

_FAILED = frozenset({1, 255})
"""What the runtimes exit with when they fail themselves; a workload may do so too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What one OCI runtime has of its own: its name, its package, how it is told where to log."""

    name: str
    package: str
    log_prefix: str = ""


@contextmanager
def oci_backend(runtime: Runtime, within: str | None) -> Iterator["OciBackend"]:
    """The backend of *runtime*, on ground of its own."""
    with ground(within) as standing:
        yield OciBackend(runtime, standing)


class OciBackend:
    """See ``benchmarks.backend.Backend``."""

    def __init__(self, runtime: Runtime, standing: Ground) -> None:
        self._runtime = runtime
        self._program = path_of(runtime.name)
        self._ground = standing
        self._trees = Trees()

    @property
    def name(self) -> str:
        """The runtime's."""
        return self._runtime.name

    @property
    def features(self) -> Features:
        """Limits are enforced where a cgroup hierarchy controls them."""
        return Features(enforces=self._ground.enforces, exec=True, stdin=True)

    def probe(self) -> Unavailable | None:
        """Create a container of nothing but an idle program, and delete it."""
        return (
            found(self.name, package=self._runtime.package)
            or self._ground.obstacle
            or tried(self.name, self._trial)
        )

    def prepare(self, image: str) -> Preparation:
        """See ``Backend.prepare``."""
        return self._trees.prepare(image)

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[PeerInstance]:
        """A container of the runtime; leaving deletes it and unmounts its file system."""
        refuse_more(spec, self.features, self.name)
        process, tree = self._trees.process(spec)
        limits = Limits(memory_bytes=spec.memory_bytes, cpus=spec.cpus, pids=spec.pids)
        life = Timeline()
        with ExitStack() as undo:
            undo.callback(life.mark, "gone")
            directory = undo.enter_context(home(self._ground.within))
            root = undo.enter_context(overlaid(tree, directory))
            life.mark("prepared")
            tool = self._bundle(process, limits, directory, root, stdin=spec.stdin)
            yield undo.enter_context(running(tool, life, idle=not spec.argv))

    def _bundle(
        self,
        process: ProcessSpec,
        limits: Limits,
        directory: Path,
        root: Path,
        *,
        stdin: bytes = b"",
    ) -> "OciTool":
        document = configuration(
            process,
            root=str(root),
            hostname=directory.name,
            group=f"{self._ground.parent}/{directory.name}",
            limits=limits,
            facts=self._ground.facts,
            idle="" if process.argv else str(waiting_program(directory)),
        )
        (directory / "config.json").write_text(json.dumps(document))
        return OciTool(
            program=self._program, log_prefix=self._runtime.log_prefix, directory=directory,
            stdin=stdin,
        )  # fmt: skip

    def _trial(self) -> None:
        nobody = Identity(uid=0, gid=0, groups=(0,), home="/")
        process = ProcessSpec(argv=(), env=(), cwd="/", identity=nobody)
        with ExitStack() as undo:
            directory = undo.enter_context(home(self._ground.within))
            (directory / "nothing").mkdir()
            root = undo.enter_context(overlaid(directory / "nothing", directory))
            tool = self._bundle(process, Limits(), directory, root)
            undo.callback(tool.stop)
            tool.create()


@dataclass(frozen=True, slots=True, kw_only=True)
class OciTool:
    """See ``benchmarks.peers.instance.Tool``. The container is named as its *directory*."""

    program: str
    log_prefix: str
    directory: Path
    stdin: bytes = b""

    @property
    def env(self) -> Mapping[str, str]:
        """What the runtime finds its helpers by."""
        return {"PATH": PATH}

    def start(self) -> Program:
        """``run`` in the foreground."""
        words = self._words("run", "--bundle", str(self.directory), self.directory.name)
        return Program(words, env=self.env, stdin=self.stdin)

    def enter(self, argv: Sequence[str], stdin: bytes) -> Program:
        """``exec``: user, environment and directory are those of the bundle."""
        return Program(self._words("exec", self.directory.name, *argv), env=self.env, stdin=stdin)

    def create(self) -> None:
        """Everything but the start. Raises PeerFailed."""
        words = self._words("create", "--bundle", str(self.directory), self.directory.name)
        said(words, env=self.env)

    def verdict(self, ended: Ended) -> tuple[int, bytes]:
        """A failure of the runtime is in its log, and only there told from the workload's."""
        why = self._complaint() if ended.status in _FAILED else None
        if why is None:
            return ended.status, ended.stderr
        status = _status_of(why)
        if status is None:
            raise PeerFailed(f"{Path(self.program).name}: {why}")
        stderr = ended.stderr if why.encode() in ended.stderr else f"{why}\n".encode()
        return status, stderr

    def stop(self) -> None:
        """``delete --force``, unless it has deleted itself at its end."""
        kept = self.directory / "state" / self.directory.name
        if kept.exists():
            try:
                said(self._words("delete", "--force", self.directory.name), env=self.env)
            except PeerFailed:
                if kept.exists():  # else the one in the foreground was quicker
                    raise

    def usage(self, attached: int) -> Usage:
        """What is in the container; the runtime waits in the foreground and could be gone."""
        pids = set(meters.descendants(os.getpid())) - {attached}
        readings = memory(pids, left_out={"waits in the foreground": [attached]})
        readings["disk_instance"] = Reading(
            value_bytes=meters.allocated_bytes(self.directory / "upper"),
            method="allocated blocks of the overlay's upper directory",
        )
        return Usage(readings=readings)

    def _words(self, *verb: str) -> list[str]:
        log = self.directory / f"log-{time.monotonic_ns()}.json"
        return [
            self.program, "--root", str(self.directory / "state"),
            "--log", f"{self.log_prefix}{log}", "--log-format", "json", *verb,
        ]  # fmt: skip

    def _complaint(self) -> str | None:
        """The last error in the newest log."""
        newest = max(self.directory.glob("log-*.json"), default=None)
        if newest is None:
            return None
        found: str | None = None
        for line in newest.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("level") == "error":
                    found = str(entry.get("msg"))
        return found


def _status_of(complaint: str) -> int | None:
    """What a shell would give where the runtime could not execute the program."""
    said = complaint.lower()
    if "executable file" not in said and "exec" not in said:
        return None
    if "not found" in said or "no such file" in said:
        return NOT_FOUND
    return NOT_EXECUTABLE if "permission denied" in said else None
