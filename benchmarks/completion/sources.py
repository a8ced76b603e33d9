"""What there is on this machine to complete: images, runs, backends.

Read quickly and without locks. Where something cannot be read there is nothing to offer: a key
pressed in a shell is no place for a complaint.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.backends import BACKENDS, OWN, PEERS, VARIANTS
from benchmarks.completion.candidates import Candidate, Source
from benchmarks.results import RUN_FILE
from vmbackend.connection import URIS

_RESULTS = Path("results")
_MOST_INDEX_BYTES = 16 << 20


def images(_current: str) -> Iterator[Candidate]:
    """The names of the images in the store; ``busybox`` too, which is made when it is named."""
    from runtime.image import ImageError, Store  # noqa: PLC0415 - only when one is asked for
    from runtime.image.index import parse_index  # noqa: PLC0415 - as above

    try:
        with (Store().root / "index.json").open("rb") as file:
            entries = parse_index(file.read(_MOST_INDEX_BYTES))
    except (OSError, ImageError):
        entries = ()
    names = [entry.reference for entry in entries if entry.reference is not None]
    yield from (Candidate(name) for name in names)
    if not any(name.startswith("busybox:") for name in names):
        yield Candidate("busybox", "made here when it is first named")


def runs(current: str) -> Iterator[Candidate]:
    """The folders of the runs in ``./results``; their ids, if that is what was begun."""
    try:
        folders = [each.parent for each in sorted(_RESULTS.glob(f"*/{RUN_FILE}"))]
    except OSError:
        return
    for folder in folders:
        begins_id = current and folder.name.startswith(current)
        yield Candidate(folder.name if begins_id else str(folder))


def backends(_current: str) -> Iterator[Candidate]:
    """Every backend that runs a command, which variants do not."""
    for name in (*OWN, *PEERS):
        yield Candidate(name, "" if name in OWN else "where it is installed")


def backend_lists(current: str) -> Iterator[Candidate]:
    """Those before the last comma, and each that is not among them."""
    before, comma, _ = current.rpartition(",")
    taken = before.split(",")
    for name in BACKENDS:
        if name not in taken:
            yield Candidate(
                before + comma + name, "" if name in (*OWN, *VARIANTS) else "where it is installed"
            )


def containers(current: str) -> Iterator[Candidate]:
    """The names of the containers; their ids, if that is what was begun."""
    from runtime.container.kept.finding import records  # noqa: PLC0415 - for these verbs only

    try:
        for _, record in records():
            begins_id = current and record.id.startswith(current)
            yield Candidate(record.id if begins_id else record.name, record.image_name)
    except OSError:
        return


def connections(_current: str) -> Iterator[Candidate]:
    """The libvirts that machines can be asked of."""
    for uri in URIS:
        yield Candidate(uri, "")


SOURCES: Mapping[str, Source] = {
    "IMAGE": images,
    "REFERENCE": images,
    "CONTAINER": containers,
    "RUN": runs,
    "EARLIER": runs,
    "LATER": runs,
    "BACKEND": backends,
    "A,B": backend_lists,
    "URI": connections,
}
"""By the metavar of what is completed."""
