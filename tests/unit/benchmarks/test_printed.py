"""What programs print becomes numbers strictly, or one sentence with the text."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.workloads import WorkloadFailed, printed
from benchmarks.workloads.printed import Parse, Said, Work

SYSBENCH = b"""\
sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)

CPU speed:
    events per second:   372.32

General statistics:
    total time:                          1.0073s
"""
SQLITE = b"""\
Run Time: real 0.432 user 0.397237 sys 0.025975
said 331944
Run Time: real 0.409 user 0.407981 sys 0.000000
"""
REDIS = b"""\
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms"
"SET","46511.62","0.143","0.032","0.111"
"GET","58823.53","0.106","0.024","0.095"
"""
FIO = {
    "jobs": [
        {
            "error": 0,
            "read": {
                "total_ios": 12, "iops": 7089.730808, "bw_bytes": 29039537,
                "clat_ns": {"percentile": {"50.000000": 69120, "95.000000": 272384}},
            },
        }
    ]
}  # fmt: skip
GAUGE = b"work getpid 1048576 158513121\nread p50_ns 129373\n"
DIGEST = "080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e"

PARSERS: dict[str, tuple[Parse, bytes, Said]] = {
    "gauge": (
        printed.lines,
        GAUGE,
        {"getpid": Work(units=1048576, duration_ns=158513121), "p50_ns": 129373},
    ),
    "sysbench": (printed.sysbench, SYSBENCH, {"rate": 372.32}),
    "sqlite": (
        printed.sqlite("insert", "find"),
        SQLITE,
        {"insert": 432e6, "find": 409e6, "answer": 331944},
    ),
    "redis": (printed.redis("SET", "GET"), REDIS, {"set": 46511.62, "get": 58823.53}),
    "fio": (
        printed.fio("read"),
        json.dumps(FIO).encode(),
        {"iops": 7089.730808, "bytes_per_s": 29039537, "p50_ns": 69120, "p95_ns": 272384},
    ),
    "digest": (printed.digest(DIGEST), f"{DIGEST}  -\n".encode(), {}),
    "word": (printed.word("ready"), b"ready\n", {}),
}
every_parser = pytest.mark.parametrize("name", PARSERS)


@every_parser
def test_what_is_as_expected_is_read(name: str) -> None:
    parse, raw, said = PARSERS[name]
    assert parse(raw) == pytest.approx(said) if name != "gauge" else parse(raw) == said


def _accepted(parse: Parse, raw: bytes) -> Said | None:
    """What is read, if anything is; a refusal shows the text and does not flood."""
    try:
        return parse(raw)
    except WorkloadFailed as refusal:
        message = refusal.message
    assert "unexpected output" in message
    assert len(message) < 1200
    return None


@every_parser
@given(raw=st.binary(max_size=400))
def test_noise_is_refused(name: str, raw: bytes) -> None:
    parse, good, _ = PARSERS[name]
    if (said := _accepted(parse, raw)) is not None:
        assert raw == good or name == "gauge"
        assert not said or raw.strip()


@every_parser
@given(data=st.data())
def test_a_damaged_text_never_gives_what_is_no_number(name: str, data: st.DataObject) -> None:
    parse, good, _ = PARSERS[name]
    at = data.draw(st.integers(0, len(good)))
    until = data.draw(st.integers(at, min(len(good), at + 12)))
    raw = good[:at] + data.draw(st.binary(max_size=12)) + good[until:]
    for value in (_accepted(parse, raw) or {}).values():
        if isinstance(value, Work):
            assert 0 < value.units < 1 << 63
            assert 0 < value.duration_ns < 1 << 63
        else:
            assert math.isfinite(value)
            assert 0 <= value < 1 << 63


@given(
    rows=st.dictionaries(
        st.from_regex(r"[a-z0-9_]{1,30}", fullmatch=True),
        st.tuples(st.integers(1, (1 << 63) - 1), st.integers(1, (1 << 63) - 1)),
        max_size=5,
    )
)
def test_every_line_that_gauge_can_print_is_read(rows: dict[str, tuple[int, int]]) -> None:
    raw = "".join(f"work {name} {units} {ns}\n" for name, (units, ns) in rows.items())
    expected = {name: Work(units=units, duration_ns=ns) for name, (units, ns) in rows.items()}
    assert printed.lines(raw.encode()) == expected


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("gauge", b"work getpid 0 1\n"),
        ("gauge", b"work getpid 1 0\n"),
        ("gauge", b"work getpid 1 9999999999999999999\n"),
        ("gauge", b"read x 9999999999999999999\n"),
        ("gauge", b"read x 1\nread x 2\n"),
        ("gauge", b"read x 1\nSegmentation fault\n"),
        ("gauge", "read x \u0663\n".encode()),
        ("sysbench", SYSBENCH + SYSBENCH),
        ("sysbench", SYSBENCH.replace(b"372.32", b"0.00")),
        ("sqlite", SQLITE.replace(b"0.409", b"0.000")),
        ("sqlite", SQLITE + b"Error: disk I/O error\n"),
        ("sqlite", b"said 1\nRun Time: real 0.4 user 0.3 sys 0.0\n"),
        ("redis", REDIS.replace(b'"SET"', b'"GET"')),
        ("redis", REDIS + b"WARNING: something\n"),
        ("fio", json.dumps({"jobs": [FIO["jobs"][0] | {"error": 5}]}).encode()),
        ("fio", json.dumps({"jobs": FIO["jobs"] * 2}).encode()),
        ("fio", b'{"jobs": [{"error": 0, "read": {"total_ios": 1e999}}]}'),
        ("fio", b"[" * 100_000),
        ("fio", b"null"),
        ("fio", json.dumps(FIO).replace("7089.730808", "NaN").encode()),
        ("fio", json.dumps(FIO).replace("7089.730808", "true").encode()),
        ("fio", json.dumps(FIO).replace("29039537", "9" * 400).encode()),
        ("digest", b"0" * 64 + b"  -\n"),
        ("word", b"ready\nready\n"),
        ("word", b"x" * (printed.MOST_BYTES + 1)),
    ],
)
def test_what_is_not_exactly_as_expected_is_refused(name: str, raw: bytes) -> None:
    assert _accepted(PARSERS[name][0], raw) is None
