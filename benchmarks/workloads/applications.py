"""network and apps: a connection inside the instance, and programs that people run."""

from benchmarks.workloads import WorkloadFailed
from benchmarks.workloads.printed import Parse, Said, Work, lines, redis, refused, sqlite
from benchmarks.workloads.program import Program, as_told, ns_per_unit, units_per_s
from benchmarks.workloads.start import NGINX, REDIS

_MB = 1e6
_ONE_CPU = "client and server share the instance's processors"
_RATE_PER_S, _SECONDS = 100, 2
_ROWS = 100_000
_LATENCY = (
    f"open loop, {_RATE_PER_S} requests a second for {_SECONDS} s, 16 connections; a latency"
    " counts from when its request was due"
)

LOOPBACK = (
    Program(
        name="network.loopback",
        question="How fast is TCP between two processes of the same instance?",
        threats=(_ONE_CPU, "no device and no wire: this is the kernel's stack alone"),
        script="gauge tcp",
        parse=lines,
        readings=(
            ns_per_unit("network.loopback.trip", "trip", "Round trip of a byte on loopback",
                        unit="round trip"),
            units_per_s("network.loopback.stream", "stream", "TCP throughput on loopback",
                        unit="MB/s", what="byte", scale=_MB),
        ),
    ),
)  # fmt: skip


def _open_loop(raw: bytes) -> Said:
    """A load that could not be offered is no measurement: generator or server was saturated."""
    said = lines(raw)
    offered_ns, answered = said.get("offered_ns"), said.get("answered")
    if not isinstance(offered_ns, int) or not isinstance(answered, Work):
        raise refused(raw, "no offered_ns or no answered")
    if answered.duration_ns > 1.1 * offered_ns:
        raise WorkloadFailed(
            f"the load of {_RATE_PER_S} requests a second could not be kept up: {answered.units}"
            f" answers took {answered.duration_ns} ns instead of {offered_ns} ns"
        )
    return said


_SQL = """\
d=$(mktemp -d /var/tmp/XXXXXX) && trap 'rm -r "$d"' EXIT && sqlite3 -bail $d/db <<END
create table t(k integer primary key, v text);
.timer on
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < ROWS)
  select i, hex(i * 7919) from n;
select 'said ' || sum(length((select v from t where k = 1 + (i * 7919) % ROWS)))
  from (with recursive n(i) as (select 1 union all select i + 1 from n where i < ROWS)
  select i from n);
END""".replace("ROWS", str(_ROWS))


def _per_row(*names: str) -> Parse:
    """The two times of sqlite, each by row."""
    parse = sqlite(*names)

    def by_row(raw: bytes) -> Said:
        return {
            name: value / _ROWS if name in names and not isinstance(value, Work) else value
            for name, value in parse(raw).items()
        }

    return by_row


APPS = (
    Program(
        name="apps.redis",
        question="How many requests a second does redis answer over loopback?",
        threats=(_ONE_CPU, "closed loop of 10 connections: a slow server is asked less often"),
        script=f"{REDIS} ++ redis-benchmark -p $p -c 10 -n 4000 -t set,get --csv",
        parse=redis("SET", "GET"),
        readings=tuple(
            as_told(f"apps.redis.{name}", name, f"Redis {name.upper()}", unit="1/s",
                    direction="higher", start="first request", stop="last answer",
                    method="redis-benchmark 7, 10 connections, 4000 requests, 3 bytes")
            for name in ("set", "get")
        ),
    ),
    Program(
        name="apps.nginx",
        question="How long does a web page take at a fixed load, and how many can there be?",
        threats=(_ONE_CPU, "one worker and one page of 612 bytes",
                 "the load is far below what a fast backend can serve, on purpose"),
        script=f"{NGINX} ++ gauge load $p {_RATE_PER_S} {_SECONDS}",
        parse=_open_loop,
        readings=(
            as_told("apps.nginx.p50", "p50_ns", "Web page, median", unit="ns", direction="lower",
                    start="request due", stop="answer complete", method=_LATENCY),
            as_told("apps.nginx.p95", "p95_ns", "Web page, percentile 95", unit="ns",
                    direction="lower", start="request due", stop="answer complete",
                    method=_LATENCY),
            units_per_s("apps.nginx.rate", "closed", "Web pages over one connection", unit="1/s",
                        what="page"),
        ),
    ),
    Program(
        name="apps.sqlite",
        question="How long does SQLite take to insert a row in bulk, and to find one?",
        threats=("one transaction: its sync is shared by all rows",
                 "times of the shell's timer, of 1 ms resolution"),
        script=_SQL,
        parse=_per_row("insert", "find"),
        readings=(
            as_told("apps.sqlite.insert", "insert", "SQLite, insert a row in bulk", unit="ns",
                    direction="lower", start="statement", stop="its end",
                    method=f".timer of sqlite3, {_ROWS} rows in one transaction, by row"),
            as_told("apps.sqlite.find", "find", "SQLite, find a row by its key", unit="ns",
                    direction="lower", start="statement", stop="its end",
                    method=f".timer of sqlite3, {_ROWS} look-ups in one statement, by row"),
        ),
    ),
    Program(
        name="apps.inference",
        question="How long does a small neural network, in plain Python, take for one answer?",
        threats=("no vector instructions: a real library would show other ratios",),
        script="python3 /usr/local/share/gauge/inference.py",
        parse=lines,
        checks={"answers": 6666},
        readings=(
            ns_per_unit("apps.inference", "inference", "One answer of a small neural network",
                        unit="answer"),
        ),
    ),
)  # fmt: skip
