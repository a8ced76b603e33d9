"""A container's changes as an image: one more layer on those that it was made from."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from runtime.build.state import Layer, state_of
from runtime.container.kept import finding
from runtime.container.kept.kept import Kept
from runtime.container.kept.record import standing
from runtime.container.state import groups_of
from runtime.errors import RuntimeFault
from runtime.image import Image, Store, parse_reference, write_layer
from runtime.image.manifest import CONFIG_TYPE, MANIFEST_TYPE

_FREEZE_LIMIT_S = 5.0


def commit(kept: Kept, name: str, *, message: str = "") -> Image:
    """The image *name*: what *kept* stands on, and what it wrote until now.

    It holds still meanwhile, if it runs. Volumes are no part of it. Raises ImageError,
    RuntimeFault; then there is no such image.
    """
    parse_reference(name)
    store = Store()
    with finding.changing(kept.directory) as record, ExitStack() as still:
        base = store.resolve(record.image)
        if standing(kept.directory, record).state == "running":
            still.enter_context(_frozen(kept.directory))
            os.sync()  # what was written through mappings is in the files
        with store.writing():
            written = write_layer(store, kept.directory / "upper")
            still.close()
            state = state_of(
                base,
                store.read_blob(base.manifest.config),
                int(datetime.now(UTC).timestamp()),
            )
            text = message or f"commit of {record.name}: {' '.join(record.argv)}"
            layer = Layer(blob=written.descriptor, diff_id=written.diff_id)
            state = state.after(text, layer, state.config)
            config = store.write_blob(state.config_document(), CONFIG_TYPE)
            manifest = store.write_blob(state.manifest_document(config), MANIFEST_TYPE)
            return store.tag(manifest.digest, name)


@contextmanager
def _frozen(directory: Path) -> Iterator[None]:
    """No process of the container runs inside the block, where the kernel can hold them.

    Sources: cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst (cgroup.freeze).
    """
    switches = [
        (path, on, off)
        for group in groups_of(directory)
        for path, on, off in (
            (group / "freezer.state", "FROZEN", "THAWED"),
            (group / "cgroup.freeze", "1", "0"),
        )
        if path.exists()
    ]
    try:
        for path, on, _ in switches:
            path.write_text(on)
        deadline_ns = time.monotonic_ns() + int(_FREEZE_LIMIT_S * 1e9)
        while not all(map(_is_frozen, switches)) and time.monotonic_ns() < deadline_ns:
            time.sleep(0.002)  # v1 tells of it by no event
        if not all(map(_is_frozen, switches)):
            raise RuntimeFault(
                f"container {directory.name} does not hold still", remedy="stop it first"
            )
        yield
    finally:
        for path, _, off in switches:
            with suppress(OSError):
                path.write_text(off)


def _is_frozen(switch: tuple[Path, str, str]) -> bool:
    path, on, _ = switch
    if path.name == "cgroup.freeze":
        return "frozen 1" in path.with_name("cgroup.events").read_text()
    return path.read_text().strip() == on
