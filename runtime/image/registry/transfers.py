"""Work done by a few threads at once."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runtime.image.progress import Transfer, Watcher
from runtime.image.registry.errors import InterruptedTransferError
from runtime.image.registry.wire import Wire

WORKERS = 4
"""Layers moved at once. Hashing releases the interpreter's lock, waiting does too."""

_TICK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A transfer and what does it."""

    transfer: Transfer
    action: Callable[[], None]


def do_all(wire: Wire, jobs: Sequence[Job], watcher: Watcher | None) -> None:
    """Do all *jobs*, a few at once. Raises what the first that fails raises.

    After a failure, or an interrupt, *wire* is closed, so that the others end soon; this returns
    when all have.
    """
    crew = _Crew(wire, jobs)
    threads = [threading.Thread(target=crew.work) for _ in range(min(WORKERS, len(jobs)))]
    transfers = [job.transfer for job in jobs]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            _join(thread, transfers, watcher)
    except BaseException:
        crew.stop()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    crew.tell()


class _Crew:
    """Jobs that several threads take one after the other, until one fails."""

    def __init__(self, wire: Wire, jobs: Sequence[Job]) -> None:
        self._wire = wire
        self._waiting = list(reversed(jobs))
        self._failures: list[BaseException] = []
        self._guard = threading.Lock()

    def work(self) -> None:
        """What each thread does."""
        try:
            while (job := self._next()) is not None:
                job.action()
        except BaseException as error:  # noqa: BLE001 - raised by who waits for the thread
            with self._guard:
                self._failures.append(error)
            self.stop()

    def stop(self) -> None:
        """Begin nothing more, and end what waits for the network."""
        with self._guard:
            self._waiting.clear()
        self._wire.close()

    def tell(self) -> None:
        """Raise what went wrong first, and not what followed from it."""
        causes = [e for e in self._failures if not isinstance(e, InterruptedTransferError)]
        for error in causes or self._failures:
            raise error

    def _next(self) -> Job | None:
        with self._guard:
            return self._waiting.pop() if self._waiting else None


def _join(
    thread: threading.Thread, transfers: Sequence[Transfer], watcher: Watcher | None
) -> None:
    while thread.is_alive():
        thread.join(_TICK_S if watcher is not None else None)
        if watcher is not None:
            watcher.shows(transfers)
