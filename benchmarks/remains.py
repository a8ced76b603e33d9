"""What killed runs and commands left on this machine, and its removal."""

from runtime.container import state
from runtime.image import Store, workplace
from vmbackend import remains as machines


def sweep() -> tuple[str, ...]:
    """Remove it; a line for each thing that was there. A few listings if there is none."""
    containers = (f"container or worker {name}" for name in state.sweep())
    virtual = (f"virtual machines of {name}" for name in machines.sweep())
    layers = (f"unpacked layer {name}, which no image has" for name in Store().sweep_layers())
    return (*containers, *virtual, *workplace.sweep(), *layers)
