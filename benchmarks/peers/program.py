"""A peer's command line, started with pipes: its bytes, its end, and the certainty of it."""

import os
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import meters
from runtime.container.launch.streams import Gathering, Pipes
from runtime.errors import RuntimeFault


class PeerFailed(RuntimeFault):
    """The peer could not do what was asked of it; the sentence is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: status (128+n for signal n), output, and when (CLOCK_MONOTONIC)."""

    status: int
    stdout: bytes
    stderr: bytes
    exit_ns: int


class Program:
    """A running program, or what it left. *argv[0]* is a path; *extra* becomes descriptor 3."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: bytes = b"",
        extra: int | None = None,
    ) -> None:
        self._pipes = Pipes.open()
        given = (*self._pipes.child, *(() if extra is None else (extra,)))
        try:
            self.pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(env),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for at, fd in enumerate(given)],
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM),
                setsigmask=(),
            )
        except OSError as error:
            self._pipes.close()
            raise PeerFailed(f"{argv[0]} cannot be started: {error.strerror}") from error
        self.started_ns = time.monotonic_ns()
        self.pidfd = os.pidfd_open(self.pid)
        self._pipes.close_child()
        self.gathering = Gathering(self._pipes, stdin)
        self._status: int | None = None

    def finish(self, timeout_s: float) -> Ended | None:
        """Wait for the end, moving bytes; None if it has not come after *timeout_s*."""
        deadline_ns = time.monotonic_ns() + int(timeout_s * 1e9)
        exit_ns = self.gathering.until_exit(self.pidfd, deadline_ns=deadline_ns)
        if exit_ns is None:
            return None
        return Ended(
            status=self.poll(None) or 0,
            stdout=self.gathering.stdout,
            stderr=self.gathering.stderr,
            exit_ns=exit_ns,
        )

    def poll(self, timeout_s: float | None = 0) -> int | None:
        """The exit status, or None if it still runs after *timeout_s*."""
        if self._status is None and select.select([self.pidfd], [], [], timeout_s)[0]:
            _, raw = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(raw)
            self._status = 128 - code if code < 0 else code
        return self._status

    def close(self) -> None:
        """Kill it if it still runs, and give the descriptors back."""
        if self.poll() is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.poll(None)
        os.close(self.pidfd)
        self._pipes.close()


@contextmanager
def started(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes = b""
) -> Iterator[Program]:
    """A program that is dead when the block is left."""
    program = Program(argv, env=env, stdin=stdin)
    try:
        yield program
    finally:
        program.close()


def said(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes = b"", timeout_s: float = 120.0
) -> bytes:
    """What a program prints. Raises PeerFailed with its own last words."""
    with started(argv, env=env, stdin=stdin) as program:
        ended = program.finish(timeout_s)
    if ended is None:
        raise PeerFailed(f"{' '.join(argv[:6])} … did not end within {timeout_s:g} s")
    if ended.status != 0:
        raise PeerFailed(f"{argv[0]}: {last_words(ended)}")
    return ended.stdout


def last_words(ended: Ended) -> str:
    """The end of what a program wrote to standard error, in one line."""
    return " ".join(ended.stderr.decode(errors="replace").split())[-300:] or (
        f"exit status {ended.status}"
    )


def end_descendants(*, spare: Collection[int] = ()) -> None:
    """Kill and reap what descends from us, but *spare*; a subreaper inherits all orphans."""
    while pids := [
        p for p in meters.descendants(os.getpid()) if p not in spare and _ends_by_us(p)
    ]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):  # it comes to us when its parent has ended
                os.waitpid(pid, 0)


def _ends_by_us(pid: int) -> bool:
    """Whether it lives, or is dead and ours to reap; proc(5): state and parent in stat."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return False
    return state != "Z" or int(parent) == os.getpid()
