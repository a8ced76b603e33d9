"""Unpacked images for peers that read none: the same tree that our containers' layers make."""

from pathlib import Path

from benchmarks.backend import InstanceSpec, Preparation
from runtime.container.container import Options, process_spec
from runtime.container.spec import ProcessSpec
from runtime.image import Image, Store, unpacked

_PURPOSE = "peers"


class Trees:
    """The images asked for so far, looked up before any clock starts."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Image, Path]] = {}

    def prepare(self, digest: str) -> Preparation:
        """See ``Backend.prepare``."""
        store = Store()
        image = store.resolve(digest)
        made = unpacked(store, image, purpose=_PURPOSE)
        self._known[digest] = (image, made.path)
        return Preparation(
            duration_ns=made.duration_ns,
            disk_bytes=made.disk_bytes,
            cached=made.cached,
            method="layers verified and unpacked into a directory",
        )

    def process(self, spec: InstanceSpec) -> tuple[ProcessSpec, Path]:
        """What *spec* runs, with all that its image says, and the image's tree."""
        if spec.image not in self._known:
            self.prepare(spec.image)
        image, tree = self._known[spec.image]
        options = Options(env=spec.env, cwd=spec.cwd, user=spec.user)
        return process_spec(image, spec.argv, options, tree), tree
