"""The journal: samples appended so that no crash can take back what was measured.

All rows of one instance go to ``samples.jsonl`` in one write and are on disk before the next
instance starts. A crash can therefore leave only the last instance incomplete; opening the
journal again cuts that away, so it is measured anew and nothing stands twice.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.errors import JournalError, ResultsError
from benchmarks.results import (
    SAMPLES_FILE,
    InstanceKey,
    Run,
    Sample,
    contradiction,
    read_record,
    read_run,
    sync_directory,
)

_REMEDIES = {
    errno.ENOSPC: "free some space and continue with --resume",
    errno.EDQUOT: "free some of your quota and continue with --resume",
    errno.EROFS: "choose a folder on a writable file system with --out",
    errno.EACCES: "choose a folder you may write to with --out",
}


class Journal:
    """The open journal of one run, a context manager. ``run.json`` must have been written.

    Entering raises JournalError if the folder holds another run or cannot be written, and
    ResultsError if what is already there is malformed.
    """

    def __init__(self, directory: Path, run_id: str) -> None:
        self._directory = directory
        self._path = directory / SAMPLES_FILE
        self._run_id = run_id
        self._descriptor = -1
        self._seen: dict[InstanceKey, set[str]] = {}
        self._run: Run

    def __enter__(self) -> Self:
        self._run = read_record(self._directory)
        if self._run.run != self._run_id:
            raise JournalError(
                f"{self._directory} holds run {self._run.run!r}, not {self._run_id!r}",
                remedy="resume that run, or choose another folder with --out",
            )
        try:
            self._cut_incomplete()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
            sync_directory(self._directory)
        except OSError as wrong:
            raise self._refusal(wrong) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def append(self, rows: Sequence[Sample]) -> None:
        """Append every row of one instance and wait until the disk has them.

        Raises JournalError if the disk refuses; then none of the rows stands in the journal and
        all earlier ones do. Raises ResultsError if the rows are not one instance of this run.
        """
        seen = self._accepted(rows)
        content = b"".join(row.line() for row in rows)
        before = os.fstat(self._descriptor).st_size
        try:
            _write_whole(self._descriptor, content)
            os.fsync(self._descriptor)
        except OSError as wrong:
            os.ftruncate(self._descriptor, before)
            raise self._refusal(wrong) from None
        self._seen.update(seen)

    def done(self) -> set[InstanceKey]:
        """The instances that have a row for each metric they owe; never measured again."""
        return {
            key
            for key, metrics in self._seen.items()
            if metrics >= self._run.plan.owed(key.workload).keys()
        }

    def _accepted(self, rows: Sequence[Sample]) -> dict[InstanceKey, set[str]]:
        if len({(row.key, row.instance) for row in rows}) != 1:
            raise ResultsError("the rows appended together are not those of one instance")
        seen = {key: set(metrics) for key, metrics in self._seen.items() if key == rows[0].key}
        for row in rows:
            if (why := contradiction(self._run, row, seen)) is not None:
                raise ResultsError(why)
        return seen

    def _cut_incomplete(self) -> None:
        """Truncate a torn tail with the other rows of its instance; learn what is left."""
        if not self._path.exists():
            return
        samples = list(read_run(self._directory).samples)
        for sample in samples:
            self._seen.setdefault(sample.key, set()).add(sample.metric)
        if samples and (last := samples[-1].key) not in self.done():
            del self._seen[last]
            while samples and samples[-1].key == last:
                samples.pop()
        self._keep_lines(len(samples))

    def _keep_lines(self, count: int) -> None:
        with self._path.open("r+b") as file:
            for _ in range(count):
                file.readline()
            keep_bytes = file.tell()
            if keep_bytes != os.fstat(file.fileno()).st_size:
                os.ftruncate(file.fileno(), keep_bytes)
                os.fsync(file.fileno())

    def _refusal(self, wrong: OSError) -> JournalError:
        return JournalError(
            f"{self._path} cannot be written: {wrong.strerror}",
            remedy=_REMEDIES.get(wrong.errno or 0, "the samples measured before are safe"),
        )


def _write_whole(descriptor: int, content: bytes) -> None:
    """One write(2); a regular file takes less than all only when the disk is full."""
    if os.write(descriptor, content) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
