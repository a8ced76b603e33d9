"""Tries something in a process of its own, which takes all that it changed along when it ends.

A process that made a namespace, mounted in it or gave up rights cannot go back; so nothing of
that kind is tried in the caller. The process dies with the caller, however that ends.
"""

import os
import select
import signal
from collections.abc import Callable
from typing import NoReturn

from runtime import syscalls
from runtime.container.interrupts import INTERRUPTS, delivered, held
from runtime.errors import RuntimeFault
from runtime.waiting import readable

_LIMIT_S = 5.0
_FINE = b"+"


def refusal(action: Callable[[], None]) -> str | None:
    """Do *action* in a process of its own: None if it returned, else one clause on why not.

    *action* says no by raising RuntimeFault or OSError. Call this from a process with one thread.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    with held() as before:  # until the child is known, and until it is gone
        child = syscalls.clone(0)
        if child == 0:
            _try(action, writer, parent)
        os.close(writer)
        try:
            with delivered(before):
                return _answer(reader)
        finally:
            os.close(reader)
            os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
            os.waitpid(child, 0)


def _try(action: Callable[[], None], writer: int, parent: int) -> NoReturn:
    try:
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        die_with(parent)
        action()
        os.write(writer, _FINE)
    except RuntimeFault as error:
        os.write(writer, error.message.encode())
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        os.write(writer, f"{subject}{error.strerror}".encode())
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here
        os.write(writer, repr(error).encode())
    finally:
        os._exit(0)


def die_with(parent: int) -> None:
    """Be killed when *parent*, which started us, dies; to be said again after a change of user."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _answer(reader: int) -> str | None:
    if not readable(reader, timeout_s=_LIMIT_S):
        return f"no answer in {_LIMIT_S:g} s"
    said = os.read(reader, select.PIPE_BUF)
    if said == _FINE:
        return None
    return said.decode(errors="replace") or "the process that tried it was killed"
