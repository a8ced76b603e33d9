"""What a step takes, as hashes: enough to look it up in the cache, without running anything.

The front of a build asks with nothing but the context at hand; what only the files of a stage
could tell, and nobody noted before, is then unknown, and a worker that can open them asks again.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from runtime.build.ignore import exclusions
from runtime.build.keys import copy_key, directory_key, run_key, selection_key
from runtime.build.model import (
    CopyStep,
    DirectoryStep,
    Download,
    FromContext,
    FromStage,
    Mount,
    Paths,
    RunStep,
    Source,
    Text,
    Tree,
)
from runtime.build.sources import Chosen, SourceTree, digest_of
from runtime.build.state import State, state_of
from runtime.image import Store, find_image

Opener = Callable[[State], AbstractContextManager[SourceTree]]


class UnknownError(Exception):
    """It cannot be told without opening a stage or fetching something."""


@dataclass(slots=True, kw_only=True)
class Inputs:
    """Answers for the steps of one build. *states* are the stages that are finished.

    *recall* and *note* are the cache's; *opened* gives the files of a state, *fetched* the hash
    of a download: both only where that is possible.
    """

    store: Store
    context: SourceTree
    epoch_s: int
    states: Mapping[int, State]
    recall: Callable[[str], str | None]
    note: Callable[[str, str], None]
    opened: Opener | None = None
    fetched: Callable[[Download], str] | None = None
    _images: dict[str, State] = field(default_factory=dict, init=False)

    def key(self, step: RunStep | CopyStep | DirectoryStep, below: State) -> str:
        """What *step* on *below* is cached under. Raises UnknownError, BuildError."""
        parent = below.chain_id
        match step:
            case RunStep():
                shown = [self._shown(mount) for mount in step.mounts]
                return run_key(parent, step, shown=shown, epoch_s=self.epoch_s)
            case CopyStep():
                sources = [self._brought(source, step) for source in step.sources]
                return copy_key(parent, step, sources=sources, epoch_s=self.epoch_s)
            case DirectoryStep():
                return directory_key(parent, step, epoch_s=self.epoch_s)

    def state(self, tree: Tree) -> State:
        """The stage or image that *tree* names."""
        if isinstance(tree, FromStage):
            return self.states[tree.index]
        if isinstance(tree, FromContext):
            raise TypeError("the context is no state")
        return self.image_state(tree.reference)

    def image_state(self, reference: str) -> State:
        """The image *reference*, found once in a build, so that it stays the same."""
        if reference not in self._images:
            image = find_image(self.store, reference)
            raw = self.store.read_blob(image.manifest.config)
            self._images[reference] = state_of(image, raw, self.epoch_s)
        return self._images[reference]

    def chosen(self, tree: SourceTree, source: Paths, step: CopyStep) -> list[list[Chosen]]:
        """What each pattern of *source* brings, from its opened *tree*."""
        rules = exclusions(step.exclude)
        hides = rules.hides if step.exclude else None
        return [tree.choose(pattern, exclude=hides) for pattern in source.patterns]

    def _brought(self, source: Source, step: CopyStep) -> str:
        match source:
            case Text():
                return hashlib.sha256(source.data).hexdigest()
            case Download():
                return source.checksum or self._fetch(source)
            case Paths(tree=FromContext()):
                return self._hash(self.context, source, step)
            case Paths():
                return self._in_stage(source, step)

    def _in_stage(self, source: Paths, step: CopyStep) -> str:
        state = self.state(source.tree)
        name = selection_key(state.chain_id, source.patterns, step.exclude)
        known = self.recall(name)
        if known is None:
            if self.opened is None:
                raise UnknownError
            with self.opened(state) as tree:
                known = self._hash(tree, source, step)
            self.note(name, known)
        return known

    def _hash(self, tree: SourceTree, source: Paths, step: CopyStep) -> str:
        every = [each for found in self.chosen(tree, source, step) for each in found]
        return digest_of(every, owned=tree.owned)

    def _fetch(self, source: Download) -> str:
        if self.fetched is None:
            raise UnknownError
        return self.fetched(source)

    def _shown(self, mount: Mount) -> str:
        """Only what a bind mount shows counts; what a cache holds must make no difference."""
        if mount.kind != "bind":
            return ""
        if isinstance(mount.tree, FromContext):
            return digest_of(self.context.choose(mount.source.strip("/")), owned=False)
        return self.state(mount.tree).chain_id
