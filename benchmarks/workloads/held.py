"""footprint: an instance says one word, holds still, and is looked at from outside."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.backend import Usage
from benchmarks.launcher import RemoteInstance
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.workloads import Facts, Value, Values, spoken, succeeded

_ENGINE = "of a machine: the emulator with all of the guest's memory that was ever touched"
_TOUCHED_MIB, _WRITTEN_MIB = 64, 32
_WRITING = (
    "d=$(mktemp -d /var/tmp/written.XXXXXX) && mkfifo $d/wait && exec 3<>$d/wait &&"
    f" head -c {_WRITTEN_MIB << 20} /dev/urandom >$d/file && sync $d/file &&"
    " echo written && read -r _ <&3"
)
TEXT = "/usr/local/share/gauge/text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """See ``benchmarks.workloads.Workload``; *readings* maps a metric to a usage's definition."""

    name: str
    question: str
    threats: tuple[str, ...]
    argv: tuple[str, ...]
    readings: Mapping[str, tuple[str, str]]
    clean_up: tuple[str, ...] | None = None
    """What is run inside afterwards: the host's tree keeps what is written to it."""
    timeout_s: float = 60.0
    runs_to_exit: ClassVar[bool] = False

    @property
    def record(self) -> Record:
        """See ``Workload.record``."""
        return Record(
            name=self.name,
            argv=self.argv,
            metrics=tuple(
                Metric(
                    name=name, unit="bytes", direction="lower", start=None, stop=None,
                    method=f"{definition}, read once from the host after the first output",
                    title=title,
                )
                for name, (definition, title) in self.readings.items()
            ),
        )  # fmt: skip

    def measure(self, instance: RemoteInstance, facts: Facts) -> Values:  # noqa: ARG002
        """Once it has spoken, all is held."""
        spoken(instance, timeout_s=self.timeout_s)
        usage = instance.usage()
        if self.clean_up is not None:
            succeeded(instance.run(self.clean_up, timeout_s=self.timeout_s))
        return {name: amount(usage, definition) for name, (definition, _) in self.readings.items()}

    def conclude(self, instance: RemoteInstance) -> Values:  # noqa: ARG002 - the protocol's
        """Nothing is read of what is gone."""
        return {}


def amount(usage: Usage, definition: str) -> Value:
    """What *usage* says by *definition*, or why it says nothing."""
    reading = usage.readings.get(definition)
    if reading is None:
        why = usage.absent.get(definition, "this backend has no such reading")
        return Value(value=None, method=definition, error=why)
    return Value(value=reading.value_bytes, method=reading.method)


HELD = (
    Held(
        name="footprint.touched",
        question=f"What does an instance occupy whose program has touched {_TOUCHED_MIB} MiB?",
        threats=(_ENGINE, "huge pages may round up what is touched"),
        argv=("gauge", "touch", str(_TOUCHED_MIB)),
        readings={
            "footprint.touched.pss": ("pss", f"Memory after touching {_TOUCHED_MIB} MiB (PSS)"),
            "footprint.touched.cgroup": (
                "cgroup", f"Memory after touching {_TOUCHED_MIB} MiB (cgroup)",
            ),
        },
    ),
    Held(
        name="footprint.written",
        question=f"What does an instance occupy on disk that has written {_WRITTEN_MIB} MiB?",
        threats=("a file system's own records are part of it, and differ",),
        argv=("sh", "-c", _WRITING),
        clean_up=("sh", "-c", "rm -r /var/tmp/written.*"),
        readings={
            "footprint.written": ("disk_instance", f"Disk after writing {_WRITTEN_MIB} MiB"),
        },
    ),
)  # fmt: skip
