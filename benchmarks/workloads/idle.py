"""idle: what an instance costs in memory and disk while it does nothing."""

from benchmarks.backend import Usage
from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.workloads import Facts, Value, Values, facts, spoken

_DEFINITIONS = {
    "memory.pss": (
        "pss",
        "Memory, shared pages split (PSS)",
        (
            "Pss of the instance's processes; of a VM: QEMU, with the pages of its program and of"
            " the kernel file that it maps, which a second VM would share"
        ),
    ),
    "memory.uss": (
        "uss",
        "Memory, private pages only (USS)",
        (
            "Private_Clean + Private_Dirty of the same processes; file pages that nobody else maps"
            " count, so it may exceed what a cgroup is charged"
        ),
    ),
    "memory.cgroup": (
        "cgroup",
        "Memory charged by the kernel (cgroup)",
        (
            "charge of the group in which engine and instance were born, kernel memory included;"
            " file pages count for whoever touched them first, often an earlier instance"
        ),
    ),
    "memory.instrument": (
        "instrument",
        "Memory of the worker that launched it",
        "Pss of the worker process, which is part of no other metric",
    ),
    "disk.instance": (
        "disk_instance",
        "Disk each further instance adds",
        "allocated blocks of what is the instance's own",
    ),
}
"""Metric -> the definition's name in a usage, its title, and how it is read."""


_SCRIPT = "mkfifo /tmp/$$ && exec 3<>/tmp/$$ && rm /tmp/$$ && echo idle && read -r _ <&3"
"""Once the word is out, the shell only blocks: its memory is the same from then on."""


class Idle:
    """A shell says one word and waits for ever; then the instance is looked at from outside."""

    question = "What does an instance cost in memory and disk while it does nothing?"
    threats = (
        "definitions of memory differ more than backends do: each is named",
        "of a machine the emulator is counted, with all the memory that its guest ever touched",
    )
    runs_to_exit = False
    timeout_s = 60.0
    record = Record(
        name="idle",
        argv=("sh", "-c", _SCRIPT),
        metrics=tuple(
            Metric(
                name=name, unit="bytes", direction="lower", start=None, stop=None,
                method=f"read once from the host after the first output: {method}", title=title,
            )
            for name, (_, title, method) in _DEFINITIONS.items()
        ),
    )  # fmt: skip

    def measure(self, instance: RemoteInstance, facts_: Facts) -> Values:
        """Read the usage first: the facts' own command would add to it."""
        spoken(instance, timeout_s=self.timeout_s)
        usage = instance.usage()
        facts.of_instance(instance, facts_)
        return {metric: _value(usage, name) for metric, (name, _, _) in _DEFINITIONS.items()}

    def conclude(self, instance: RemoteInstance) -> Values:  # noqa: ARG002 - the protocol's
        """Nothing is read of what is gone."""
        return {}


def _value(usage: Usage, definition: str) -> Value:
    reading = usage.readings.get(definition)
    if reading is None:
        why = usage.absent.get(definition, "this backend has no such reading")
        return Value(value=None, method=definition, error=why)
    return Value(value=reading.value_bytes, method=reading.method)
