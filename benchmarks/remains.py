"""What killed runs and commands left on this machine, and its removal."""

from runtime.container import state
from runtime.image import Store, workplace
from runtime.network import networks
from vmbackend import remains as machines


def sweep() -> tuple[str, ...]:
    """Remove it; a line for each thing that was there. A few listings if there is none."""
    containers = (f"container or worker {name}" for name in state.sweep())
    virtual = (f"virtual machines of {name}" for name in machines.sweep())
    layers = (f"unpacked layer {name}, which no image has" for name in Store().sweep_layers())
    connecting = (f"network {name} without members" for name in networks.sweep())
    return (*containers, *virtual, *connecting, *workplace.sweep(), *layers)
