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


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C's asks us to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Interrupted(KeyboardInterrupt):
    """A run was stopped by signal *number*; what it finished is safe in *directory*."""

    def __init__(self, directory: Path, *, number: int) -> None:
        super().__init__(str(directory))
        self.directory = directory
        self.number = number
