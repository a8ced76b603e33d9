"""What the seam asks for, in the words of machines: for every backend that makes some."""

from dataclasses import replace
from math import ceil

from benchmarks.backend import Features, InstanceSpec
from runtime.errors import SpecError
from vmbackend.accelerator import Accelerator
from vmbackend.network import Port
from vmbackend.spec import MachineSpec


def machine_features(found: Accelerator) -> Features:
    """A machine has as many processors and as much memory as it is given, by construction."""
    return Features(
        enforces=frozenset({"cpus", "memory"}),
        exec=True,
        stdin=True,
        ports=True,
        networks=frozenset({"none", "user"}),
        accelerator=found.name,
        accelerator_sentence=found.sentence,
    )


def machine_spec(spec: InstanceSpec) -> MachineSpec:
    """*spec* as a machine is asked for. Raises SpecError for what no machine can be given."""
    refused = [name for name, value in (("pids", spec.pids), ("mounts", spec.mounts)) if value]
    if spec.network not in ("none", "user"):
        refused.append(f"network {spec.network}")
    if refused:
        raise SpecError(f"machines offer no {', '.join(refused)}", remedy="ask for less of it")
    asked = MachineSpec(
        image=spec.image,
        argv=spec.argv,
        env=spec.env,
        cwd=spec.cwd,
        user=spec.user,
        stdin=spec.stdin,
        network="user" if spec.network == "user" else "none",
        ports=tuple(Port(host=host, guest=guest) for host, guest in spec.ports),
    )
    if spec.cpus is not None:
        asked = replace(asked, cpus=ceil(spec.cpus))
    if spec.memory_bytes is not None:
        asked = replace(asked, memory_bytes=spec.memory_bytes)
    return asked
