"""systemd-nspawn, systemd's own container program, from an OCI bundle.

Tree, user, environment and capabilities are those that runc and crun get; mounts and the filter
of system calls are its own.

It is run without a machine manager: nothing is registered, no scope is asked for, so it sets no
limits and says so. It has no verb for one more command unless the container runs systemd; that
enters by nsenter(1), past the filter of system calls. ``/tmp`` is the image's, not a tmpfs, and
boot_id is one that nspawn makes up. Sources: systemd-nspawn(1), ENVIRONMENT.md of systemd.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from benchmarks import meters
from benchmarks.backend import Features, InstanceSpec, Preparation, Reading, Unavailable, Usage
from benchmarks.peers.bundle import configuration
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
from benchmarks.peers.program import Ended, PeerFailed, Program, last_words
from benchmarks.peers.trees import Trees
from benchmarks.peers.waiting import waiting_program
from runtime import syscalls
from runtime.container.launch.process import NOT_EXECUTABLE, NOT_FOUND
from runtime.container.spec import Limits, ProcessSpec
from runtime.errors import SpecError, SyscallError
from runtime.image import Identity

_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
_OCI_VERSION = "1.0.0"  # systemd 252 refuses any later one by its name
_ALONE = (
    "--register=no",
    "--keep-unit",
    "--resolv-conf=off",
    "--timezone=off",
    "--link-journal=no",
)
_FAILED = 1
_SOURCE = b"src/nspawn/"
"""How its own complaints begin, so that they are told from a workload's: with their source."""
_A_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def backend(within: str | None = None) -> Iterator["NspawnBackend"]:
    """The backend; what it mounts and keeps is private to this process."""
    with ground(within) as standing:
        if within is not None and standing.obstacle is None:
            _enter_group(within.partition("/")[0])
        yield NspawnBackend(standing)


class NspawnBackend:
    """See ``benchmarks.backend.Backend``."""

    name = "nspawn"
    features = Features(exec=True, stdin=True)

    def __init__(self, standing: Ground) -> None:
        self._ground = standing
        self._trees = Trees()
        self._program = path_of("systemd-nspawn")

    def probe(self) -> Unavailable | None:
        """Run an idle program in a container of nothing else."""
        return (
            found("systemd-nspawn", package="systemd-container")
            or found("nsenter", package="util-linux")
            or self._ground.obstacle
            or tried(self.name, self._trial)
        )

    def prepare(self, image: str) -> Preparation:
        """See ``Backend.prepare``."""
        return self._trees.prepare(image)

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[PeerInstance]:
        """A container; leaving ends it and unmounts its file system."""
        refuse_more(spec, self.features, self.name)
        process, tree = self._trees.process(spec)
        with self._running(process, tree, stdin=spec.stdin) as instance:
            yield instance

    @contextmanager
    def _running(
        self, process: ProcessSpec, tree: Path | None, *, stdin: bytes = b""
    ) -> Iterator[PeerInstance]:
        """*process* on *tree*, or on an empty one."""
        life = Timeline()
        with ExitStack() as undo:
            undo.callback(life.mark, "gone")
            directory = undo.enter_context(home(self._ground.within))
            if tree is None:
                tree = directory / "nothing"
                (tree / "usr").mkdir(parents=True)  # it starts nothing without one
            root = undo.enter_context(overlaid(tree, directory))
            make_directory(root, process.cwd)
            life.mark("prepared")
            self._write_bundle(process, directory, root)
            tool = NspawnTool(
                program=self._program, process=process, directory=directory, stdin=stdin
            )
            yield undo.enter_context(running(tool, life, idle=not process.argv))

    def _write_bundle(self, process: ProcessSpec, directory: Path, root: Path) -> None:
        document = configuration(
            process,
            root=str(root),
            hostname=directory.name,
            group="",
            limits=Limits(),
            facts=self._ground.facts,
            idle="",  # see NspawnTool.start
        )
        document["ociVersion"] = _OCI_VERSION
        for group in ("cgroupsPath", "resources"):  # it would ask a service manager for them
            del document["linux"][group]
        # Its own filter stays: it refuses clone3 by ours with EPERM, after which no thread starts.
        del document["linux"]["seccomp"]
        del document["mounts"]  # it has its own, and knows no read-only ones in a bundle
        (directory / "config.json").write_text(json.dumps(document))

    def _trial(self) -> None:
        nobody = Identity(uid=0, gid=0, groups=(0,), home="/")
        process = ProcessSpec(argv=(), env=(), cwd="/", identity=nobody)
        with self._running(process, None):
            pass


@dataclass(frozen=True, slots=True, kw_only=True)
class NspawnTool:
    """See ``benchmarks.peers.instance.Tool``. The machine is named as its *directory*."""

    program: str
    process: ProcessSpec
    directory: Path
    stdin: bytes

    @property
    def env(self) -> Mapping[str, str]:
        """nspawn's: nothing of it reaches the workload."""
        return {
            "PATH": PATH,
            "SYSTEMD_LOG_LOCATION": "1",
            "SYSTEMD_LOG_TARGET": "console",
            "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
        }

    def start(self) -> Program:
        """It waits in the foreground until its payload, PID 1 of the container, has ended."""
        bundle = f"--oci-bundle={self.directory}"
        machine = f"--machine={self.directory.name}"
        words = [self.program, "--quiet", *_ALONE, "--console=pipe", machine, bundle]
        if not self.process.argv:
            words.append(f"--bind-ro={waiting_program(self.directory)}:{IDLE}")
        return Program(words, env=self.env, stdin=self.stdin)

    def enter(self, argv: Sequence[str], stdin: bytes) -> Program:
        """The container's first process lends its namespaces."""
        who = self.process.identity
        words = [
            path_of("nsenter"), "--target", str(self._first_process()), *_NAMESPACES,
            "--setuid", str(who.uid), "--setgid", str(who.gid), f"--wdns={self.process.cwd}",
            "--", *argv,
        ]  # fmt: skip
        env = dict(variable.split("=", 1) for variable in self.process.env)
        return Program(words, env=env, stdin=stdin)

    def verdict(self, ended: Ended) -> tuple[int, bytes]:
        """It fails with 1, as its workload may; its own complaint names its source."""
        last = ended.stderr.rstrip().rpartition(b"\n")[2]
        if ended.status != _FAILED or not last.startswith(_SOURCE):
            return ended.status, ended.stderr
        if b" execv(" not in last:
            raise PeerFailed(last_words(ended))
        absent = last.endswith(b"No such file or directory")
        return (NOT_FOUND if absent else NOT_EXECUTABLE), ended.stderr

    def stop(self) -> None:
        """Nothing is kept outside of its processes, which die with the one we started."""

    def usage(self, attached: int) -> Usage:
        """Its own too: it supervises as long as the container, which is not below it, exists."""
        readings = memory({attached, *meters.descendants(os.getpid())}, left_out={})
        readings["disk_instance"] = Reading(
            value_bytes=meters.allocated_bytes(self.directory / "upper"),
            method="allocated blocks of the overlay's upper directory",
        )
        return Usage(readings=readings)

    def _first_process(self) -> int:
        """The one of ours that is PID 1 in a namespace of its own: NSpid of proc(5)."""
        for pid in meters.descendants(os.getpid()):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
            if len(numbers) > 1 and numbers[-1] == "1":
                return pid
        raise PeerFailed("nspawn's container has no first process any more")


def _enter_group(worker: str) -> None:
    """Join a group of the *worker*'s in systemd's own v1 hierarchy, if there is one.

    In that one nspawn makes groups beside the process that starts it, and leaves them there; the
    worker's are removed when it ends, and are written down in case it is killed (``Ground``).
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup ") and "name=systemd" in right.split()[-1].split(","):
            group = Path(left.split()[4]) / f"isoscope-{worker}" / "nspawn"
            group.mkdir(parents=True, exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))


def make_directory(root: Path, cwd: str) -> None:
    """The working directory, where the image has none; no link of the image leads out of *root*.

    Raises SpecError where something else is in the way.
    """
    with ExitStack() as undo:
        top = os.open(root, _A_DIRECTORY)
        undo.callback(os.close, top)
        at = top
        path = PurePosixPath(cwd)
        for prefix in (*reversed(path.parents), path):
            try:
                at = _opened_inside(top, prefix)
            except SyscallError as refused:
                if refused.errno != errno.ENOENT:
                    raise _unmade(cwd, refused) from refused
                try:
                    os.mkdir(prefix.name, dir_fd=at)
                except OSError as refused_too:  # a link that leads nowhere is in the way
                    raise _unmade(cwd, refused_too) from refused_too
                at = _opened_inside(top, prefix)
            undo.callback(os.close, at)


def _unmade(cwd: str, why: OSError | SyscallError) -> SpecError:
    reason = os.strerror(why.errno or errno.EIO)
    return SpecError(
        f"the working directory {cwd!r} cannot be made: {reason}", remedy="choose another one"
    )


def _opened_inside(top: int, path: PurePosixPath) -> int:
    return syscalls.openat2(top, str(path), _A_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
