"""What harness and worker say to each other: a length and a JSON object over a socket pair.

A request is ``{"op": …}`` with arguments, an answer ``{"ok": …}`` or ``{"error": …}``. Bytes
travel as base64. Both ends are ours and of one version, so a malformed message is a bug.
"""

import base64
import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.backend import ExecResult, InstanceSpec, InstanceTimeout, Reading, Usage

Message = dict[str, Any]

_LENGTH = struct.Struct("=Q")
_CHUNK_BYTES = 1 << 20


class Line:
    """One end of the conversation."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: Message) -> None:
        """Say *message*. Raises OSError if the other end is gone."""
        raw = json.dumps(message).encode()
        self._end.settimeout(None)
        self._end.sendall(_LENGTH.pack(len(raw)) + raw)

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message; None if the other end is gone. Raises TimeoutError."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        head = self._exactly(_LENGTH.size, deadline_s)
        raw = None if head is None else self._exactly(_LENGTH.unpack(head)[0], deadline_s)
        if raw is None:
            return None
        message: Message = json.loads(raw)
        return message

    def close(self) -> None:
        """Hang up; the other end notices."""
        self._end.close()

    def _exactly(self, count: int, deadline_s: float | None) -> bytearray | None:
        """The next *count* bytes, or None if they will not come."""
        received = bytearray()
        while len(received) < count:
            left_s = None if deadline_s is None else deadline_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError
            self._end.settimeout(left_s)
            try:
                chunk = self._end.recv(min(count - len(received), _CHUNK_BYTES))
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            received += chunk
        return received


def pack_spec(spec: InstanceSpec) -> Message:
    """The spec as JSON values."""
    return {
        "image": spec.image, "argv": spec.argv, "env": dict(spec.env), "cwd": spec.cwd,
        "user": spec.user, "stdin": pack_bytes(spec.stdin), "cpus": spec.cpus,
        "memory_bytes": spec.memory_bytes, "pids": spec.pids, "mounts": spec.mounts,
        "ports": spec.ports, "network": spec.network,
    }  # fmt: skip


def unpack_spec(message: Message) -> InstanceSpec:
    """The spec that ``pack_spec`` packed."""
    changed = {
        "argv": tuple(message["argv"]),
        "stdin": unpack_bytes(message["stdin"]),
        "mounts": tuple(tuple(pair) for pair in message["mounts"]),
        "ports": tuple(tuple(pair) for pair in message["ports"]),
    }
    return InstanceSpec(**(message | changed))


def pack_result(result: ExecResult) -> Message:
    """The result as JSON values."""
    return {
        "exit_status": result.exit_status, "stdout": pack_bytes(result.stdout),
        "stderr": pack_bytes(result.stderr), "phases": dict(result.phases),
    }  # fmt: skip


def unpack_result(message: Message) -> ExecResult:
    """The result that ``pack_result`` packed."""
    return ExecResult(
        exit_status=message["exit_status"], stdout=unpack_bytes(message["stdout"]),
        stderr=unpack_bytes(message["stderr"]), phases=message["phases"],
    )  # fmt: skip


def pack_usage(usage: Usage) -> Message:
    """The usage as JSON values."""
    readings = {name: [r.value_bytes, r.method] for name, r in usage.readings.items()}
    return {"readings": readings, "absent": dict(usage.absent)}


def unpack_usage(message: Message) -> Usage:
    """The usage that ``pack_usage`` packed."""
    pairs: Mapping[str, tuple[int, str]] = message["readings"]
    return Usage(
        readings={n: Reading(value_bytes=v, method=m) for n, (v, m) in pairs.items()},
        absent=message["absent"],
    )


def pack_timeout(passed: InstanceTimeout) -> Message:
    """The timeout as JSON values."""
    return {
        "message": passed.message,
        "stdout": pack_bytes(passed.stdout), "stderr": pack_bytes(passed.stderr),
        "last_phase": passed.last_phase, "console_tail": passed.console_tail,
    }  # fmt: skip


def unpack_timeout(message: Message) -> InstanceTimeout:
    """The timeout that ``pack_timeout`` packed."""
    return InstanceTimeout(
        message["message"],
        stdout=unpack_bytes(message["stdout"]), stderr=unpack_bytes(message["stderr"]),
        last_phase=message["last_phase"], console_tail=message["console_tail"],
    )  # fmt: skip


def pack_bytes(raw: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(raw).decode()


def unpack_bytes(text: str) -> bytes:
    """The bytes that ``pack_bytes`` packed."""
    return base64.b64decode(text)
