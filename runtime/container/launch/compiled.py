"""The executor as a program of this machine: compiled once, kept by its source, run from memory.

It is never executed from the file that is kept: each start gets a copy in a sealed memory file,
so that nothing which a container may do to its parent's program outlives it (CVE-2019-5736).
"""

import fcntl
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self

from runtime.container.launch.program import (
    FIRST_FREE,
    PROGRAM,
    Report,
    assemble,
    read_report,
)
from runtime.container.launch.recipe import ALL_FLAGS, EXECUTOR, FLAGS, program_name
from runtime.container.steps import Plan
from runtime.errors import RuntimeFault, Unsupported
from runtime.image import cache_dir, state_dir

_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2  # memfd_create(2)
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF  # fcntl(2): SEAL, SHRINK, GROW, WRITE
_COMPILE_LIMIT_S = 60
_REMEDY = "apt-get install gcc"

RESET = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP,
)  # fmt: skip
"""What Python, or whoever started it, may ignore; a program expects the default."""
_EVERY = tuple(map(int, signal.valid_signals()))
"""The executor must not be ended by what a terminal sends to everybody."""


class CompiledExecution:
    """One plan for ``executor.c``: the program in memory that it reads, and reports in.

    With *writes_end* the end is written down. Raises Unsupported where there is no executor.
    """

    def __init__(self, plan: Plan, *, writes_end: bool) -> None:
        self._code, why = _made(Path(EXECUTOR), os.uname().machine, state_dir())
        if why is not None:
            raise why
        self._program = assemble(plan, os.uname().machine, writes_end=writes_end)
        self._memory = -1

    def __enter__(self) -> Self:
        """Put the program into memory."""
        self._memory = _memory("plan", self._program.image)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the memory back; the executor has given up its own share long since."""
        os.close(self._memory)

    def spawn(self, descriptors: Mapping[int, int]) -> int:
        """Start it with *descriptors*, number there -> number here; its pid."""
        given = {**descriptors, PROGRAM: self._memory}
        return spawn(self._code, ("isoscope",), {}, given)

    def report(self) -> Report:
        """What it has told so far."""
        return read_report(self._program, os.pread(self._memory, len(self._program.image), 0))


def spawn(
    code: bytes, argv: tuple[str, ...], env: Mapping[str, str], descriptors: Mapping[int, int]
) -> int:
    """Run the program *code* with *descriptors*, number there -> number here; its pid.

    No signal reaches it but those that nobody can hold back: a terminal sends to everybody.
    """
    with ExitStack() as undo:
        sealed = _memory("isoscope", code)
        undo.callback(os.close, sealed)
        fcntl.fcntl(sealed, _F_ADD_SEALS, _ALL_SEALS)
        program = _above(sealed, undo)
        moves = [
            (os.POSIX_SPAWN_DUP2, fd if fd == target else _above(fd, undo), target)
            for target, fd in descriptors.items()
        ]
        return os.posix_spawn(
            f"/proc/self/fd/{program}", argv, env,
            file_actions=moves, setsigmask=_EVERY, setsigdef=RESET,
        )  # fmt: skip


def obstacle() -> RuntimeFault | None:
    """Why there is no compiled executor here; None if there is one."""
    return _made(Path(EXECUTOR), os.uname().machine, state_dir())[1]


def program_of(source: Path) -> bytes:
    """What the freestanding C program *source* becomes on this machine. Raises Unsupported."""
    code, why = _made(source, os.uname().machine, state_dir())
    if why is not None:
        raise why
    return code


@cache
def _made(source: Path, machine: str, home: Path) -> tuple[bytes, RuntimeFault | None]:
    """The program, or why there is none: asked once, since compiling takes a moment."""
    try:
        target = cache_dir("programs") / program_name(str(source), machine)
        if not target.exists():
            _compile(source, machine, target)
        return target.read_bytes(), None
    except RuntimeFault as error:
        return b"", error
    except OSError as error:
        return b"", Unsupported(f"no {source.stem} in {home}: {error.strerror}")


def _compile(source: Path, machine: str, target: Path) -> None:
    """Make *target* whole or not at all. Raises Unsupported."""
    import shutil  # noqa: PLC0415 - needed once a machine, not once a start
    import subprocess  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    compiler = shutil.which("cc") or shutil.which("gcc")
    if machine not in FLAGS:
        raise Unsupported(f"the {source.stem} is not written for {machine}")
    if compiler is None:
        raise Unsupported(f"no C compiler to make the {source.stem}", remedy=_REMEDY)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
        draft = Path(scratch, target.name)
        argv = [compiler, *ALL_FLAGS, *FLAGS[machine], "-o", str(draft), str(source)]
        try:
            subprocess.run(
                argv, check=True, capture_output=True, text=True, timeout=_COMPILE_LIMIT_S
            )
        except subprocess.CalledProcessError as error:
            first = (error.stderr.strip() or "no message").splitlines()[0]
            raise Unsupported(
                f"the {source.stem} was not compiled: {first}", remedy=_REMEDY
            ) from None
        except subprocess.TimeoutExpired:
            raise Unsupported(f"the {source.stem} was not compiled in time") from None
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(target)


def _memory(name: str, content: bytes) -> int:
    """A file in memory that holds *content*. Raises Unsupported."""
    try:
        descriptor = os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    except OSError as error:
        raise Unsupported(
            f"no program can be run from memory here: {error.strerror}",
            remedy="sysctl vm.memfd_noexec=0",
        ) from None
    os.write(descriptor, content)
    return descriptor


def _above(fd: int, undo: ExitStack) -> int:
    """*fd*, or a copy of it where moving another descriptor into place would overwrite it."""
    if fd >= FIRST_FREE:
        return fd
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    undo.callback(os.close, copy)
    return copy
