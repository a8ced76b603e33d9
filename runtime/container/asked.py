"""The short way: one call that runs a command of an image, one block that holds a container.

import runtime

runtime.run("busybox", ["echo", "hello"]).stdout
with runtime.Container("busybox", memory_bytes=64 << 20) as running:
running.run(["id"])
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType

from runtime.container.container import Completed, Options, complete, container
from runtime.container.container import Container as Running
from runtime.container.interrupts import delivered, held
from runtime.container.launch.streams import Gathering, Pipes
from runtime.container.spec import Limits
from runtime.container.state import sweep
from runtime.errors import Unsupported
from runtime.image import Image, Store, find_image

DEFAULT_LIMIT_S = 60.0
"""How long a command may take unless someone says otherwise: a notebook must not hang for ever."""


def run(  # noqa: PLR0913 - each is an option of one call
    image: Image | str,
    argv: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    timeout_s: float = DEFAULT_LIMIT_S,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    memory_bytes: int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
) -> Completed:
    """Run *argv*, or the image's own command, in a container of its own, to its end.

    Nothing of the container is left. Raises RuntimeFault and its kinds: DeadlinePassed after
    *timeout_s*, CommandNotRunnable, ImageError, SpecError, Unsupported.
    """
    asked_ns = time.monotonic_ns()
    found = _found(image)
    limits = Limits(memory_bytes=memory_bytes, cpus=cpus, pids=pids)
    options = Options(env=env or {}, cwd=cwd, user=user, limits=limits)
    command = found.config.command(argv)
    with _piped(found, command, options, stdin) as (running, gathering):
        return complete(running.process, gathering, asked_ns, timeout_s=timeout_s)


class Container(AbstractContextManager[Running]):
    """A container that idles until commands are run in it; it exists while the block is open."""

    def __init__(
        self,
        image: Image | str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        memory_bytes: int | None = None,
        cpus: float | None = None,
        pids: int | None = None,
    ) -> None:
        self._image = image
        limits = Limits(memory_bytes=memory_bytes, cpus=cpus, pids=pids)
        self._options = Options(env=env or {}, cwd=cwd, user=user, limits=limits)
        self._open = ExitStack()

    def __enter__(self) -> Running:
        """Start it. Raises RuntimeFault and its kinds, and then nothing is left."""
        found = _found(self._image)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            stdio = (null, null, null)
            return self._open.enter_context(container(found, (), self._options, stdio=stdio))
        finally:
            os.close(null)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill what runs in it and remove all of it."""
        self._open.close()

    def _repr_html_(self) -> str:
        """What a notebook shows of a container that is not running yet."""
        from runtime.image import markup  # noqa: PLC0415 - only a notebook; a start must be light

        image = self._image if isinstance(self._image, str) else self._image.digest
        return markup.facts({"container of": image, "state": "starts with the block it is for"})


def _found(image: Image | str) -> Image:
    if os.geteuid() != 0:
        raise Unsupported(
            "containers need root, or a user namespace in which we are root",
            remedy="begin with runtime.rootless.enter(), or run this as root",
        )
    sweep()
    return find_image(Store(), image) if isinstance(image, str) else image


@contextmanager
def _piped(
    image: Image, argv: Sequence[str], options: Options, stdin: bytes
) -> Iterator[tuple[Running, Gathering]]:
    with held() as before, ExitStack() as undo:
        pipes = Pipes.open()
        undo.callback(pipes.close)
        running = undo.enter_context(container(image, argv, options, stdio=pipes.child))
        pipes.close_child()
        with delivered(before):
            yield running, Gathering(pipes, stdin)
