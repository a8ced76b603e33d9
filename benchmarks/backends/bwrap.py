"""bubblewrap, the sandbox that makes namespaces and nothing else: no limits, no images, no exec.

The image's tree is bound with a writable layer that we mount. As root it still makes a user
namespace, so root inside holds no capability outside. One more command enters by nsenter(1).
Source: bwrap(1), user_namespaces(7).
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import meters
from benchmarks.backend import Features, InstanceSpec, Preparation, Reading, Unavailable, Usage
from benchmarks.peers.ground import Ground, ground
from benchmarks.peers.instance import (
    IDLE,
    PeerInstance,
    Timeline,
    home,
    memory,
    overlaid,
    refuse_more,
    running,
)
from benchmarks.peers.probing import PATH, found, path_of, tried
from benchmarks.peers.program import Ended, PeerFailed, Program, last_words, said
from benchmarks.peers.trees import Trees
from benchmarks.peers.waiting import waiting_program
from runtime.container.launch.process import NOT_EXECUTABLE, NOT_FOUND
from runtime.container.spec import ProcessSpec

_INFO = 3
APART = ("--unshare-all", "--die-with-parent", "--new-session")
KERNEL_FILES = ("--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys")
_NAMESPACES = ("--user", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")


@contextmanager
def backend(within: str | None = None) -> Iterator["BwrapBackend"]:
    """The backend; the layers it mounts are private to this process."""
    with ground(within) as standing:
        yield BwrapBackend(standing)


class BwrapBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "bwrap"
    features = Features(exec=True, stdin=True)

    def __init__(self, standing: Ground) -> None:
        self._ground = standing
        self._trees = Trees()
        self._program = path_of("bwrap")

    def probe(self) -> Unavailable | None:
        """Run this machine's own ``true`` in the same sandbox."""
        return (
            found("bwrap", package="bubblewrap")
            or found("nsenter", package="util-linux")
            or self._ground.obstacle
            or tried(self.name, self._trial)
        )

    def prepare(self, image: str) -> Preparation:
        """See ``Backend.prepare``."""
        return self._trees.prepare(image)

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[PeerInstance]:
        """A sandbox; leaving ends it and unmounts its file system."""
        refuse_more(spec, self.features, self.name)
        process, tree = self._trees.process(spec)
        life = Timeline()
        with ExitStack() as undo:
            undo.callback(life.mark, "gone")
            directory = undo.enter_context(home(self._ground.within))
            root = undo.enter_context(overlaid(tree, directory))
            life.mark("prepared")
            heard, told = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, heard)
            undo.callback(os.close, told)
            tool = BwrapTool(
                program=self._program, process=process, directory=directory, root=root,
                heard=heard, told=told, stdin=spec.stdin,
            )  # fmt: skip
            yield undo.enter_context(running(tool, life, idle=not spec.argv))

    def _trial(self) -> None:
        tree = ("--ro-bind", "/", "/", *KERNEL_FILES)
        said([self._program, *APART, *tree, "--", path_of("true")], env={"PATH": PATH})


@dataclass(frozen=True, slots=True, kw_only=True)
class BwrapTool:
    """See ``benchmarks.peers.instance.Tool``. *told* is where bwrap tells its first process."""

    program: str
    process: ProcessSpec
    directory: Path
    root: Path
    heard: int
    told: int
    stdin: bytes
    _inside: list[int] = field(default_factory=list)

    @property
    def env(self) -> Mapping[str, str]:
        """The workload's: bwrap passes its own on, and finds the program by it."""
        return dict(variable.split("=", 1) for variable in self.process.env)

    def start(self) -> Program:
        """The process that waits is bwrap itself."""
        who = self.process.identity
        words = [
            self.program, *APART, "--bind", str(self.root), "/", *KERNEL_FILES, *self._idle(),
            "--hostname", self.directory.name, "--uid", str(who.uid), "--gid", str(who.gid),
            "--dir", self.process.cwd, "--chdir", self.process.cwd,
            "--info-fd", str(_INFO), "--", *(self.process.argv or (IDLE,)),
        ]  # fmt: skip
        return Program(words, env=self.env, stdin=self.stdin, extra=self.told)

    def enter(self, argv: Sequence[str], stdin: bytes) -> Program:
        """The sandbox's first process lends its namespaces."""
        who = self.process.identity
        words = [
            path_of("nsenter"), "--target", str(self._first_process()), *_NAMESPACES,
            "--setuid", str(who.uid), "--setgid", str(who.gid), f"--wdns={self.process.cwd}",
            "--", *argv,
        ]  # fmt: skip
        return Program(words, env=self.env, stdin=stdin)

    def verdict(self, ended: Ended) -> tuple[int, bytes]:
        """It fails with 1, as its workload may; its own complaint begins with its name."""
        if ended.status != 1 or not ended.stderr.startswith(b"bwrap: "):
            return ended.status, ended.stderr
        if not ended.stderr.startswith(b"bwrap: execvp "):
            raise PeerFailed(last_words(ended))
        absent = ended.stderr.rstrip().endswith(b"No such file or directory")
        return (NOT_FOUND if absent else NOT_EXECUTABLE), ended.stderr

    def stop(self) -> None:
        """Nothing is kept outside of its processes, which die with the one we started."""

    def usage(self, attached: int) -> Usage:
        """All from bwrap itself downwards: it supervises as long as the sandbox exists."""
        readings = memory({attached, *meters.descendants(attached)}, left_out={})
        readings["disk_instance"] = Reading(
            value_bytes=meters.allocated_bytes(self.directory / "upper"),
            method="allocated blocks of the overlay's upper directory",
        )
        return Usage(readings=readings)

    def _idle(self) -> tuple[str, ...]:
        if self.process.argv:
            return ()
        return ("--ro-bind", str(waiting_program(self.directory)), IDLE)

    def _first_process(self) -> int:
        """Its pid, as bwrap tells it before it lets it run."""
        if not self._inside:
            told = b""
            while b"}" not in told and (chunk := os.read(self.heard, 4096)):
                told += chunk
            with suppress(ValueError, KeyError):
                self._inside.append(int(json.loads(told)["child-pid"]))
        if not self._inside:
            raise PeerFailed("bwrap did not tell which process is its first")
        return self._inside[0]
