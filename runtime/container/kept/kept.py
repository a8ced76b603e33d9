"""A container that outlives whoever started it, and all that can be done with it.

Nobody stays for it but its executor, which writes down how it ended, and the writer of its log.
Everything else is looked up when somebody asks: there is no daemon that could know it wrongly.
"""

import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runtime.container.attachments import given
from runtime.container.container import (
    Completed,
    Container,
    Options,
    complete,
    container_spec,
    make_layers,
    piped,
    process_spec,
    spec_of,
)
from runtime.container.facts import host_facts
from runtime.container.interrupts import held
from runtime.container.kept import finding
from runtime.container.kept.logs import (
    Frame,
    Writing,
    followed,
    frames,
    tidying,
    wait_until_written,
)
from runtime.container.kept.record import (
    Living,
    Record,
    Standing,
    living,
    opened,
    read_record,
    standing,
    wait_for,
    write_record,
)
from runtime.container.kept.signals import parse_signal
from runtime.container.kept.usage import (
    Reading,
    Running,
    read_usage,
    running_in,
    write_limits,
)
from runtime.container.launch.interpreter import run_steps
from runtime.container.launch.process import KILL_LIMIT_S, Process, start
from runtime.container.plan import groups_of, plan, plan_exec
from runtime.container.spec import Limits
from runtime.container.state import (
    READERS,
    new_directory,
    record_owner,
    remove_groups,
    remove_instance,
)
from runtime.container.steps import Plan
from runtime.container.terminal import Terminal
from runtime.errors import RuntimeFault, SpecError
from runtime.image import Image, Store, using_snapshots
from runtime.image.durable import locked

if TYPE_CHECKING:
    from runtime.network.attachment import Attachment

STOP_LIMIT_S = 10.0
"""How long a container has to end when it is asked to, as docker's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The init of a running container by its process descriptor."""

    pid: int
    pidfd: int

    def poll(self) -> int | None:
        """None: who holds it has just seen that it runs."""
        return None


class Kept:
    """A container by its directory. Nothing is remembered: every question is answered anew.

    A block that holds one removes it, running or not, when it is left.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.id = directory.name
        self._children: tuple[int, ...] = ()

    @classmethod
    def run(
        cls,
        image: Image,
        argv: Sequence[str],
        options: Options,
        *,
        name: str | None = None,
        image_name: str = "",
        is_kept: bool = True,
    ) -> tuple["Kept", tuple[str, ...]]:
        """A container that runs, and what the user should know of its network.

        If we are killed before it does, or it cannot be started, nothing of it is kept.
        """
        made = cls.create(image, argv, options, name=name, image_name=image_name, is_kept=False)
        with ExitStack() as failed:
            failed.callback(made.delete, force=True)
            with finding.changing(made.directory) as record:
                notices, _ = _started(made.directory, replace(record, is_kept=is_kept))
            failed.pop_all()
        return made, notices

    @classmethod
    def create(
        cls,
        image: Image,
        argv: Sequence[str],
        options: Options,
        *,
        name: str | None = None,
        image_name: str = "",
        is_kept: bool = True,
    ) -> "Kept":
        """A container that waits to be started. Raises SpecError and its like; then it is not.

        Without *is_kept* it is removed when it has ended.
        """
        identifier = secrets.token_hex(6)
        named = finding.naming(name) if name else nullcontext()
        with using_snapshots(Store(), image) as layers, held(), named:
            directory = new_directory(identifier)
            with ExitStack() as failed:
                failed.callback(remove_instance, directory, ())
                record_owner(directory, (), image=image.digest)
                spec = spec_of(image, argv, options, layers.paths, name=identifier)
                make_layers(directory, Path(spec.lower[0]))
                record = Record(
                    id=identifier,
                    name=name or identifier,
                    backend="container",
                    image=image.digest,
                    image_name=image_name or image.digest,
                    argv=tuple(argv),
                    options=options,
                    created=_now(),
                    is_kept=is_kept,
                )
                write_record(directory, record)
                failed.pop_all()
        return cls(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it, whatever it does."""
        with suppress(SpecError):
            self.delete(force=True)

    @property
    def record(self) -> Record:
        """What is written down of it. Raises SpecError if it has been removed."""
        record = read_record(self.directory)
        if record is None:
            raise SpecError(f"container {self.id} has been removed")
        return record

    @property
    def standing(self) -> Standing:
        """How it is now."""
        self._reap()
        return standing(self.directory, self.record)

    def start(self) -> tuple[str, ...]:
        """Start it, if it does not run; what the user should know of its network.

        Raises CommandNotRunnable, StepError and their like; then it is as it was.
        """
        with finding.changing(self.directory) as record:
            if standing(self.directory, record).state == "running":
                return ()
            notices, self._children = _started(self.directory, record)
            return notices

    def kill(self, sent: int = signal.SIGKILL) -> None:
        """Send its init a signal. Raises RuntimeFault if it does not run."""
        with self.init() as init, suppress(ProcessLookupError):
            signal.pidfd_send_signal(init.pidfd, sent)

    def stop(self, timeout_s: float = STOP_LIMIT_S) -> None:
        """Ask it to end by its image's signal, then kill it; nothing if it does not run."""
        record = self.record
        asked = _stop_signal(record)
        for sent, limit_s in ((asked, timeout_s), (int(signal.SIGKILL), KILL_LIMIT_S)):
            with opened(record.init) as fd:
                if fd is None:
                    break
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, sent)
            if wait_for(record.init, limit_s):
                break
        else:
            raise RuntimeFault(
                f"container {self.id} was killed and does not end",
                remedy="see what its processes wait for: isoscope top",
            )
        self._settle(record)

    def wait(self) -> int:
        """Wait for its end; the exit status, 128+n for signal n."""
        with finding.reading(self.directory):
            record = self.record
            if record.executor is None:
                raise RuntimeFault(
                    f"container {self.id} was never started",
                    remedy=f"isoscope start {record.name}",
                )
            wait_for(record.executor)
            wait_until_written(self.directory)
            return standing(self.directory, record).exit_status or 0

    def delete(self, *, force: bool = False) -> None:
        """Remove it and all it wrote. Raises RuntimeFault if it runs, unless *force* kills it."""
        if force:
            with suppress(RuntimeFault):
                self.kill()
                wait_for(self.record.executor, KILL_LIMIT_S)
        gone = (SpecError,) if force else ()
        with suppress(*gone), _removing(self.directory, force=force) as record:
            if record is not None and standing(self.directory, record).state == "running":
                raise RuntimeFault(
                    f"container {record.name} is running",
                    remedy=f"stop it first, or: isoscope rm -f {record.name}",
                )
            if record is None or not record.is_foreground:  # whoever holds that removes it
                wait_until_written(self.directory)
                remove_instance(self.directory)
        self._reap()

    def stats(self) -> Reading:
        """What it uses now. Raises RuntimeFault if it does not run."""
        with self.init() as init:
            return read_usage(self.record, init.pid)

    def processes(self) -> tuple[Running, ...]:
        """What runs in it. Raises RuntimeFault if nothing does."""
        with self.init() as init:
            return running_in(self.record, init.pid)

    def update(self, limits: Limits) -> None:
        """Change the limits that *limits* names, now and for later starts.

        Raises Unsupported, SpecError, StepError; what was written before that stays written.
        """
        with finding.changing(self.directory) as record:
            before = record.options.limits
            after = Limits(
                memory_bytes=limits.memory_bytes or before.memory_bytes,
                cpus=limits.cpus or before.cpus,
                pids=limits.pids or before.pids,
            )
            if standing(self.directory, record).state == "running":
                write_limits(record, limits)
            options = replace(record.options, limits=after)
            write_record(self.directory, replace(record, options=options))

    def rename(self, name: str) -> None:
        """Call it *name* from now on. Raises SpecError if it is another's."""
        with finding.naming(name), finding.changing(self.directory) as record:
            attached = record.options.attached
            names = tuple(n for n in attached.names if n != record.name)
            options = replace(record.options, attached=replace(attached, names=(*names, name)))
            write_record(self.directory, replace(record, name=name, options=options))

    def exec(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float, user: str | None = None
    ) -> Completed:
        """Run one more command inside, to its end. Raises DeadlinePassed, CommandNotRunnable."""
        requested_ns = time.monotonic_ns()
        with (
            self.joined(argv, user=user) as (decided, init),
            piped(decided, stdin, within=init) as (process, gathering),
        ):
            return complete(process, gathering, requested_ns, timeout_s=timeout_s)

    @contextmanager
    def joined(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        terminal: Terminal | None = None,
    ) -> Iterator[tuple[Plan, Held]]:
        """The plan of one more command inside, and the init that it joins, held in the block.

        What is not given is the container's own; *user* is looked up in its files as they are.
        """
        record = self.record
        with self.init() as init:
            options = record.options
            options = replace(
                options,
                env={**options.env, **(env or {})},
                cwd=cwd or options.cwd,
                user=user or options.user,
                terminal=terminal,
            )
            image = Store().resolve(record.image)
            with using_snapshots(Store(), image) as layers:
                files = (self.directory / "upper", *layers.paths)
                process = process_spec(image, argv, options, files)
            spec = container_spec(process, options, lower=(), name=record.id)
            facts = replace(host_facts(), hierarchies=record.hierarchies)
            yield plan_exec(process, spec, facts), init

    def frames(self, *, follow: bool = False) -> Iterator[Frame]:
        """What it said; with *follow* also what it says until it ends."""
        with finding.reading(self.directory):
            record = self.record
            if record.is_foreground:
                raise RuntimeFault(
                    f"container {record.name} is in the foreground: what it says is shown there",
                    remedy="start it with -d, and it is kept",
                )
            if follow:
                yield from followed(self.directory, record.executor)
            else:
                if standing(self.directory, record).state == "exited":
                    wait_until_written(self.directory)
                yield from frames(self.directory)

    def _repr_html_(self) -> str:
        """The container as a notebook shows it."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook

        record, now = self.record, self.standing
        state = now.state if now.exit_status is None else f"ended with status {now.exit_status}"
        return markup.facts(
            {
                "container": self.id,
                "name": record.name,
                "image": record.image_name,
                "command": " ".join(record.argv) or "none: it idles",
                "state": state,
            }
        )

    def _reap(self) -> None:
        """What we started ourselves, and what ended while we live on, waits for that."""
        for pid in self._children:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    @contextmanager
    def init(self) -> Iterator[Held]:
        """Its init, held so that no other process takes its number; it must run."""
        record = self.record
        with opened(record.init) as fd:
            if fd is None or record.init is None:
                raise RuntimeFault(
                    f"container {record.name} does not run",
                    remedy=f"start it: isoscope start {record.name}",
                )
            yield Held(pid=record.init.pid, pidfd=fd)

    def _settle(self, record: Record) -> None:
        """Its end is written down, and nothing of it is left but what it keeps."""
        wait_for(record.executor, KILL_LIMIT_S)
        with suppress(SpecError):
            tidy(self.directory)


def note(
    running: Container, image: Image, options: Options, *, name: str | None, asked: str
) -> None:
    """Let *running*, which is in the foreground, be found by others while it runs.

    *asked* is what the user called its image. Raises SpecError for a name that is taken.
    """
    record = Record(
        id=running.id,
        name=name or running.id,
        backend="container",
        image=image.digest,
        image_name=asked,
        argv=running.spec.process.argv,
        options=options,
        created=_now(),
        is_kept=False,
        is_foreground=True,
        started_ns=time.clock_gettime_ns(time.CLOCK_REALTIME),
        init=living(running.pid) or _ended(running.pid),
        executor=living(running.process.executor) or _ended(running.process.executor),
        hierarchies=running.hierarchies,
        ports=() if running.network is None else running.network.ports,
    )
    with finding.naming(name) if name else nullcontext():
        write_record(running.directory, record)


def tidy(directory: Path) -> None:
    """After the end of the container in *directory*: remove its groups, or all of it.

    Who waits for its end reads it first. One in the foreground is removed by whoever holds it.
    """
    record = read_record(directory)
    if record is None or record.is_foreground or record.executor is None:
        return
    with ExitStack() as held_back:
        if not record.is_kept:
            wait_until_written(directory)
            held_back.enter_context(locked(directory / READERS))
        record = held_back.enter_context(finding.changing(directory))
        if standing(directory, record).state == "running":
            return
        if record.is_kept:
            remove_groups(directory)
        else:
            remove_instance(directory)


@contextmanager
def _removing(directory: Path, *, force: bool) -> Iterator[Record | None]:
    """As ``changing``; a record that cannot be read is no obstacle to *force*."""
    try:
        read_record(directory)
    except RuntimeFault:
        if not force:
            raise
        yield None
        return
    with finding.changing(directory) as record:
        yield record


def _started(directory: Path, record: Record) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Start what *record* tells of; what is to be told of its network, and who looks after it."""
    started_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    image = Store().resolve(record.image)
    with (
        using_snapshots(Store(), image) as layers,
        held(),
        ExitStack() as while_starting,
        ExitStack() as undo,
    ):
        options, facts = record.options, host_facts()
        spec = spec_of(image, record.argv, options, layers.paths, name=record.id)
        spec = replace(spec, is_kept=record.is_kept)
        remove_groups(directory)  # of the last time
        groups = [Path(group.path) for group in groups_of(spec, facts)]
        record_owner(directory, groups, image=image.digest)
        undo.callback(remove_groups, directory)
        lower = [Path(path) for path in spec.lower]
        writing = while_starting.enter_context(Writing(directory))  # the last one is done now
        spec, network = while_starting.enter_context(given(spec, options.attached, lower))
        decided = plan(spec, facts)
        run_steps(decided.host)
        process = _begin(directory, decided, writing)
        undo.callback(process.close)
        lifeline = None if network is None else network.lifeline
        writer = writing.hand_over(process.executor, tidying(record.id), lifeline=lifeline)
        record_owner(directory, groups, image=image.digest, pid=process.executor)
        write_record(
            directory,
            replace(
                record,
                started_ns=started_ns,
                init=living(process.pid) or _ended(process.pid),
                executor=living(process.executor) or _ended(process.executor),
                hierarchies=facts.hierarchies,
                ports=() if network is None else network.ports,
            ),
        )
        if network is not None:
            network.keep()
        process.keep()
        undo.pop_all()
        return _notices(options, network), (process.executor, writer)


def _notices(options: Options, network: "Attachment | None") -> tuple[str, ...]:
    """What was changed for its network, and which ports were found for it."""
    if network is None:
        return ()
    chosen = {port.host for port in options.attached.ports}
    found = (port for port in network.ports if port.host not in chosen)
    return (*network.notices, *(f"published {port}" for port in found))


def _begin(directory: Path, decided: Plan, writing: Writing) -> Process:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    place_of_end = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return start(
            decided, stdin=null, stdout=writing.stdout, stderr=writing.stderr,
            directory=place_of_end,
        )  # fmt: skip
    finally:
        os.close(null)
        os.close(place_of_end)


def _ended(pid: int) -> Living:
    """A process that was gone before it could be looked at: no other can be taken for it."""
    return Living(pid=pid, started_ticks=-1, boot="")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _stop_signal(record: Record) -> int:
    told = Store().resolve(record.image).config.stop_signal
    return parse_signal(told) if told else int(signal.SIGTERM)
