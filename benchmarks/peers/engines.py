"""docker and podman: the same words, an image store of their own, an instance behind a helper.

An instance is ``run`` in the foreground without ``--rm``, so that the end of the command is seen
apart from the removal. Each engine's store is below ``peers`` in our state directory, used by one
worker at a time, and holds images loaded from ours: the digest of the configuration is the same.
"""

import fcntl
import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import meters
from benchmarks.backend import Features, InstanceSpec, Preparation, Reading, Unavailable, Usage
from benchmarks.peers.ground import Ground
from benchmarks.peers.instance import (
    IDLE,
    PeerInstance,
    Timeline,
    home,
    memory,
    refuse_more,
    running,
)
from benchmarks.peers.probing import tried
from benchmarks.peers.program import Ended, PeerFailed, Program, last_words, said
from benchmarks.peers.waiting import waiting_code, waiting_program
from runtime.image import Image, Store, cache_dir

_OURS = 125
"""What both exit with when they fail themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How one engine is spoken to.

    *words* begin every command line; *run* and *remove* are options of these verbs that only it
    knows or needs. *unset* names the variables that it would add to a container's environment.
    *complaint* begins what it says when it fails itself. *storage* is what its store occupies.
    """

    name: str
    words: tuple[str, ...]
    env: Mapping[str, str]
    storage: Path
    complaint: bytes
    write_archive: Callable[[Store, Image, Path], None]
    run: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    daemons: tuple[int, ...] = ()
    makes_cwd: bool = True

    def say(self, *words: str, stdin: bytes = b"") -> str:
        """What the engine answers. Raises PeerFailed."""
        answer = said([*self.words, *words], env=self.env, stdin=stdin)
        return answer.decode(errors="replace").strip()


class EngineBackend:
    """See ``benchmarks.backend.Backend``; *obstacle* is why there is no *engine*."""

    def __init__(
        self, name: str, standing: Ground, engine: Engine | None, obstacle: Unavailable | None
    ) -> None:
        self.name = name
        self._ground = standing
        self._engine = engine
        self._obstacle = obstacle
        self._loaded: dict[str, str] = {}

    @property
    def features(self) -> Features:
        """Limits are enforced where a cgroup hierarchy controls them."""
        return Features(enforces=self._ground.enforces, exec=True, stdin=True)

    def probe(self) -> Unavailable | None:
        """Run a container of nothing but an idle program."""
        if self._engine is None:
            return self._obstacle
        return tried(self.name, self._trial)

    def prepare(self, image: str) -> Preparation:
        """Load the image into the engine's store, if it is not there yet."""
        engine = self._ready()
        store = Store()
        found = store.resolve(image)
        identity = found.manifest.config.digest
        record = (
            engine.storage.parent / f"{engine.name}-{found.digest.removeprefix('sha256:')}.json"
        )
        cached = record.exists() and _knows(engine, identity)
        if not cached:
            _load(engine, store, found, record)
        self._loaded[image] = identity.removeprefix("sha256:")
        cost = json.loads(record.read_text())
        return Preparation(
            duration_ns=cost["duration_ns"],
            disk_bytes=cost["disk_bytes"],
            cached=cached,
            method=f"{engine.name} load; bytes by which its store grew",
        )

    @contextmanager
    def launch(self, spec: InstanceSpec) -> Iterator[PeerInstance]:
        """A container of the engine; leaving removes it."""
        engine = self._ready()
        refuse_more(spec, self.features, self.name)
        if spec.image not in self._loaded:
            self.prepare(spec.image)
        before_bytes = meters.allocated_bytes(
            engine.storage
        )  # an instrument's work, not a start's
        life = Timeline()
        with ExitStack() as undo:
            undo.callback(life.mark, "gone")
            directory = undo.enter_context(home(self._ground.within))
            tool = EngineTool(
                engine=engine, name=directory.name, image=self._loaded[spec.image], spec=spec,
                parent=self._ground.parent, before_bytes=before_bytes,
                waiting="" if spec.argv else str(waiting_program(directory)),
            )  # fmt: skip
            yield undo.enter_context(
                running(
                    tool,
                    life,
                    idle=not spec.argv,
                    spare=engine.daemons,
                    phase="engine.client" if engine.daemons else "engine",
                )
            )

    def _ready(self) -> Engine:
        if self._engine is None:
            why = self._obstacle
            raise PeerFailed(f"{self.name} cannot run here: {why.reason if why else 'unknown'}")
        return self._engine

    def _trial(self) -> None:
        engine = self._ready()
        image = engine.say("import", "-", stdin=_smallest_tree())
        name = f"trial-{os.urandom(5).hex()}"
        try:
            parent = ("--cgroup-parent", self._ground.parent)
            engine.say(
                "run", "--detach", "--name", name, "--network", "none", *parent, *engine.run,
                image, "/idle",
            )  # fmt: skip
        finally:
            engine.say("rm", "--force", *engine.remove, name)
            engine.say("rmi", image)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTool:
    """See ``benchmarks.peers.instance.Tool``."""

    engine: Engine
    name: str
    image: str
    spec: InstanceSpec
    parent: str
    before_bytes: int
    waiting: str

    @property
    def env(self) -> Mapping[str, str]:
        """The engine's."""
        return self.engine.env

    def start(self) -> Program:
        """``run``, attached; where the engine does not make a working directory, we do first."""
        if self.spec.cwd is None or self.engine.makes_cwd:
            return self._program("run", *self._options())
        self.engine.say("create", *self._options())
        self.engine.say("cp", "-", f"{self.name}:/", stdin=_directory(self.spec.cwd))
        attached = ("--attach", *(("--interactive",) if self.spec.stdin else ()))
        return self._program("start", *attached, self.name)

    def enter(self, argv: Sequence[str], stdin: bytes) -> Program:
        """``exec``: user, environment and directory are those of the container."""
        words = ("exec", *(("--interactive",) if stdin else ()), self.name, *argv)
        return Program([*self.engine.words, *words], env=self.env, stdin=stdin)

    def verdict(self, ended: Ended) -> tuple[int, bytes]:
        """126 and 127 already mean what they mean to a shell."""
        if ended.status == _OURS and ended.stderr.startswith(self.engine.complaint):
            raise PeerFailed(last_words(ended))
        return ended.status, ended.stderr

    def stop(self) -> None:
        """``rm --force``: kills, and removes what is kept of a container that has ended."""
        self.engine.say("rm", "--force", *self.engine.remove, self.name)

    def usage(self, attached: int) -> Usage:
        """The container and the helper that holds it; not who could leave or serves all."""
        daemons = self.engine.daemons
        pids = set(meters.descendants(os.getpid())) - {attached, *daemons}
        left_out = {"the attached client": [attached], "serves all instances": daemons}
        readings = memory(pids, left_out=left_out)
        grown = meters.allocated_bytes(self.engine.storage) - self.before_bytes
        readings["disk_instance"] = Reading(
            value_bytes=max(0, grown),
            method=f"growth of the allocated blocks of {self.engine.name}'s store since the start",
        )
        return Usage(readings=readings)

    def _program(self, *words: str) -> Program:
        return Program([*self.engine.words, *words], env=self.env, stdin=self.spec.stdin)

    def _options(self) -> Iterator[str]:
        spec = self.spec
        yield from ("--name", self.name, "--network", "none", "--cgroupns", "private")
        yield from ("--cgroup-parent", self.parent, *self.engine.run)
        if spec.stdin:
            yield "--interactive"
        for name, value in spec.env.items():
            yield from ("--env", f"{name}={value}")
        if spec.user is not None:
            yield from ("--user", spec.user)
        if spec.cwd is not None:
            yield from ("--workdir", spec.cwd)
        yield from self._limits()
        if self.waiting:
            yield from ("--volume", f"{self.waiting}:{IDLE}:ro")
        program, *arguments = spec.argv or (IDLE,)
        yield from ("--entrypoint", program, self.image, *arguments)

    def _limits(self) -> Iterator[str]:
        if self.spec.memory_bytes is not None:
            amount = str(self.spec.memory_bytes)
            yield from ("--memory", amount, "--memory-swap", amount)
        if self.spec.cpus is not None:
            yield from ("--cpus", str(self.spec.cpus))
        if self.spec.pids is not None:
            yield from ("--pids-limit", str(self.spec.pids))


@contextmanager
def engine_store(name: str) -> Iterator[Path]:
    """The directory of an engine's store, ours until the block is left; others wait meanwhile."""
    directory = cache_dir("peers") / name
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(lock)


def clear(engine: Engine) -> None:
    """Remove the containers that a killed worker's engine still has in its books."""
    if names := engine.say("ps", "--all", "--quiet").split():
        engine.say("rm", "--force", *engine.remove, *names)


def _knows(engine: Engine, identity: str) -> bool:
    try:
        engine.say("image", "inspect", identity.removeprefix("sha256:"))
    except PeerFailed:
        return False
    return True


def _load(engine: Engine, store: Store, image: Image, record: Path) -> None:
    before_bytes = meters.allocated_bytes(engine.storage)
    archive = engine.storage.parent / "image.tar"
    started_ns = time.monotonic_ns()
    try:
        engine.write_archive(store, image, archive)
        engine.say("load", "--quiet", "--input", str(archive))
    finally:
        archive.unlink(missing_ok=True)
    duration_ns = time.monotonic_ns() - started_ns
    os.sync()  # its writing must not disturb what is measured next
    disk_bytes = meters.allocated_bytes(engine.storage) - before_bytes
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps({"duration_ns": duration_ns, "disk_bytes": max(0, disk_bytes)}))
    draft.rename(record)


def _smallest_tree() -> bytes:
    program = waiting_code(os.uname().machine)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("idle")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


def _directory(path: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
    return packed.getvalue()
