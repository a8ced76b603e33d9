"""What the harness raises.

    BenchmarkError             anything a caller may want to show as one line
    ├── ResultsError           a run's files are missing, malformed or contradict themselves
    ├── JournalError           samples cannot be appended; what was fsynced before is safe
    └── Busy                   another run is measuring on this machine

    KeyboardInterrupt
    └── Interrupted            Ctrl-C during a run, with the folder to resume from

Only a ``cli.main`` turns these into a message and an exit status.
"""

from pathlib import Path

from runtime.fault import Fault


class BenchmarkError(Fault):
    """The harness, or what it reads and writes, failed."""


class ResultsError(BenchmarkError):
    """A run's files are missing, malformed or contradict themselves."""


class JournalError(BenchmarkError):
    """Samples cannot be appended; every instance that was fsynced before is safe."""


class Busy(BenchmarkError):  # noqa: N818 - named by what is the case
    """Another run is measuring on this machine; two at once would measure each other."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal; what it finished is safe in *directory*."""

    def __init__(self, directory: Path) -> None:
        super().__init__(str(directory))
        self.directory = directory
