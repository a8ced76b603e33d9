"""Builds a plan: finds what is cached, gives the rest to workers, makes the image.

The front, this module, never mounts and never runs anything; where everything is cached no
container engine is even imported. Stages that do not need each other are built at the same time.
"""

import os
import select
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.build.cache import Cache, Made
from runtime.build.eviction import shrink
from runtime.build.inputs import Inputs, UnknownError
from runtime.build.model import (
    BuildPlan,
    ConfigStep,
    CopyStep,
    FromImage,
    FromStage,
    Paths,
    RunStep,
    Stage,
    Tree,
)
from runtime.build.platforms import host_platform
from runtime.build.progress import Vertex, Watcher, vertices
from runtime.build.result import Failure, StepFailed
from runtime.build.sources import Hiding, SourceTree
from runtime.build.state import State, moment
from runtime.build.task import Task, WorkStep, located
from runtime.errors import BuildError, RuntimeFault
from runtime.image import Image, ImageError, Store, parse_reference
from runtime.image.document import Node
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE

if TYPE_CHECKING:
    from runtime.build.worker import Said, Worker

_REDRAW_MS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to build. *file* is what the Dockerfile is called in errors.

    *context* is a directory, less what *hiding* hides. *secrets* by id; none of them is kept.
    *own_network* gives a RUN that asks for no network in particular an empty one. *platform* is
    what bases must be for that the Dockerfile asks for without saying so. *shown* is how many
    things were shown before the build.
    """

    plan: BuildPlan
    file: str
    context: Path
    epoch_s: int
    hiding: Hiding | None = None
    tags: tuple[str, ...] = ()
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    no_cache: bool = False
    own_network: bool = False
    platform: str | None = None
    shown: int = 0


def build(request: Request, *, store: Store, watch: Watcher) -> Image:
    """Build and return the image, which has the names that were asked for.

    Raises StepFailed, BuildError, and what else the runtime raises; what was built until then
    is found by the next build.
    """
    moment(request.epoch_s)  # refuses what is no time
    cache = Cache(store)
    with (
        cache.in_use(),
        SourceTree(root=request.context, hiding=request.hiding) as context,
    ):
        front = _Front(request, store, cache, context, watch)
        image = front.publish(front.build(), request.tags)
    if front.worked:  # else nothing was added
        shrink(store)
    return image


class _Front:
    """One build in its own process."""

    def __init__(
        self, request: Request, store: Store, cache: Cache, context: SourceTree, watch: Watcher
    ) -> None:
        self._request = request
        self._store = store
        self._cache = cache
        self._watch = watch
        self._vertices = vertices(request.plan, after=request.shown)
        self._states: dict[int, State] = {}
        self._working: dict[int, tuple[Worker, Task]] = {}
        self.worked = False
        self._inputs = Inputs(
            store=store,
            context=context,
            epoch_s=request.epoch_s,
            states=self._states,
            recall=cache.recall,
            note=cache.note,
        )

    def build(self) -> State:
        """The state of the target."""
        waiting = list(self._request.plan.stages)
        tasks: list[Task] = []
        target = self._request.plan.target
        with ExitStack() as running:
            while target not in self._states:
                ready = [stage for stage in waiting if _needs(stage) <= self._states.keys()]
                for stage in ready:
                    waiting.remove(stage)
                    task = self._begin(stage)
                    if task.complete:
                        self._states[stage.index] = task.state
                    else:
                        tasks.append(task)
                while tasks and len(self._working) < _at_once():
                    self._send(tasks.pop(0), running)
                if self._working:
                    self._hear()
        return self._states[target]

    # The front's own part

    def _begin(self, stage: Stage) -> Task:
        """The stage's beginning, and as many of its steps as are cached."""
        vertex = self._vertices[stage.index, -1]
        self._watch.begun(vertex)
        try:
            with located(self._request.file, stage.origin):
                task = Task(stage=stage, state=self._base(stage))
        except RuntimeFault as error:
            self._watch.failed(vertex, str(error))
            raise
        self._watch.done(vertex)
        self._follow(task)
        return task

    def _base(self, stage: Stage) -> State:
        match stage.base:
            case FromImage(reference=reference):
                state = self._inputs.image_state(reference)
                wanted = stage.platform or self._request.platform
                _check_platform(wanted, state.platform, reference)
            case FromStage(index=index):
                state = self._states[index]
            case _:
                names = ("os", "architecture", "variant")
                platform = dict(zip(names, host_platform().split("/"), strict=False))
                state = State(epoch_s=self._request.epoch_s, platform=platform)
        config = state.config if stage.steps else stage.config
        return replace(state, config=config, author=stage.author or state.author)

    def _follow(self, task: Task) -> None:
        """Take steps that need no work: those of the config, those that are cached."""
        while not task.complete:
            step = task.stage.steps[task.done]
            if isinstance(step, ConfigStep):
                task.take(Made(layer=None))
                continue
            made = None if self._request.no_cache else self._find(step, task)
            if made is None:
                return
            self._watch.cached(self._vertices[task.stage.index, task.done])
            task.take(made)

    def _find(self, step: WorkStep, task: Task) -> Made | None:
        try:
            with located(self._request.file, step.origin):
                return self._cache.find(self._inputs.key(step, task.state))
        except UnknownError:
            return None
        except RuntimeFault as error:
            vertex = self._vertices[task.stage.index, task.done]
            self._show_failure(vertex, error, begun=False)
            raise

    def _show_failure(self, vertex: Vertex, error: Exception, *, begun: bool) -> None:
        if not begun:
            self._watch.begun(vertex)
        self._watch.failed(vertex, str(error))

    # Workers

    def _send(self, task: Task, running: ExitStack) -> None:
        """Let a worker go on with *task*; it is ended with *running* if it has not by itself."""
        from runtime.build.stagework import work  # noqa: PLC0415 - where all is cached, no engine
        from runtime.build.worker import start_worker  # noqa: PLC0415
        from runtime.container.interrupts import held  # noqa: PLC0415

        self.worked = True
        with held():
            worker = start_worker(
                lambda tell: work(self._request, task, self._inputs, self._cache, tell)
            )
            self._working[worker.channel] = (worker, task)
            running.callback(self._end, worker.channel)

    def _hear(self) -> None:
        """Wait until a worker says something, and act on that."""
        poller = select.poll()
        for channel in self._working:
            poller.register(channel, select.POLLIN | select.POLLHUP)
        ready = poller.poll(_REDRAW_MS)
        if not ready:
            self._watch.tick()
        for channel, _ in ready:
            worker, task = self._working[channel]
            heard = worker.hear()
            for said in heard or ():
                self._take(said, task)
            if heard is None:
                self._finish(channel, task)

    def _end(self, channel: int) -> None:
        if channel in self._working:
            worker, _ = self._working.pop(channel)
            worker.close()

    def _finish(self, channel: int, task: Task) -> None:
        self._end(channel)
        if not task.complete:
            raise BuildError(
                f"the process that worked on {task.stage.origin.text!r} was ended from outside",
                remedy="build again; what was finished is cached",
            )
        self._states[task.stage.index] = task.state

    def _take(self, said: "Said", task: Task) -> None:
        vertex = self._vertices.get((task.stage.index, task.done))
        match said["event"]:
            case "begun" if vertex is not None:
                task.begun = True
                self._watch.begun(vertex)
            case "output" if vertex is not None:
                data = said["data"].encode("latin-1")
                task.remember(data)
                self._watch.output(vertex, data)
            case "made":
                if vertex is not None:
                    (self._watch.cached if said["cached"] else self._watch.done)(vertex)
                task.take(Made.from_node(Node(said["made"], "a worker")))
            case _:
                self._fail(said, task, vertex)

    def _fail(self, said: "Said", task: Task, vertex: Vertex | None) -> None:
        match said["event"]:
            case "failed":
                error: Exception = self._step_failed(task, said["status"])
            case "fault":
                error = BuildError(said["message"], remedy=said["remedy"])
            case _:
                error = RuntimeError(said["why"])
        if vertex is not None:
            self._show_failure(vertex, error, begun=task.begun)
        raise error

    def _step_failed(self, task: Task, status: int) -> StepFailed:
        """The failure, after the state before it was made an image that can be entered."""
        step = task.stage.steps[task.done]
        return StepFailed(
            Failure(
                file=self._request.file,
                line=step.origin.line,
                text=step.origin.text,
                label=self._vertices[task.stage.index, task.done].label,
                status=status,
                output=task.tail,
                image=self.publish(task.state, ()).digest if task.state.layers else None,
            )
        )

    # The end

    def publish(self, state: State, tags: tuple[str, ...]) -> Image:
        """*state* as an image in the store, called *tags*; without them it has its digest."""
        image = state.image()
        present = self._present(image, tags)
        if present is not None:
            return present
        with self._store.writing():
            for layer in state.layers:
                self._cache.restore(layer.blob)
            config = self._store.write_blob(state.config_document(), CONFIG_TYPE)
            self._store.write_blob(state.manifest_document(config), MANIFEST_TYPE)
            for tag in tags:
                image = self._store.tag(image.digest, tag)
            return image if tags else self._store.keep(image.digest)

    def _present(self, image: Image, tags: tuple[str, ...]) -> Image | None:
        """The image as it is in the store, if nothing is left to be done there."""
        try:
            found = self._store.resolve(image.digest)
        except ImageError:
            return None
        return (
            found if {str(parse_reference(tag)) for tag in tags} <= {*found.references} else None
        )


def _needs(stage: Stage) -> set[int]:
    """The stages that must be finished before this one begins."""
    trees: list[Tree | None] = [stage.base]
    for step in stage.steps:
        if isinstance(step, CopyStep):
            trees += [source.tree for source in step.sources if isinstance(source, Paths)]
        elif isinstance(step, RunStep):
            trees += [mount.tree for mount in step.mounts]
    return {tree.index for tree in trees if isinstance(tree, FromStage)}


def _check_platform(wanted: str | None, platform: Mapping[str, Any], reference: str) -> None:
    found = [platform.get("os"), platform.get("architecture")]
    if wanted is not None and wanted.split("/")[:2] != found:
        raise BuildError(
            f"{reference} is for {found[0]}/{found[1]}, not for {wanted}",
            remedy="name an image for that platform, or leave --platform out",
        )


def _at_once() -> int:
    """Stages that are worked on at the same time: one a processor."""
    return max(2, len(os.sched_getaffinity(0)))
