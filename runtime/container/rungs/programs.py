"""Whether the program that makes containers can be had: it is compiled and run."""

import os

from runtime.container.launch.compiled import obstacle
from runtime.container.launch.process import Executor, start
from runtime.container.rungs.rung import Rung
from runtime.container.steps import Plan, Step
from runtime.errors import RuntimeFault, StepError

_NOWHERE = Step("chdir", ("/proc/isoscope",), "a step that is refused")


def executor_rung() -> Rung:
    """The compiled executor does a step and tells of it; without it Python serves."""
    why = obstacle() or _refusal()
    if why is None:
        return Rung(
            name="executor", ok=True, found="compiled for this machine", costs=("container",)
        )
    return Rung(
        name="executor",
        ok=False,
        found=f"{why.message}; the one in Python serves: slower, and as large as its owner",
        remedy=why.remedy,
        costs=("speed of container starts",),
    )


def _refusal() -> RuntimeFault | None:
    """None if it says of a step that must be refused that it was."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        start(
            Plan(clone_flags=0, inside=(_NOWHERE,)),
            stdin=null, stdout=null, stderr=null, executor=Executor.COMPILED,
        ).close()  # fmt: skip
    except StepError:
        return None
    except RuntimeFault as error:
        return error
    finally:
        os.close(null)
    return RuntimeFault("the executor did not see that a step was refused")
