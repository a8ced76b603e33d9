"""network.published: from this machine to a server inside an instance, through a published port.

A plain process shares the machine's network, so there the port is its own: the baseline. The
client is one of ours, in Python, the same for all; it speaks the little protocol of ``gauge
echo`` (see ``network.c``): an ``e``, and what is sent comes back; an ``s`` and eight bytes of
length, and one byte answers when all is there.
"""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.backend import Features
from benchmarks.results import Metric
from benchmarks.results import Workload as Record
from benchmarks.stage import Stage
from benchmarks.workloads import Facts, Value, Values, WorkloadFailed, spoken
from benchmarks.workloads.printed import Work

_HERE = "127.0.0.1"
_START_S, _SILENCE_S = 60.0, 30.0
_ENOUGH_NS = 100_000_000
_CHUNK = bytes(64 << 10)
_MB = 1e6
_OTHERS = ("bridge", "user")
"""Networks on which a port can be published, the better one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """See ``benchmarks.workloads.Ensemble``."""

    name: ClassVar[str] = "network.published"
    question: ClassVar[str] = "How fast is TCP from this machine to a server in the instance?"
    threats: ClassVar[tuple[str, ...]] = (
        "a user-mode network copies every byte in the emulator; a bridge does not",
        "the client is in Python: what is the same on all backends hides a part of the difference",
    )
    record: ClassVar[Record] = Record(
        name="network.published",
        argv=("gauge", "echo", "PORT"),
        metrics=(
            Metric(
                name="network.published.trip", unit="ns", direction="lower",
                start="first round trip", stop="last round trip",
                method="host CLOCK_MONOTONIC in the client, by the number of round trips",
                title="Round trip of a byte through a published port",
            ),
            Metric(
                name="network.published.stream", unit="MB/s", direction="higher",
                start="first byte", stop="answer to the last byte",
                method="host CLOCK_MONOTONIC in the client, bytes by time",
                title="TCP throughput through a published port",
            ),
        ),
    )  # fmt: skip

    def perform(self, stage: Stage, facts: Facts, phases: dict[str, int]) -> Values:  # noqa: ARG002
        """Start the server, then be its client."""
        trip, stream = self.record.metrics
        network = network_of(stage.features)
        if network is None:
            why = "this backend publishes no ports"
            return {m.name: Value(value=None, method=m.method, error=why) for m in (trip, stream)}
        port = _free_port()
        ports = ((port, port),) if network != "host" else ()
        given = "none" if network == "host" else network
        with stage.instance(("gauge", "echo", str(port)), network=given, ports=ports) as instance:
            spoken(instance, timeout_s=_START_S)
            try:
                trips = measured(port, b"e", _round_trips)
                chunks = measured(port, b"s", _streamed)
            except OSError as error:
                raise WorkloadFailed(f"the connection to the instance failed: {error}") from None
            phases |= instance.phases
        rate = chunks.units * len(_CHUNK) / _MB * 1e9 / chunks.duration_ns
        return {
            trip.name: Value(
                value=trips.duration_ns / trips.units,
                method=f"{trip.method}; {trips.units} of them; network {network}",
            ),
            stream.name: Value(
                value=rate, method=f"{stream.method}; {chunks.units} x 64 KiB; network {network}"
            ),
        }


def network_of(features: Features) -> str | None:
    """The network with which this machine reaches an instance; None if there is none."""
    if features.ports:
        return next((name for name in _OTHERS if name in features.networks), None)
    return "host" if "host" in features.networks else None


def measured(port: int, mode: bytes, work: Callable[[socket.socket, int], None]) -> Work:
    """The rung of the ladder 1, 4, 16 … that lasts long enough. Raises OSError."""
    with closing(socket.create_connection((_HERE, port), timeout=_SILENCE_S)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(mode)
        units = 1
        while True:
            start_ns = time.monotonic_ns()
            work(line, units)
            if (took_ns := time.monotonic_ns() - start_ns) >= _ENOUGH_NS:
                return Work(units=units, duration_ns=took_ns)
            units *= 4


def _round_trips(line: socket.socket, units: int) -> None:
    for _ in range(units):
        line.sendall(b"x")
        _expect(line)


def _streamed(line: socket.socket, units: int) -> None:
    line.sendall(struct.pack("=Q", units * len(_CHUNK)))
    for _ in range(units):
        line.sendall(_CHUNK)
    _expect(line)


def _expect(line: socket.socket) -> None:
    if len(line.recv(1)) != 1:
        raise ConnectionResetError("it was closed")


def _free_port() -> int:
    """A port that nobody has now; who takes it before us makes the sample fail, and is told."""
    with socket.socket() as taken:
        taken.bind((_HERE, 0))
        port: int = taken.getsockname()[1]
        return port
