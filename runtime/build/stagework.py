"""The part of a stage that has to be done: what a worker does, step by step."""

from typing import TYPE_CHECKING

from runtime.build.cache import Cache, Made
from runtime.build.execution import CommandFailed, Execution
from runtime.build.inputs import Inputs
from runtime.build.model import ConfigStep
from runtime.build.shown import Shows
from runtime.build.task import Task, WorkStep, located
from runtime.build.views import Views, scratch
from runtime.build.worker import Tell

if TYPE_CHECKING:
    from runtime.build.builder import Request


def work(request: "Request", task: Task, inputs: Inputs, cache: Cache, tell: Tell) -> None:
    """Do the rest of *task*, telling of each step; stops after one that failed."""
    with scratch() as downloads:
        views = Views(store=inputs.store, restore=cache.restore)
        inputs.opened = views.opened
        execution = Execution(
            store=inputs.store,
            inputs=inputs,
            views=views,
            shows=Shows(
                inputs=inputs,
                views=views,
                caches=cache.root / "mounts",
                secrets=request.secrets,
                epoch_s=request.epoch_s,
            ),
            epoch_s=request.epoch_s,
            downloads=downloads,
            own_network=request.own_network,
        )
        inputs.fetched = execution.fetch
        while not task.complete:
            step = task.stage.steps[task.done]
            if isinstance(step, ConfigStep):
                made = Made(layer=None)
                tell({"event": "made", "cached": True, "made": made.to_json()})
            else:
                with located(request.file, step.origin):
                    found = _do(step, task, execution, cache, tell, no_cache=request.no_cache)
                if found is None:
                    return
                made = found
            task.take(made)


def _do(
    step: WorkStep, task: Task, execution: Execution, cache: Cache, tell: Tell, *, no_cache: bool
) -> Made | None:
    """Find the step cached, or do it; None if its command failed."""
    key = execution.inputs.key(step, task.state)
    made = None if no_cache else cache.find(key)
    cached = made is not None
    if made is None:
        tell({"event": "begun"})
        try:
            made = execution.make(
                step,
                task.state,
                lambda data: _output(tell, data),
                lambda made: cache.keep(key, made),
            )
        except CommandFailed as error:
            tell({"event": "failed", "status": error.status})
            return None
    tell({"event": "made", "cached": cached, "made": made.to_json()})
    return made


def _output(tell: Tell, data: bytes) -> None:
    if data:
        tell({"event": "output", "data": data.decode("latin-1")})
