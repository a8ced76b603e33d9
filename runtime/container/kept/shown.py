"""Containers as tables, as JSON, and as what they said."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from runtime.container.kept.kept import Kept
from runtime.container.kept.logs import STDERR, Frame
from runtime.container.kept.record import Record, Standing
from runtime.network.ports import Port

_COMMAND_CHARACTERS = 30
_STEPS = ((60, 1, "second"), (3600, 60, "minute"), (86400, 3600, "hour"), (1e12, 86400, "day"))


def rows(found: Sequence[tuple[Record, Standing]]) -> Iterator[tuple[str, ...]]:
    """The table of ``ps``, its heading first."""
    yield ("CONTAINER", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAME")
    for record, now in found:
        command = " ".join(record.argv)
        if len(command) > _COMMAND_CHARACTERS:
            command = f"{command[: _COMMAND_CHARACTERS - 1]}…"
        ports = ", ".join(map(str, _ports(record, now)))
        created = f"{_ago(datetime.fromisoformat(record.created))} ago"
        yield (record.id, record.image_name, command, created, _status(record, now), ports,
               record.name)  # fmt: skip


def row(record: Record, now: Standing) -> dict[str, Any]:
    """The same as JSON, in full."""
    return {
        "id": record.id,
        "name": record.name,
        "backend": record.backend,
        "image": record.image,
        "image_name": record.image_name,
        "argv": list(record.argv),
        "created": record.created,
        "state": now.state,
        "exit_status": now.exit_status,
        "ports": [str(port) for port in _ports(record, now)],
    }


def inspected(kept: Kept) -> dict[str, Any]:
    """All that is known: what was asked, how it is, where its files are."""
    record, now = kept.record, kept.standing
    state = asdict(now) | {
        "started_ns": record.started_ns or None,
        "pid": record.init.pid if record.init and now.state == "running" else None,
    }
    told = record.to_json()
    del told["status"], told["pids"], told["schema"]
    return told | {"state": state, "directory": str(kept.directory)}


def say(frames: Iterable[Frame], *, timestamps: bool) -> None:
    """Each piece on the stream that it was said on."""
    for frame in frames:
        stream = sys.stderr.buffer if frame.stream == STDERR else sys.stdout.buffer
        if timestamps and frame.is_start:
            stream.write(f"{moment(frame.at_ns)} ".encode())
        stream.write(frame.data)
        stream.flush()


def moment(at_ns: int) -> str:
    """Nanoseconds of CLOCK_REALTIME as RFC 3339, in UTC."""
    whole = datetime.fromtimestamp(at_ns // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at_ns % 10**9:09}Z"


def _ports(record: Record, now: Standing) -> tuple[Port, ...]:
    """Those that lead inside now."""
    return record.ports if now.state == "running" else ()


def _status(record: Record, now: Standing) -> str:
    if now.state == "created":
        return "created"
    if now.state == "running":
        return f"up {_ago(_moment(record.started_ns))}"
    when = "" if now.ended_ns is None else f", {_ago(_moment(now.ended_ns))} ago"
    return f"exited ({now.exit_status}){when}"


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / 1e9, UTC)


def _ago(moment: datetime) -> str:
    passed_s = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    unit_s, unit = next((unit_s, unit) for below, unit_s, unit in _STEPS if passed_s < below)
    count = int(passed_s // unit_s)
    return f"{count} {unit}{'' if count == 1 else 's'}"
