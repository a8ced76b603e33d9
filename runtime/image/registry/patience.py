"""How long a registry is waited for, and how often it is asked again."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from runtime.image.registry.errors import InterruptedTransferError, TransientError

T = TypeVar("T")

_LARGEST_BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Bounds on time.

    ``silence_s`` bounds an answer's head, and each chunk of 128 KiB of a body: a peer that drips
    gets no further than one that is silent. ``longest_wait_s`` is how long a ``Retry-After`` may
    make us wait; who asks for more gets an error that says so.
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0

    def wait_s(self, failures: int, after_s: float | None) -> float:
        """How long to wait after *failures* in a row: exponential, jittered by half.

        Jitter keeps clients that failed together from coming back together.
        """
        backoff_s: float = min(self.backoff_s * 2.0 ** (failures - 1), _LARGEST_BACKOFF_S)
        jittered_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
        return max(jittered_s, after_s or 0.0)


def retried(patience: Patience, called_off: Event, operation: Callable[[], T]) -> T:
    """The result of *operation*, which is done again while it fails in ways that may pass.

    Raises the last TransientError, or InterruptedTransferError once *called_off* is set.
    """
    failures = 0
    while True:
        try:
            return operation()
        except TransientError as error:
            failures += 1
            pause(patience, called_off, failures, error)


def pause(patience: Patience, called_off: Event, failures: int, error: TransientError) -> None:
    """Wait as *error*, the last of *failures* in a row, demands; raise it if it was the last."""
    if failures >= patience.attempts or (error.after_s or 0.0) > patience.longest_wait_s:
        raise error
    wait_s = 0.0 if error.at_once else patience.wait_s(failures, error.after_s)
    if called_off.wait(wait_s):
        raise InterruptedTransferError from error
