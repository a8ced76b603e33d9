"""``stats``, ``top`` and ``update``: what containers use, and what they may."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice

from runtime import commandline
from runtime.commandline import Parser
from runtime.container.kept.finding import find, records
from runtime.container.kept.kept import Kept
from runtime.container.kept.naming import container_parser
from runtime.container.kept.record import standing
from runtime.container.kept.usage import Reading, cpus_used
from runtime.container.spec import Limits
from runtime.errors import RuntimeFault, SpecError

_EVERY_S = 1.0
Watched = tuple[Kept, Reading, float | None]
"""A container, what it uses, and how many cpus it has used since the last look."""

_CLEAR = "\x1b[H\x1b[2J"
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "kiB"))


def stats_parser() -> Parser:
    """The options of ``stats``."""
    parser = Parser(prog="isoscope stats", description="What running containers use.")
    parser.add_argument("containers", nargs="*", metavar="CONTAINER", help="all if not given")
    add = parser.add_argument
    add("--no-stream", action="store_true", help="once, not every second until it is interrupted")
    add("--json", action="store_true", help="once, as one JSON list")
    add("--debug", action="store_true", help="show a traceback when we fail")
    return parser


def stats(arguments: argparse.Namespace) -> int:
    """Show it, again and again on a terminal."""
    found = [Kept(find(name)) for name in arguments.containers]
    for kept in found:
        kept.stats()  # one that was named and does not run is an error, others just end
    found = found or [
        Kept(directory)
        for directory, record in records()
        if standing(directory, record).state == "running"
    ]
    looks = _watched(found)
    next(looks)  # how much of a cpu is used takes two looks
    for look in islice(looks, 1 if arguments.no_stream or arguments.json else None):
        if arguments.json:
            told = [_as_json(kept, now, cpus) for kept, now, cpus in look]
            print(json.dumps(told, indent=2))
            return 0
        lines = commandline.table([*_rows(look)])
        print(f"{_CLEAR}{lines}" if sys.stdout.isatty() and not arguments.no_stream else lines)
        if not look:
            return 0
    return 0


def top_parser() -> Parser:
    """The options of ``top``."""
    return container_parser("top", "The processes of a container, as this machine sees them.")


def top(arguments: argparse.Namespace) -> int:
    """Show them."""
    heading = ("UID", "PID", "PPID", "CPU", "COMMAND")
    found = Kept(find(arguments.container)).processes()
    rows = ((str(p.uid), str(p.pid), str(p.parent), f"{p.cpu_s:.2f} s", p.command) for p in found)
    print(commandline.table([heading, *rows]))
    return 0


def update_parser() -> Parser:
    """The options of ``update``."""
    parser = container_parser("update", "Change what containers may use.", many=True)
    add = parser.add_argument
    add("-m", "--memory", type=commandline.size, metavar="SIZE", help="such as 64m or 1.5g")
    add("--cpus", type=commandline.cores, metavar="N", help="processors")
    add("--pids-limit", type=commandline.whole, metavar="N", help="how many processes")
    return parser


def update_limits(arguments: argparse.Namespace) -> int:
    """Change them, and say of which."""
    limits = Limits(memory_bytes=arguments.memory, cpus=arguments.cpus, pids=arguments.pids_limit)
    if limits == Limits():
        raise SpecError("nothing is to be changed", remedy="give -m, --cpus or --pids-limit")
    for name in arguments.containers:
        Kept(find(name)).update(limits)
        print(name)
    return 0


def _watched(found: Sequence[Kept]) -> Iterator[tuple[Watched, ...]]:
    """Readings of *found* every second; one that has ended is left out."""
    before: dict[str, Reading] = {}
    while True:
        rows = []
        for kept in found:
            with suppress(RuntimeFault):
                now = kept.stats()
                rows.append((kept, now, cpus_used(before.get(kept.id), now)))
                before[kept.id] = now
        yield tuple(rows)
        time.sleep(_EVERY_S)


def _rows(
    look: tuple[Watched, ...],
) -> Iterator[tuple[str, ...]]:
    yield ("CONTAINER", "NAME", "CPU", "MEMORY", "LIMIT", "RECEIVED", "SENT", "PROCESSES")
    for kept, now, cpus in look:
        yield (
            kept.id,
            kept.record.name,
            "-" if cpus is None else f"{cpus:.1%}",
            _amount(now.memory_bytes),
            _amount(now.memory_limit_bytes),
            _amount(now.received_bytes),
            _amount(now.sent_bytes),
            "-" if now.processes is None else str(now.processes),
        )


def _as_json(kept: Kept, now: Reading, cpus: float | None) -> dict[str, object]:
    told: dict[str, object] = asdict(now)
    del told["at_ns"]
    return {"id": kept.id, "name": kept.record.name, "cpus": cpus} | told


def _amount(count_bytes: int | None) -> str:
    if count_bytes is None:
        return "-"
    for unit_bytes, unit in _UNITS:
        if count_bytes >= unit_bytes:
            return f"{count_bytes / unit_bytes:.1f} {unit}"
    return f"{count_bytes} B"
