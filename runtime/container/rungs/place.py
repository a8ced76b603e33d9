"""A place for a trial that a crash cannot hide: recorded as an instance's, before it is used."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.container.cgroups import Group
from runtime.container.interrupts import delivered, held
from runtime.container.state import new_directory, record_owner, remove_instance, sweep


def new_name() -> str:
    """A name that no instance has."""
    return f"d-{secrets.token_hex(5)}"


@contextmanager
def trial_directory(name: str, groups: tuple[Group, ...] = ()) -> Iterator[Path]:
    """The directory *name*, removed with *groups* after the block; else by the next ``sweep``.

    Interrupts wait while it is made and while it is removed, so that neither is done by halves.
    Raises OSError if it cannot be made.
    """
    sweep()
    with held() as before:
        directory = new_directory(name)
        try:
            record_owner(directory, [Path(group.path) for group in groups])
            with delivered(before):
                yield directory
        finally:
            remove_instance(directory)
