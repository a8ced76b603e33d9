"""An instance of a peer: what can be seen of it through the program that runs it.

Phases seen from outside: ``prepared`` where we mount the file system ourselves, ``engine`` when
the peer's program runs, ``output``, ``exit`` and ``gone``. What happens inside the peer is not
seen, so it is absent.
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks import meters
from benchmarks.backend import (
    ExecResult,
    Features,
    InstanceSpec,
    InstanceTimeout,
    Reading,
    Usage,
)
from benchmarks.peers.program import Ended, PeerFailed, Program, end_descendants
from runtime import syscalls
from runtime.container.state import instances_dir, record_owner, remove_instance
from runtime.errors import SpecError

IDLE = "/dev/.isoscope-idle"
"""Where the program of an instance without a command is: on a mount, so not in the image."""


_START_S = 60.0
_AFTER_COMPLAINT_S = 1.0
"""How long a peer that spoke before its idle program did may take to end, or to start it."""


class Timeline:
    """When what happened to an instance, from its request on; on CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.requested_ns = time.monotonic_ns()
        self._marks_ns: dict[str, int] = {}

    def mark(self, phase: str, at_ns: int | None = None) -> None:
        """Note that *phase* is reached, now if no time is given."""
        self._marks_ns.setdefault(phase, time.monotonic_ns() if at_ns is None else at_ns)

    @property
    def phases(self) -> dict[str, int]:
        """Nanoseconds since the request, in the order in which they were reached."""
        reached = sorted(self._marks_ns.items(), key=lambda mark: mark[1])
        return {"request": 0} | {name: at - self.requested_ns for name, at in reached}


class Tool(Protocol):
    """What one peer makes of one instance: command lines, and how their ends are to be read."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment of the peer's own programs, not of the workload."""

    def start(self) -> Program:
        """Start the program that runs the instance in the foreground."""

    def enter(self, argv: Sequence[str], stdin: bytes) -> Program:
        """Start the program that runs one more command inside."""

    def verdict(self, ended: Ended) -> tuple[int, bytes]:
        """The workload's status and standard error. Raises PeerFailed if there is none."""

    def stop(self) -> None:
        """End the instance, whatever state it is in, and remove what the peer keeps of it."""

    def usage(self, attached: int) -> Usage:
        """What it uses; *attached* is the process that ``start`` started."""


class PeerInstance:
    """See ``benchmarks.backend.Instance``."""

    def __init__(self, tool: Tool, program: Program, life: Timeline, *, idle: bool) -> None:
        self._tool = tool
        self._first_byte = "exec" if idle else "output"  # an idle one's program says that it runs
        self._program = program
        self._life = life
        self._ended: Ended | None = None

    @property
    def requested_ns(self) -> int:
        """See ``Instance.requested_ns``."""
        return self._life.requested_ns

    @property
    def phases(self) -> Mapping[str, int]:
        """See ``Instance.phases``."""
        if (output_ns := self._program.gathering.first_output_ns) is not None:
            self._life.mark(self._first_byte, output_ns)
        return self._life.phases

    def wait(self, *, timeout_s: float) -> ExecResult:
        """See ``Instance.wait``."""
        self._ended = self._ended or self._program.finish(timeout_s)
        if self._ended is None:
            raise self._timed_out(self._program, timeout_s)
        self._life.mark("exit", self._ended.exit_ns)
        status, stderr = self._tool.verdict(self._ended)
        return ExecResult(
            exit_status=status, stdout=self._ended.stdout, stderr=stderr, phases=self.phases
        )

    def until_output(self, *, timeout_s: float) -> bool:
        """See ``Instance.until_output``."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        return self._program.gathering.until_output(self._program.pidfd, deadline_ns=deadline_ns)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        life = Timeline()
        program = self._tool.enter(argv, stdin)
        try:
            life.mark("engine", program.started_ns)
            ended = program.finish(timeout_s)
            if ended is None:
                raise self._timed_out(program, timeout_s)
        finally:
            program.close()
        if program.gathering.first_output_ns is not None:
            life.mark("output", program.gathering.first_output_ns)
        life.mark("exit", ended.exit_ns)
        status, stderr = self._tool.verdict(ended)
        return ExecResult(
            exit_status=status, stdout=ended.stdout, stderr=stderr, phases=life.phases
        )

    def usage(self) -> Usage:
        """See ``Instance.usage``."""
        return self._tool.usage(self._program.pid)

    def stands(self) -> None:
        """Wait until the program of an idle instance runs. Raises PeerFailed if it never does."""
        self.until_output(timeout_s=_START_S)
        said = self._program.gathering
        ended = None if said.stdout else self._program.finish(_AFTER_COMPLAINT_S)
        if said.stdout:
            return
        if ended is not None:
            self._tool.verdict(ended)
        raise PeerFailed(f"the instance did not start within {_START_S:g} s")

    def _timed_out(self, program: Program, timeout_s: float) -> InstanceTimeout:
        last = list(self.phases)[-1]
        self._tool.stop()
        return InstanceTimeout(
            f"no end after {timeout_s:g} s, so it was killed",
            stdout=program.gathering.stdout,
            stderr=program.gathering.stderr,
            last_phase=last,
        )


@contextmanager
def running(
    tool: Tool,
    life: Timeline,
    *,
    idle: bool,
    spare: Collection[int] = (),
    phase: str = "engine",
) -> Iterator[PeerInstance]:
    """The instance; stopped, and every process of it gone but *spare*, when the block is left.

    An *idle* one is known to stand when the block begins. *phase* is what the start of the peer's
    program means.
    """
    with ExitStack() as undo:
        undo.callback(end_descendants, spare=spare)
        undo.callback(tool.stop)
        program = tool.start()
        undo.callback(program.close)
        life.mark(phase, program.started_ns)
        instance = PeerInstance(tool, program, life, idle=idle)
        if idle:
            instance.stands()
        yield instance


@contextmanager
def home(within: str | None) -> Iterator[Path]:
    """A directory for what is one instance's own; gone with the block, swept if we are killed.

    It is in the worker's, if that has groups: then its processes are killed before its files go.
    """
    name = f"p-{os.urandom(5).hex()}"
    worker = "" if within is None else within.partition("/")[0]
    directory = instances_dir() / worker / name
    directory.mkdir(parents=True)
    try:
        if within is None:
            record_owner(directory, ())
        yield directory
    finally:
        remove_instance(directory)


@contextmanager
def overlaid(lower: Path, directory: Path) -> Iterator[Path]:
    """*lower* with a writable layer of its own in *directory*: as our own containers have it."""
    upper, work, root = (directory / name for name in ("upper", "work", "root"))
    if set(f"{lower}{directory}") & set(",:\\"):
        raise SpecError(
            f"{directory} or {lower} holds one of , : \\ which overlayfs cannot mount",
            remedy="set ISOSCOPE_HOME to a path without them",
        )
    for path in (upper, work, root):
        path.mkdir()
    layers = f"lowerdir={lower},upperdir={upper},workdir={work},volatile"
    syscalls.mount("overlay", str(root), "overlay", syscalls.MS_NODEV, layers)
    try:
        yield root
    finally:
        syscalls.umount2(str(root), syscalls.MNT_DETACH)


def refuse_more(spec: InstanceSpec, features: Features, name: str) -> None:
    """Raise SpecError if *spec* asks for what *features* do not offer."""
    asked = {"cpus": spec.cpus, "memory": spec.memory_bytes, "pids": spec.pids}
    refused = [limit for limit, value in asked.items() if value and limit not in features.enforces]
    refused += ["mounts"] if spec.mounts and not features.mounts else []
    refused += ["ports"] if spec.ports and not features.ports else []
    refused += [spec.network] if spec.network not in features.networks else []
    if refused:
        raise SpecError(f"{name} offers no {', '.join(refused)}", remedy="ask for less of it")


def memory(
    pids: Collection[int], *, left_out: Mapping[str, Collection[int]]
) -> dict[str, Reading]:
    """Memory of *pids* by each definition, naming them, and what was left out and why."""
    pids = [pid for pid in pids if meters.rollup(pid) is not None]  # no zombies
    names = ", ".join(_names(pids)) or "no process"
    notes = "".join(
        f"; without {', '.join(_names(others))} ({why})"
        for why, others in left_out.items()
        if others
    )
    return {
        name: Reading(value_bytes=reading.value_bytes, method=f"{reading.method}: {names}{notes}")
        for name, reading in meters.memory(pids).items()
    }


def _names(pids: Collection[int]) -> list[str]:
    found = []
    for pid in sorted(pids):
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return found
