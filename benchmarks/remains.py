"""What killed runs and commands left on this machine, of both engines, and its removal."""

from runtime.container import state
from vmbackend import remains as machines


def sweep() -> tuple[str, ...]:
    """Remove it; a line for each thing that was there. Two directory listings if there is none."""
    containers = (f"container or worker {name}" for name in state.sweep())
    virtual = (f"virtual machines of {name}" for name in machines.sweep())
    return (*containers, *virtual)
