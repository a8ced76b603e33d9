"""A run's record while it is on: what was planned may grow or shrink, how it ended is kept."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.errors import BenchmarkError, Interrupted, Terminated
from benchmarks.results import Outcome, Protocol, Run, write_run


class Record:
    """``run`` as it stands in *directory*; every change is on disk before it counts."""

    def __init__(self, directory: Path, run: Run) -> None:
        self.directory = directory
        self.run = replace(run, outcome="running", ended_at=None)
        during = run.environment.get("during")
        self._during: list[Any] = list(during) if isinstance(during, list) else []
        write_run(directory, self.run)

    def plans(self, blocks: int, protocol: Protocol | None) -> None:
        """From now on so many *blocks*, for the reason that *protocol* gives."""
        self.run = replace(self.run, plan=replace(self.run.plan, blocks=blocks), protocol=protocol)
        write_run(self.directory, self.run)

    def notes(self, block: int) -> None:
        """What the machine did besides, at the end of *block*; on disk with the next change."""
        self._during.append({"block": block, **environment.load()})

    def adds(self, **facts: Any) -> None:
        """Further facts about the circumstances; on disk with the next change."""
        self.run = replace(self.run, environment=dict(self.run.environment) | facts)

    def ends(self, outcome: Outcome) -> None:
        """The run is over; what is written now stays."""
        ended_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.adds(during=self._during, after=environment.load())
        self.run = replace(self.run, outcome=outcome, ended_at=ended_at)
        write_run(self.directory, self.run)


@contextmanager
def recorded(directory: Path, run: Run) -> Iterator[Record]:
    """Write down that the run is on, and how it ended, whatever ended it."""
    record = Record(directory, run)
    try:
        yield record
    except KeyboardInterrupt as stop:
        record.ends("interrupted")
        number = stop.number if isinstance(stop, Terminated) else signal.SIGINT
        raise Interrupted(directory, number=number) from None
    except BaseException:
        with suppress(BenchmarkError):  # the first error is the one to show
            record.ends("failed")
        raise
    record.ends("complete")
