"""What killed runs and commands left on this machine, and its removal."""

from runtime.container import state
from runtime.image import workplace
from vmbackend import remains as machines


def sweep() -> tuple[str, ...]:
    """Remove it; a line for each thing that was there. A few listings if there is none."""
    containers = (f"container or worker {name}" for name in state.sweep())
    virtual = (f"virtual machines of {name}" for name in machines.sweep())
    return (*containers, *virtual, *workplace.sweep())
