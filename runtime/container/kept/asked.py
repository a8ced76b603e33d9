"""The short way to containers that outlive the program.

with runtime.create("busybox", ["sleep", "60"], name="web") as web:
    web.start()
    web.exec(["id"], timeout_s=5).stdout
    web.stats().memory_bytes

Leaving the block removes it; without a block it stays until ``delete``.
"""

from collections.abc import Mapping, Sequence

from runtime.container.container import Options
from runtime.container.kept.finding import find, records
from runtime.container.kept.kept import Kept
from runtime.container.spec import Limits
from runtime.container.state import sweep
from runtime.image import Image, Store, find_image


def create(  # noqa: PLR0913 - each is an option of one call
    image: Image | str,
    argv: Sequence[str] = (),
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    user: str | None = None,
    memory_bytes: int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
) -> Kept:
    """A container of *argv*, or of the image's own command, that waits for ``start``.

    Raises RuntimeFault and its kinds; then there is none.
    """
    sweep()
    found = find_image(Store(), image) if isinstance(image, str) else image
    return Kept.create(
        found,
        found.config.command(argv),
        Options(
            env=env or {},
            cwd=cwd,
            user=user,
            limits=Limits(memory_bytes=memory_bytes, cpus=cpus, pids=pids),
        ),
        name=name,
        image_name=image if isinstance(image, str) else found.digest,
    )


def containers(name: str | None = None) -> tuple[Kept, ...]:
    """Those there are, the oldest first; with *name* the one that it means. Raises SpecError."""
    if name is not None:
        return (Kept(find(name)),)
    return tuple(Kept(directory) for directory, _ in records())
