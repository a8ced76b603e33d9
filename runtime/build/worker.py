"""A process of its own for the work of one stage: stages are built at the same time.

A container is cloned from a process with one thread, so stages run in processes and not in
threads. A worker is a fork of the build with a mount namespace of its own: whatever it mounts is
gone when it ends, however it ends. It tells what happens as lines of JSON; it ends when it is
asked to (SIGTERM), and asks that of itself when the build dies.
"""

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from runtime import syscalls
from runtime.container.interrupts import end_on_termination
from runtime.errors import RuntimeFault

Said = dict[str, Any]
Tell = Callable[[Said], None]

_PATIENCE_MS = 10_000
"""How long a worker that was asked to end may take to clean up."""

_CHUNK_BYTES = 1 << 16


@dataclass(slots=True)
class Worker:
    """A running one: its process, and what it says."""

    pid: int
    pidfd: int
    channel: int
    _rest: bytes = field(default=b"", init=False)

    def hear(self) -> list[Said] | None:
        """What it said since; None when it has ended. Blocks until there is something."""
        chunk = os.read(self.channel, _CHUNK_BYTES)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> int:
        """Ask it to end if it has not, wait for that, give everything back; its wait status."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
            if not poller.poll(_PATIENCE_MS):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        os.close(self.channel)
        return status


def start_worker(job: Callable[[Tell], None]) -> Worker:
    """Fork a process that does *job*, which is given the way to tell."""
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        _work(job, theirs, parent)
    os.close(theirs)
    return Worker(pid=pid, pidfd=os.pidfd_open(pid), channel=ours)


def _work(job: Callable[[Tell], None], channel: int, parent: int) -> NoReturn:
    """Do the job and end; never returns into the code of who forked us."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the build decides
        end_on_termination()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
        job(lambda said: _tell(channel, said))
        status = 0
    except RuntimeFault as error:
        _last_words(channel, {"event": "fault", "message": error.message, "remedy": error.remedy})
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        _last_words(channel, {"event": "broken", "why": traceback.format_exc()})
    finally:
        os._exit(status)


def _last_words(channel: int, said: Said) -> None:
    with suppress(OSError):  # nobody may be left to hear them
        _tell(channel, said)


def _tell(channel: int, said: Said) -> None:
    left = memoryview(json.dumps(said).encode() + b"\n")
    while left:
        left = left[os.write(channel, left) :]
