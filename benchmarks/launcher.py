"""The harness's hold on a worker: the same ``Backend`` seam, one process away.

``worker(name)`` starts and warms a worker; what it yields is a Backend whose instances run there.
An answer that does not come in time, or a worker that dies, ends the worker and all it started.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from benchmarks import wire
from benchmarks.backend import (
    ExecResult,
    Features,
    InstanceSpec,
    InstanceTimeout,
    Limit,
    Preparation,
    Unavailable,
    Usage,
)
from benchmarks.backends import BACKENDS
from benchmarks.errors import BenchmarkError

_GRACE_S = 30.0
"""How much longer than its own deadline a worker may take to answer, teardown included."""
_PREPARE_S = 900.0
"""Preparation may download a kernel and write a disk image."""
_END_S = 10.0
_ROOT = Path(__file__).parent.parent


class InstanceFailed(BenchmarkError):  # noqa: N818 - named by what happened
    """The backend could not do what was asked of an instance; the sentence is the engine's."""


class RemoteInstance:
    """See ``benchmarks.backend.Instance``; every call is one question to the worker."""

    def __init__(
        self,
        backend: "RemoteBackend",
        phases: Mapping[str, int],
        ended: wire.Message | None = None,
    ) -> None:
        self._backend = backend
        self._phases = phases
        self._ended = ended
        self.teardown_ns: int | None = None
        """From leaving the block to the phase ``gone``; known once it was left."""

    @property
    def phases(self) -> Mapping[str, int]:
        """The phases as last heard."""
        return self._phases

    def _repr_html_(self) -> str:
        """The instance as a notebook shows it: on which backend, and the phases it reached."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook needs it

        title = f"an instance on {self._backend.name}"
        head = ("phase", "since the request")
        return markup.table(head, markup.in_time(self._phases), caption=title)

    def wait(self, *, timeout_s: float) -> ExecResult:
        """See ``Instance.wait``."""
        if self._ended is None:
            answer = self._backend.ask("wait", timeout_s=timeout_s, _within_s=timeout_s)
        elif "timeout" in self._ended:
            raise wire.unpack_timeout(self._ended["timeout"])
        else:
            answer = self._ended["result"]
        result = wire.unpack_result(answer)
        self._phases = dict(self._phases) | dict(result.phases)
        return result

    def until_output(self, *, timeout_s: float) -> bool:
        """Wait for the first byte of output, where the backend can tell."""
        answer: bool = self._backend.ask("until_output", timeout_s=timeout_s, _within_s=timeout_s)
        self._phases = self._backend.ask("phases")
        return answer

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> ExecResult:
        """See ``Instance.run``."""
        packed = wire.pack_bytes(stdin)
        answer = self._backend.ask(
            "run", argv=list(argv), stdin=packed, timeout_s=timeout_s, _within_s=timeout_s
        )
        return wire.unpack_result(answer)

    def usage(self) -> Usage:
        """See ``Instance.usage``; with ``cgroup`` and ``instrument`` read by the worker."""
        return wire.unpack_usage(self._backend.ask("usage"))

    def leave(self) -> None:
        """The teardown, timed where it happens."""
        answer = self._backend.ask("leave")
        self._phases = dict(self._phases) | answer["phases"]
        self.teardown_ns = answer["teardown_ns"]


class RemoteBackend:
    """See ``benchmarks.backend.Backend``; it lives in a worker of its own."""

    def __init__(self, name: str, line: wire.Line, pid: int) -> None:
        self.name = name
        self.pid = pid
        self._line = line
        self.lost = False

    @property
    def features(self) -> Features:
        """See ``Backend.features``."""
        answer = self.ask("features")
        limits = frozenset(cast("list[Limit]", answer["enforces"]))
        networks = frozenset(cast("list[str]", answer["networks"]))
        return Features(**(answer | {"enforces": limits, "networks": networks}))

    def probe(self) -> Unavailable | None:
        """See ``Backend.probe``."""
        answer = self.ask("probe", _within_s=_PREPARE_S)
        return None if answer is None else Unavailable(**answer)

    def prepare(self, image: str) -> Preparation:
        """See ``Backend.prepare``."""
        return Preparation(**self.ask("prepare", image=image, _within_s=_PREPARE_S))

    @contextmanager
    def launch(
        self, spec: InstanceSpec, *, exit_within_s: float = 0.0
    ) -> Iterator[RemoteInstance]:
        """See ``Backend.launch``.

        With *exit_within_s* the worker waits for the end of ``spec.argv`` from the moment it has
        launched, so that no journey between two processes is in the times; ``wait`` then gives,
        or raises, what it saw.
        """
        limit_s = 2 * _GRACE_S + exit_within_s
        answer = self.ask(
            "launch", spec=wire.pack_spec(spec), exit_within_s=exit_within_s, _within_s=limit_s
        )
        instance = RemoteInstance(self, answer["phases"], answer["ended"])
        try:
            yield instance
        finally:
            if not self.lost:
                instance.leave()

    def ask(self, operation: str, *, _within_s: float = 0.0, **arguments: Any) -> Any:
        """One question, one answer. Raises InstanceTimeout, InstanceFailed."""
        self.lost = True  # until it has answered: an interrupted question is never taken up again
        try:
            self._line.send({"op": operation} | arguments)
            answer = self._line.receive(_within_s + _GRACE_S)
        except TimeoutError:
            raise InstanceTimeout(
                f"the worker did not answer to {operation!r} in {_within_s + _GRACE_S:g} s"
            ) from None
        except OSError:
            answer = None
        if answer is None:
            raise InstanceFailed(f"the worker of {self.name!r} died during {operation!r}")
        self.lost = False
        if "error" not in answer:
            return answer["ok"]
        if answer["kind"] == "timeout":
            raise wire.unpack_timeout(answer["error"])
        raise InstanceFailed(answer["error"])


@contextmanager
def worker(name: str) -> Iterator[RemoteBackend]:
    """A warmed worker for the backend *name*; gone, with all it started, when the block is left.

    Raises InstanceFailed if it cannot start, BenchmarkError for an unknown name.
    """
    if name not in BACKENDS:
        raise BenchmarkError(
            f"unknown backend {name!r}", remedy=f"choose from {', '.join(BACKENDS)}"
        )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = _spawn(name, theirs)
        theirs.close()
        line = wire.Line(ours)
        backend = RemoteBackend(name, line, process.pid)
        try:
            if line.receive(_PREPARE_S) is None:
                raise InstanceFailed(
                    f"the worker of {name!r} did not start", remedy=_said(process)
                )
            yield backend
        finally:
            line.close()
            _end(process, patient=not backend.lost)


def _spawn(name: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmarks.worker", name, str(theirs.fileno()),
         str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[theirs.fileno()],
        env=environment | {"PYTHONPATH": str(_ROOT)},
        start_new_session=True,  # Ctrl-C is the harness's to handle: it hangs up
    )  # fmt: skip


def _said(process: subprocess.Popen[bytes]) -> str | None:
    _, stderr = process.communicate(timeout=_END_S)
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else None


def _end(process: subprocess.Popen[bytes], *, patient: bool) -> None:
    """Wait for the worker to tidy up and end; one that is lost or busy is told to, then killed.

    What it could not tidy up any more is removed here.
    """
    if not patient:
        process.terminate()
    try:
        process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    if process.returncode:
        from benchmarks.remains import sweep  # noqa: PLC0415 - only for one that could not

        sweep()
