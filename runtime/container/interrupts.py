"""Signals that ask us to stop: when they may arrive, and what they do.

A Ctrl-C between making a thing and remembering that it must be unmade would leave it behind, so
such moments hold the signals back. They are delivered when the block ends; nothing is ignored.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
"""What a user, or whoever ends a session, stops us with."""

Mask = set[int | signal.Signals]


@contextmanager
def held() -> Iterator[Mask]:
    """No interrupt is delivered inside the block; yields the mask that held before, for below."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def delivered(before: Mask) -> Iterator[None]:
    """Inside a ``held`` block: here interrupts are delivered again, as *before* it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)


def end_on_termination() -> None:
    """Let SIGTERM and SIGHUP unwind what is open, as Ctrl-C does, and end with 128+n.

    One that is ignored stays so: that is what nohup(1) is for.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminated)


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
