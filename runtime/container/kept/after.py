"""What the writer of a log becomes when its container has ended: whoever tidies up behind it."""

from contextlib import suppress

from runtime.container.kept.kept import tidy
from runtime.container.kept.record import read_record, wait_for
from runtime.container.state import instances_dir
from runtime.errors import RuntimeFault


def main(container: str) -> None:
    """Remove what *container* need not leave. What fails is left to the next sweep."""
    directory = instances_dir() / container
    with suppress(RuntimeFault, OSError):
        record = read_record(directory)
        if record is not None:
            wait_for(record.executor)
            tidy(directory)
