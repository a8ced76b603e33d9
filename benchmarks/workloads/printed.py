"""What programs print, read strictly: a number is either exactly where it must be, or refused.

The image is a stranger's: every text is bounded, every number is finite and fits 64 bits. What is
not as expected raises WorkloadFailed with the text, so that a sample says what went wrong.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.workloads import WorkloadFailed

MOST_BYTES = 1 << 20
_MOST_SHOWN = 200
_MOST = 1 << 63
_WORK = re.compile(r"work ([a-z0-9_]{1,30}) ([0-9]{1,19}) ([0-9]{1,19})")
_READ = re.compile(r"read ([a-z0-9_]{1,30}) ([0-9]{1,19})")
_SYSBENCH = re.compile(r"^ *events per second: +([0-9]{1,12}\.[0-9]{1,6})$", re.MULTILINE)
_SQLITE = re.compile(r"Run Time: real ([0-9]{1,9}\.[0-9]{1,9}) user [0-9.]{1,20} sys [0-9.]{1,20}")
_REDIS = re.compile(r'"([A-Z]{1,20})(?: \([^"\n]{1,60}\))?"((?:,"[0-9]{1,12}\.[0-9]{1,6}")+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """So many units took so long, by the clock inside."""

    units: int
    duration_ns: int


Said = Mapping[str, Work | int | float]
Parse = Callable[[bytes], Said]


def refused(raw: bytes, why: str) -> WorkloadFailed:
    """What to raise for a text that is not what was expected."""
    return WorkloadFailed(f"unexpected output ({why}): {raw[:_MOST_SHOWN]!r}")


def lines(raw: bytes) -> Said:
    """The lines of gauge and of our Python programs; see ``images/bench/gauge/gauge.h``."""
    said: dict[str, Work | int | float] = {}
    for line in _text(raw).splitlines():
        value: Work | int
        if (match := _WORK.fullmatch(line)) is not None:
            value = _work(int(match[2]), int(match[3]), raw)
        elif (match := _READ.fullmatch(line)) is not None:
            value = _whole(int(match[2]), raw)
        else:
            raise refused(raw, f"no line of gauge: {line[:60]!r}")
        if match[1] in said:
            raise refused(raw, f"{match[1]} stands twice")
        said[match[1]] = value
    return said


def sysbench(raw: bytes) -> Said:
    """The rate of ``sysbench cpu run``."""
    (rate,) = _once(_SYSBENCH, raw)
    return {"rate": _positive(float(rate), raw)}


def sqlite(*names: str) -> Parse:
    """The times of so many statements under ``.timer on``, and the words between them.

    One line ``said VALUE`` is what the last statement found.
    """

    def parse(raw: bytes) -> Said:
        found: list[float] = []
        answer = None
        for line in _text(raw).splitlines():
            if (timed := _SQLITE.fullmatch(line)) is not None:
                found.append(float(timed[1]))
            elif re.fullmatch(r"said [0-9]{1,18}", line) and answer is None:
                answer = int(line[5:])
            else:
                raise refused(raw, f"neither a time nor the answer: {line[:60]!r}")
        if len(found) != len(names) or answer is None:
            raise refused(raw, f"{len(found)} times instead of {len(names)}, answer {answer}")
        times = {name: _positive(s * 1e9, raw) for name, s in zip(names, found, strict=True)}
        return times | {"answer": answer}

    return parse


def redis(*commands: str) -> Parse:
    """The rates of ``redis-benchmark --csv``, one line for each of *commands* after the head."""

    def parse(raw: bytes) -> Said:
        head, *rows = _text(raw).splitlines() or [""]
        if not head.startswith('"test","rps",') or len(rows) != len(commands):
            raise refused(raw, f"not a head and {len(commands)} rows")
        said = {}
        for command, row in zip(commands, rows, strict=True):
            match = _REDIS.fullmatch(row)
            if match is None or match[1] != command:
                raise refused(raw, f"no row of {command}: {row[:60]!r}")
            rate = match[2].split(",")[1].strip('"')
            said[command.lower()] = _positive(float(rate), raw)
        return said

    return parse


def fio(direction: str) -> Parse:
    """``fio --output-format=json`` of one job: its rate, bandwidth and completion latency."""

    def parse(raw: bytes) -> Said:
        try:
            document = json.loads(_text(raw))
        except (ValueError, RecursionError):
            raise refused(raw, "no JSON") from None
        try:
            (job,) = document["jobs"]
            done = job[direction]
            if job["error"] != 0 or not done["total_ios"] > 0:
                raise refused(raw, f"error {job['error']} after {done['total_ios']} requests")
            latency = done["clat_ns"]["percentile"]
            return {
                "iops": _positive(done["iops"], raw),
                "bytes_per_s": _positive(done["bw_bytes"], raw),
                "p50_ns": _positive(latency["50.000000"], raw),
                "p95_ns": _positive(latency["95.000000"], raw),
            }
        except (KeyError, TypeError, ValueError):
            raise refused(raw, "not a report of one job") from None

    return parse


def digest(expected: str) -> Parse:
    """One line of sha256sum that must be *expected*; nothing else is learned."""

    def parse(raw: bytes) -> Said:
        if _text(raw) != f"{expected}  -\n":
            raise refused(raw, f"the digest is not {expected}")
        return {}

    return parse


def word(expected: str) -> Parse:
    """One line that must be *expected*."""

    def parse(raw: bytes) -> Said:
        if _text(raw) != f"{expected}\n":
            raise refused(raw, f"not {expected!r}")
        return {}

    return parse


def _text(raw: bytes) -> str:
    if len(raw) > MOST_BYTES:
        raise refused(raw, f"longer than {MOST_BYTES} bytes")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise refused(raw, "not ASCII") from None


def _once(pattern: re.Pattern[str], raw: bytes) -> tuple[str, ...]:
    found = list(pattern.finditer(_text(raw)))
    if len(found) != 1:
        raise refused(raw, f"{len(found)} times what was expected once")
    return found[0].groups()


def _work(units: int, duration_ns: int, raw: bytes) -> Work:
    if not 0 < units < _MOST or not 0 < duration_ns < _MOST:
        raise refused(raw, "no work, or in no time")
    return Work(units=units, duration_ns=duration_ns)


def _whole(value: int, raw: bytes) -> int:
    if value >= _MOST:
        raise refused(raw, "a number beyond 64 bits")
    return value


def _positive(value: Any, raw: bytes) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(raw, f"no number: {value!r:.40}")
    try:
        number = float(value)
    except OverflowError:
        raise refused(raw, "a number beyond 64 bits") from None
    if not math.isfinite(number) or not 0 < number < _MOST:
        raise refused(raw, "a number that is not positive, or beyond 64 bits")
    return number
