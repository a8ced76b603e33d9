"""Feeds a running program its input and gathers its output, each byte once, apart, in bounds."""

import os
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from runtime.errors import RuntimeFault

_CHUNK_BYTES = 1 << 16
MOST_KEPT_BYTES = 64 << 20
"""Of each stream; it is our memory, no limit of the instance's counts it."""

_LAST_READS = 64
"""How often a pipe is read after its writer has ended: more than a pipe can hold."""


class TooMuchOutput(RuntimeFault):
    """The program wrote more than is kept; it has to be ended."""

    def __init__(self) -> None:
        super().__init__(
            f"more than {MOST_KEPT_BYTES >> 20} MiB of output",
            remedy="write large output to a file inside",
        )


@dataclass(slots=True)
class Pipes:
    """Three pipes between a program and us. The child's ends are given to it, then closed."""

    child: tuple[int, int, int]
    stdin: int
    stdout: int
    stderr: int

    @classmethod
    def open(cls) -> "Pipes":
        """Make the pipes; all ends are close-on-exec."""
        in_read, in_write = os.pipe2(os.O_CLOEXEC)
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        err_read, err_write = os.pipe2(os.O_CLOEXEC)
        return cls(
            child=(in_read, out_write, err_write), stdin=in_write, stdout=out_read, stderr=err_read
        )

    def close_child(self) -> None:
        """Give up the child's ends, so that the end of its output is seen."""
        for fd in self.child:
            os.close(fd)
        self.child = (-1, -1, -1)

    def close(self) -> None:
        """Give up all that is still open."""
        for fd in (*self.child, self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)
        self.child, self.stdin, self.stdout, self.stderr = (-1, -1, -1), -1, -1, -1


class Gathering:
    """The output of one program so far, and when its first byte arrived (CLOCK_MONOTONIC)."""

    def __init__(self, pipes: Pipes, stdin: bytes) -> None:
        self._pipes = pipes
        self._input = memoryview(stdin)
        self._parts: dict[int, list[bytes]] = {pipes.stdout: [], pipes.stderr: []}
        self._stdout, self._stderr = pipes.stdout, pipes.stderr
        self._open = {pipes.stdout, pipes.stderr}
        self._kept_bytes = dict.fromkeys(self._open, 0)
        self.first_output_ns: int | None = None
        for fd in (pipes.stdin, pipes.stdout, pipes.stderr):
            os.set_blocking(fd, False)

    @property
    def stdout(self) -> bytes:
        """What arrived on standard output."""
        return b"".join(self._parts[self._stdout])

    @property
    def stderr(self) -> bytes:
        """What arrived on standard error."""
        return b"".join(self._parts[self._stderr])

    def until_exit(self, pidfd: int, *, deadline_ns: int) -> int | None:
        """Move bytes until the process of *pidfd* has ended; when, or None past the deadline.

        What the ended process left in the pipes is read too; what its descendants may write
        later is not waited for.
        """
        if not self._move(pidfd, deadline_ns, enough=lambda: False):
            return None
        exit_ns = time.monotonic_ns()
        self._drain()
        return exit_ns

    def until_output(self, pidfd: int, *, deadline_ns: int) -> bool:
        """Move bytes until the first one arrived; False if the end or the deadline came before."""
        self._move(pidfd, deadline_ns, enough=lambda: self.first_output_ns is not None)
        return self.first_output_ns is not None

    def _move(self, pidfd: int, deadline_ns: int, *, enough: Callable[[], bool]) -> bool:
        """Move bytes until *enough*, the process's end (True) or the deadline (False)."""
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ)
            for fd in self._open:
                selector.register(fd, selectors.EVENT_READ)
            self._offer_input(selector)
            while not enough():
                left_ns = deadline_ns - time.monotonic_ns()
                ready = {key.fd for key, _ in selector.select(max(0, left_ns) / 1e9)}
                if not ready or left_ns <= 0:
                    return False
                for fd in ready - {pidfd}:
                    self._serve(selector, fd)
                if pidfd in ready:
                    return True
        return False

    def _offer_input(self, selector: selectors.BaseSelector) -> None:
        if self._pipes.stdin < 0:
            return
        if self._input:
            selector.register(self._pipes.stdin, selectors.EVENT_WRITE)
        else:
            self._close_input()

    def _serve(self, selector: selectors.BaseSelector, fd: int) -> None:
        if fd == self._pipes.stdin:
            self._feed(selector)
        elif not self._take(fd):
            selector.unregister(fd)
            self._open.discard(fd)

    def _feed(self, selector: selectors.BaseSelector) -> None:
        try:
            written = os.write(self._pipes.stdin, self._input[:_CHUNK_BYTES])
        except BrokenPipeError:
            written = len(self._input)  # nobody reads it any more
        self._input = self._input[written:]
        if not self._input:
            selector.unregister(self._pipes.stdin)
            self._close_input()

    def _close_input(self) -> None:
        os.close(self._pipes.stdin)
        self._pipes.stdin = -1

    def _take(self, fd: int) -> bool:
        """Read once; False at the end of the stream."""
        chunk = os.read(fd, _CHUNK_BYTES)
        if chunk and self.first_output_ns is None:
            self.first_output_ns = time.monotonic_ns()
        self._kept_bytes[fd] += len(chunk)
        if self._kept_bytes[fd] > MOST_KEPT_BYTES:
            raise TooMuchOutput
        self._parts[fd].append(chunk)
        return bool(chunk)

    def _drain(self) -> None:
        for fd in self._open:
            # A descendant may hold the pipe; what it goes on writing is not the command's.
            with suppress(BlockingIOError):
                for _ in range(_LAST_READS):
                    if not self._take(fd):
                        break
