"""The images that a Dockerfile names: those that are here, and those that a registry has."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.build.model import BuildPlan, CopyStep, FromImage, Origin, Paths, RunStep, Tree
from runtime.build.progress import Prelude, Vertex
from runtime.build.task import located
from runtime.errors import ImageError
from runtime.image import Image, Store, find_image, parse_reference
from runtime.image.document import parse_document
from runtime.image.progress import Transfer
from runtime.image.show import amount

When = Literal["never", "missing", "always"]

_SAY_NS = 2 * 10**9


@dataclass(slots=True, kw_only=True)
class Bases:
    """Finds images for one build, each once; *when* says which are pulled, and each pull is shown.

    *platform* is what is pulled where the Dockerfile does not say.
    """

    store: Store
    prelude: Prelude
    when: When = "missing"
    platform: str | None = None
    _known: dict[str, Image] = field(default_factory=dict, init=False)

    def config(self, reference: str, platform: str | None) -> Mapping[str, Any]:
        """The config of the image *reference*. Raises ImageError."""
        image = self.find(reference, platform or self.platform)
        raw = self.store.read_blob(image.manifest.config)
        config: Mapping[str, Any] = parse_document(raw, reference)["config"].value or {}
        return config

    def find(self, reference: str, platform: str | None = None) -> Image:
        """The image *reference*. Raises ImageError if it is not here and cannot come."""
        if reference not in self._known:
            self._known[reference] = self._find(reference, platform)
        return self._known[reference]

    def find_others(self, plan: BuildPlan, file: str) -> None:
        """Have what *plan* copies from and mounts too. Raises BuildError that names the line."""
        for tree, origin in _trees(plan):
            if isinstance(tree, FromImage):
                with located(file, origin):
                    self.find(tree.reference, self.platform)

    def _find(self, reference: str, platform: str | None) -> Image:
        missing: ImageError | None = None
        if self.when != "always":
            try:
                return find_image(self.store, reference)
            except ImageError as error:
                missing = error
        if self.when == "never":
            raise ImageError(
                f"there is no image {reference!r} here",
                remedy="leave --pull=never out to have it pulled, or build it first",
            ) from missing
        return self._pull(reference, platform)

    def _pull(self, reference: str, platform: str | None) -> Image:
        from runtime.image.registry.access import Access  # noqa: PLC0415 - an HTTP client
        from runtime.image.registry.choice import parse_platform  # noqa: PLC0415
        from runtime.image.registry.places import read_settings  # noqa: PLC0415
        from runtime.image.registry.pull import pull  # noqa: PLC0415

        with self.prelude.step(f"[pull] {reference}") as vertex:
            try:
                done = pull(
                    self.store,
                    parse_reference(reference),
                    Access(settings=read_settings()),
                    platform=None if platform is None else parse_platform(platform),
                    watcher=_Teller(self.prelude, vertex),
                )
            except ImageError as error:
                here = "" if self.when == "always" else "is not here and "
                raise ImageError(
                    f"{reference!r} {here}cannot be pulled: {error.message}",
                    remedy=error.remedy or "see 'isoscope image ls', or build it first",
                ) from error
            said = f"{done.image.digest} from {done.source}, {amount(done.downloaded_bytes)}\n"
            self.prelude.watch.output(vertex, said.encode())
        return done.image


@dataclass(slots=True)
class _Teller:
    """Says now and then how much has come."""

    prelude: Prelude
    vertex: Vertex
    _said_ns: int = field(default_factory=time.monotonic_ns)

    def shows(self, transfers: Sequence[Transfer]) -> None:
        """Called several times a second, by one thread."""
        self.prelude.watch.tick()
        now_ns = time.monotonic_ns()
        if now_ns - self._said_ns > _SAY_NS:
            self._said_ns = now_ns
            done_bytes = sum(each.done_bytes for each in transfers)
            total_bytes = sum(each.total_bytes for each in transfers)
            line = f"{amount(done_bytes)} of {amount(total_bytes)}\n"
            self.prelude.watch.output(self.vertex, line.encode())


def _trees(plan: BuildPlan) -> Iterator[tuple[Tree | None, Origin]]:
    """What the steps of *plan* take files from."""
    for stage in plan.stages:
        for step in stage.steps:
            if isinstance(step, CopyStep):
                for source in step.sources:
                    if isinstance(source, Paths):
                        yield source.tree, step.origin
            elif isinstance(step, RunStep):
                for mount in step.mounts:
                    yield mount.tree, step.origin
