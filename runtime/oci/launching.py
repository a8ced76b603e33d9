"""Starts the compiled executor with a plan, for a process that is light and soon gone.

What ``container.launch.process`` does for whoever stays, with the same executor and the same
words, but for plans that wait several times; and without the modules that would double the start.
"""

import _socket
import fcntl
import os
import select
from collections.abc import Callable

from runtime.container.launch.program import (
    CLONE,
    CONSOLE,
    FIRST_FREE,
    GATE,
    INIT,
    JOIN,
    OWNER,
    PROGRAM,
    STATUS,
    Program,
    assemble,
    read_report,
)
from runtime.container.launch.recipe import EXECUTOR, program_name
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, StepError, SyscallError
from runtime.oci.plan import HOOKS

_LIMIT_S = 30.0
_RESET = (1, 2, 13, 15, 17, 25)  # HUP INT PIPE TERM CHLD XFSZ: signal(7), as compiled.RESET
_EVERY = (*range(1, 32), *range(34, 65))  # 32 and 33 are the C library's
_SEQPACKET, _CMSG_CLOEXEC = 5, 0x40000000
_SEALABLE, _ADD_SEALS, _ALL_SEALS = 3, 1033, 0xF


class Started:
    """A process that the executor made. Leave it, or wait for it; else it dies with us."""

    def __init__(self, pid: int, pidfd: int, executor: int, owner: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._executor = executor
        self._owner = owner

    def leave(self) -> None:
        """Let it live on without us; whoever adopts orphans is told of its end."""
        os.write(self._owner, b"L")
        os.waitpid(self._executor, 0)

    def wait(self) -> int:
        """Its exit status, as a shell gives it."""
        said = os.read(self._owner, 4)
        os.close(self._owner)
        os.waitpid(self._executor, 0)
        return int.from_bytes(said, "little") if said else 137

    def kill(self) -> None:
        """End it, by hanging up on its executor."""
        os.close(self._owner)
        os.waitpid(self._executor, 0)


def launch(
    plan: Plan,
    *,
    streams: tuple[int, int, int] = (0, 1, 2),
    init: int = -1,
    gate: int = -1,
    console: int = -1,
    at: Callable[[int], None] = lambda _pid: None,
) -> Started:
    """Run *plan* until it waits to be started (``W``), or has become its program.

    Where it waits for hooks, *at* is called with the pid, and it goes on. Raises StepError,
    SyscallError, RuntimeFault; then nothing of it is left.
    """
    program = assemble(plan, os.uname().machine)
    memory = _memory("plan", program.image)
    status, status_theirs = os.pipe2(os.O_CLOEXEC)
    ours, theirs = _socket.socketpair(1, _SEQPACKET | 0o2000000)
    given = {0: streams[0], 1: streams[1], 2: streams[2], STATUS: status_theirs, INIT: init,
             GATE: gate, CONSOLE: console, PROGRAM: memory, OWNER: theirs.fileno()}  # fmt: skip
    try:
        executor = _spawn({number: fd for number, fd in given.items() if fd >= 0})
    finally:
        os.close(status_theirs)
        theirs.close()
    try:
        return _introduce(plan, program, memory, status, ours, executor, gate, at)
    except BaseException:
        ours.close()
        os.waitpid(executor, 0)
        raise
    finally:
        os.close(memory)
        os.close(status)


def _introduce(
    plan: Plan,
    program: Program,
    memory: int,
    status: int,
    ours: _socket.socket,
    executor: int,
    gate: int,
    at: Callable[[int], None],
) -> Started:
    pid, pidfd = -1, -1
    said = b""
    while word := _heard(status):
        said += word
        if pid < 0:
            raw, ancillary, _, _ = ours.recvmsg(4, 24, _CMSG_CLOEXEC)
            if not ancillary:
                break
            pid = int.from_bytes(raw, "little")
            pidfd = int.from_bytes(ancillary[0][2][:4], "little")
        if word == b"W" or len(said) > 8:
            break
        if word == HOOKS:
            at(pid)
            os.write(gate, b"G")
    if pid >= 0 and said.endswith((b"W", b"E")):
        return Started(pid, pidfd, executor, ours.detach())
    ours.shutdown(2)
    raise _error(plan, read_report(program, os.pread(memory, len(program.image), 0)).failure, said)


def _heard(status: int) -> bytes:
    if not select.select([status], [], [], _LIMIT_S)[0]:
        return b""
    word = os.read(status, 1)
    if word == b"E":
        rest = os.read(status, 4)  # nothing when the exec succeeded
        return word + rest
    return word


def _error(plan: Plan, failure: tuple[int, int, int] | None, said: bytes) -> RuntimeFault:
    if b"E" in said:
        number = int.from_bytes(said.partition(b"E")[2][:4], "little")
        words = plan.inside[-1].args[1]
        name = words[words.index("") + 1] if isinstance(words, tuple) else ""
        return not_runnable(str(name), number)
    if failure is None:
        return RuntimeFault("the process was ended before its program ran")
    part, index, number = failure
    if part == CLONE:
        return SyscallError(number, "clone", f"{plan.clone_flags:#x}")
    step = (plan.join if part == JOIN else plan.inside)[index]
    subject = next((str(a) for a in step.args if isinstance(a, str) and a), str(step.args[:1]))
    return StepError(number, step.call, subject, index=index, reason=step.reason, remedy=None)


def not_runnable(name: str, number: int) -> RuntimeFault:
    """What engines above recognise: they turn the words into exit status 127 or 126."""
    why = os.strerror(13 if number == 21 else number).lower()
    if number in {2, 9}:
        why = f"stat {name}: no such file or directory"
        if "/" not in name:
            why = "executable file not found in $PATH"
    return RuntimeFault(f'unable to start container process: exec: "{name}": {why}')


def _spawn(descriptors: dict[int, int]) -> int:
    """Start the executor from a sealed memory file (CVE-2019-5736); its pid."""
    sealed = _memory("isoscope", _code())
    fcntl.fcntl(sealed, _ADD_SEALS, _ALL_SEALS)
    copies = [sealed]
    try:
        moves = []
        for target, fd in descriptors.items():
            if fd != target and fd < FIRST_FREE:
                fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)  # noqa: PLW2901
                copies.append(fd)
            moves.append((os.POSIX_SPAWN_DUP2, fd, target))
        if sealed < FIRST_FREE:
            sealed = fcntl.fcntl(sealed, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
            copies.append(sealed)
        return os.posix_spawn(
            f"/proc/self/fd/{sealed}", ("isoscope",), {},
            file_actions=moves, setsigmask=_EVERY, setsigdef=_RESET,
        )  # fmt: skip
    finally:
        for fd in copies:
            os.close(fd)


def _code() -> bytes:
    home = os.environ.get("ISOSCOPE_HOME") or "/var/lib/isoscope"
    name = program_name(EXECUTOR, os.uname().machine)
    try:
        with open(f"{home}/programs/{name}", "rb") as file:
            return file.read()
    except OSError:
        from runtime.oci import lean  # noqa: PLC0415 - once a machine

        lean.remove()
        from runtime.container.launch import compiled  # noqa: PLC0415

        if (why := compiled.obstacle()) is not None:
            raise why from None
        with open(f"{home}/programs/{name}", "rb") as file:
            return file.read()


def _memory(name: str, content: bytes) -> int:
    descriptor = os.memfd_create(name, _SEALABLE)
    os.write(descriptor, content)
    return descriptor
