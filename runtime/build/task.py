"""A stage on its way: known to the front, which shows it, and to the worker that does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runtime.build.cache import Made
from runtime.build.model import CopyStep, DirectoryStep, Origin, RunStep, Stage
from runtime.build.state import State
from runtime.errors import BuildError, RuntimeFault

WorkStep = RunStep | CopyStep | DirectoryStep
"""A step that can change files."""

_TAIL_BYTES = 64 << 10


@dataclass(slots=True)
class Task:
    """*state* is what the stage is after *done* of its steps.

    *tail* is the last output of the next one, which has *begun* or not. Front and worker each
    have a task and let it take the same steps.
    """

    stage: Stage
    state: State
    done: int = 0
    tail: bytes = field(default=b"", init=False)
    begun: bool = field(default=False, init=False)

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return self.done == len(self.stage.steps)

    def take(self, made: Made) -> None:
        """The next step came to *made*."""
        step, config = self.stage.steps[self.done], self.stage.configs[self.done]
        self.state = self.state.after(step.origin.text, made.layer, config)
        self.done += 1
        self.tail, self.begun = b"", False

    def remember(self, data: bytes) -> None:
        """The next step wrote *data*."""
        self.tail = (self.tail + data)[-_TAIL_BYTES:]


@contextmanager
def located(file: str, origin: Origin) -> Iterator[None]:
    """Let an error of the block say on which line what could not be done is written."""
    try:
        yield
    except RuntimeFault as error:
        if isinstance(error, BuildError) and error.line is not None:
            raise
        raise BuildError(
            f"{file}:{origin.line}: {error.message}", remedy=error.remedy, line=origin.line
        ) from error
