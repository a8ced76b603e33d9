"""What users of the runtime hold: a container, from its image to its end."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.container.attachments import Wishes, foreseen, given
from runtime.container.cgroups import Hierarchy
from runtime.container.facts import HostFacts, host_facts
from runtime.container.interrupts import delivered, held
from runtime.container.launch.interpreter import run_steps
from runtime.container.launch.process import Executor, Process, start
from runtime.container.launch.streams import Gathering, Pipes
from runtime.container.mounts import MAX_OPTIONS_BYTES, overlay_options
from runtime.container.plan import groups_of, plan, plan_exec
from runtime.container.protection import Protection
from runtime.container.spec import (
    HOST_NETWORK,
    OWN_NETWORK,
    ContainerSpec,
    Limits,
    ProcessSpec,
)
from runtime.container.state import (
    instances_dir,
    new_directory,
    record_owner,
    remove_instance,
)
from runtime.container.steps import Plan
from runtime.container.terminal import Terminal
from runtime.errors import RuntimeFault
from runtime.image import (
    Image,
    Rootfs,
    Store,
    identity,
    imitate,
    using_snapshots,
)
from runtime.image.progress import Showing, nobody
from runtime.user_namespace import owned_ids
from runtime.volume.mount import Mount

if TYPE_CHECKING:
    from runtime.network.attachment import Attachment

PURPOSE = "container"
"""Under this name images are kept in one tree that have more layers than a mount can name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may ask beyond image and command; None is what the image says.

    *within* is a path of groups below our own in which the container's groups are made.
    *executor* runs the plans; None is the fastest that this machine has.
    *mounts* are ready to be made; *attached* is what has to be found or made first: a network,
    ports, volumes.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None
    stdin: bytes = b""
    limits: Limits = Limits()  # noqa: RUF009 - a frozen value
    within: str | None = None
    seccomp: bool = True
    mounts: tuple[Mount, ...] = ()
    host_network: bool = False
    hostname: str | None = None
    attached: Wishes = Wishes()  # noqa: RUF009 - a frozen value
    protection: Protection = Protection()  # noqa: RUF009 - a frozen value
    terminal: Terminal | None = None
    executor: Executor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended. Phases are nanoseconds since it was asked for."""

    exit_status: int
    stdout: bytes
    stderr: bytes
    phases: Mapping[str, int]

    def _repr_html_(self) -> str:
        """How it ended, as a notebook shows it."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; a start must be light

        return markup.ended(
            exit_status=self.exit_status,
            stdout=self.stdout,
            stderr=self.stderr,
            phases=self.phases,
        )


class DeadlinePassed(RuntimeFault):
    """The command did not end in time; it and all it started are dead now."""

    def __init__(self, timeout_s: float, *, stdout: bytes, stderr: bytes) -> None:
        super().__init__(f"no end after {timeout_s:g} s, so it was killed")
        self.stdout = stdout
        self.stderr = stderr


def process_spec(
    image: Image, argv: Sequence[str], options: Options, rootfs: Rootfs
) -> ProcessSpec:
    """What *image* and *options* come to: the image's config, overlaid by what was asked.

    HOME is the user's own unless someone says otherwise, as docker does. An empty *argv* stays
    empty: the caller decides whether the image's own command is meant.
    """
    who = identity(rootfs, options.user if options.user is not None else image.config.user)
    env = {"HOME": who.home} | dict(image.config.env) | dict(options.env)
    return ProcessSpec(
        argv=tuple(argv),
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=options.cwd or image.config.cwd or "/",
        identity=who,
        terminal=options.terminal,
    )


def container_spec(
    process: ProcessSpec, options: Options, *, lower: tuple[Path, ...], name: str
) -> ContainerSpec:
    """A container called *name* around *process*, on the image's layers, topmost first."""
    return ContainerSpec(
        id=name,
        process=process,
        lower=tuple(str(path) for path in lower),
        directory=str(instances_dir() / name),
        hostname=options.hostname or name,
        limits=options.limits,
        within=options.within,
        seccomp=options.seccomp,
        network=HOST_NETWORK if options.host_network else OWN_NETWORK,
        mounts=options.mounts,
        protection=options.protection,
    )


def explain(image: Image, argv: Sequence[str], options: Options) -> Plan:
    """The plan for running *argv*; nothing of it is done, but the image is unpacked if need be."""
    with using_snapshots(Store(), image) as layers:
        spec = spec_of(image, argv, options, layers.paths, name="0" * 12)
        return plan(foreseen(spec, options.attached), host_facts())


class Joined(Protocol):
    """The init of a running container, held so that no other process can take its place."""

    @property
    def pidfd(self) -> int:
        """Its process descriptor."""

    def poll(self) -> int | None:
        """Its exit status once it has ended."""


class Container:
    """A running container. Made by ``container()``; gone when that block is left."""

    def __init__(
        self,
        spec: ContainerSpec,
        facts: HostFacts,
        process: Process,
        *,
        executor: Executor | None = None,
        network: "Attachment | None" = None,
    ) -> None:
        self.spec = spec
        self.network = network
        self.id = spec.id
        self.pid = process.pid
        self.directory = Path(spec.directory)
        self.groups = tuple(Path(group.path) for group in groups_of(spec, facts))
        self._facts = facts
        self._process = process
        self._executor = executor

    def _repr_html_(self) -> str:
        """The container as a notebook shows it: a process, where it is, what it may use."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; a start must be light

        status = self._process.poll()
        limits = self.spec.limits
        return markup.facts(
            {
                "container": self.id,
                "process of this host": self.pid,
                "state": "running" if status is None else f"ended with status {status}",
                "command": " ".join(self.spec.process.argv) or "none: it idles",
                "cpus": "no limit" if limits.cpus is None else f"{limits.cpus:g}",
                "memory": _bytes(limits.memory_bytes),
                "control groups": "; ".join(map(str, self.groups)),
            }
        )

    @property
    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """Those in which its groups were made."""
        return self._facts.hierarchies

    @property
    def process(self) -> Process:
        """The container's init."""
        return self._process

    def plan_run(self, argv: Sequence[str]) -> Plan:
        """The plan for one more command inside, with the container's own environment."""
        own = self.spec.process
        command = ProcessSpec(argv=tuple(argv), env=own.env, cwd=own.cwd, identity=own.identity)
        return plan_exec(command, self.spec, self._facts)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run one more command inside. Raises DeadlinePassed, CommandNotRunnable, StepError."""
        requested_ns = time.monotonic_ns()
        plan_run = self.plan_run(argv)
        with piped(plan_run, stdin, within=self._process, executor=self._executor) as (
            process,
            gathering,
        ):
            return complete(process, gathering, requested_ns, timeout_s=timeout_s)


@contextmanager
def container(
    image: Image,
    argv: Sequence[str],
    options: Options,
    *,
    stdio: tuple[int, int, int],
    console: int = -1,
    facts: HostFacts | None = None,
    showing: Showing = nobody,
) -> Iterator[Container]:
    """A running container; leaving the block kills it and removes everything of it.

    *console* is the socket that takes the master of its terminal, if it is to have one.
    *facts* may be read beforehand, so that a group this process enters later does not count.
    *showing* gives who watches the image being unpacked, if it has to be.

    Raises Unsupported, SpecError, StepError or CommandNotRunnable; then nothing is left either.
    """
    with ExitStack() as undo:
        layers = undo.enter_context(using_snapshots(Store(), image, showing=showing))
        spec = spec_of(image, argv, options, layers.paths, name=secrets.token_hex(6))
        facts = host_facts() if facts is None else facts
        yield undo.enter_context(_started(image, spec, options, facts, (*stdio, console)))


def spec_of(
    image: Image, argv: Sequence[str], options: Options, lower: tuple[Path, ...], *, name: str
) -> ContainerSpec:
    """The container on *lower*, or on one tree where mount(2) has no room for all of them."""
    told = overlay_options(tuple(map(str, lower)), str(instances_dir() / name), owned_ids())
    if len(os.fsencode(told)) > MAX_OPTIONS_BYTES:
        from runtime.image import unpacked  # noqa: PLC0415 - few images have so many layers

        lower = (unpacked(Store(), image, purpose=PURPOSE).path,)
    process = process_spec(image, argv, options, lower)
    return container_spec(process, options, lower=lower, name=name)


@contextmanager
def _started(
    image: Image,
    spec: ContainerSpec,
    options: Options,
    facts: HostFacts,
    descriptors: tuple[int, int, int, int],
) -> Iterator[Container]:
    with held() as before, ExitStack() as undo:
        groups = [Path(group.path) for group in groups_of(spec, facts)]
        directory = new_directory(spec.id)
        undo.callback(remove_instance, directory, groups)
        record_owner(directory, groups, image=image.digest)
        make_layers(directory, Path(spec.lower[0]))
        layers = [Path(path) for path in spec.lower]
        spec, network = undo.enter_context(given(spec, options.attached, layers))
        decided = plan(spec, facts)
        run_steps(decided.host)
        executor = options.executor
        stdin, stdout, stderr, console = descriptors
        init = start(
            decided, stdin=stdin, stdout=stdout, stderr=stderr, console=console, executor=executor
        )
        undo.callback(init.close)
        with delivered(before):
            yield Container(spec, facts, init, executor=executor, network=network)


def make_layers(directory: Path, lower: Path) -> None:
    """What overlayfs wants of an instance; its root directory looks as the image's, *lower*."""
    for layer in ("upper", "work", "root"):
        (directory / layer).mkdir()
    imitate(directory / "upper", lower)


@contextmanager
def piped(
    decided: Plan,
    stdin: bytes,
    *,
    within: Joined | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[Process, Gathering]]:
    """Start *decided* with pipes for its input and output; it is dead when the block is left.

    *within* is the init of the container that it joins, held by us, so that no other process
    can take its place. Raises RuntimeFault if it has ended.
    """
    if within is not None and within.poll() is not None:
        raise RuntimeFault("the container has ended")
    with held() as before, ExitStack() as undo:
        pipes = Pipes.open()
        undo.callback(pipes.close)
        process = start(
            decided,
            stdin=pipes.child[0], stdout=pipes.child[1], stderr=pipes.child[2],
            init=-1 if within is None else within.pidfd, executor=executor,
        )  # fmt: skip
        undo.callback(process.close)
        pipes.close_child()
        with delivered(before):
            yield process, Gathering(pipes, stdin)


def complete(
    process: Process, gathering: Gathering, requested_ns: int, *, timeout_s: float
) -> Completed:
    """Wait for the end of *process*. Raises DeadlinePassed after killing it."""
    deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
    exit_ns = gathering.until_exit(process.pidfd, deadline_ns=deadline_ns)
    if exit_ns is None:
        process.kill()
        raise DeadlinePassed(timeout_s, stdout=gathering.stdout, stderr=gathering.stderr)
    status = process.poll(None)
    marks = dict(process.marks_ns()) | {"exit": exit_ns}
    if gathering.first_output_ns is not None:
        marks["output"] = gathering.first_output_ns
    phases = {"request": 0} | {k: v - requested_ns for k, v in marks.items()}
    return Completed(
        exit_status=status or 0, stdout=gathering.stdout, stderr=gathering.stderr, phases=phases
    )


def _bytes(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit} bytes"
