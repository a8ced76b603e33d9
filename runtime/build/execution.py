"""Does one step of a stage and makes a layer of it. In a worker only: it mounts and clones."""

import io
import os
import selectors
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from runtime.build.archives import Unpacking, is_archive
from runtime.build.cache import Made
from runtime.build.copying import Copying, Manner, Owner
from runtime.build.downloading import Downloaded, download, name_of
from runtime.build.inputs import Inputs
from runtime.build.model import (
    CopyStep,
    DirectoryStep,
    Download,
    FromContext,
    Paths,
    RunStep,
    Source,
    Text,
)
from runtime.build.rootfs import Attributes, Rootfs
from runtime.build.shown import Shown, Shows
from runtime.build.sources import Chosen, SourceTree
from runtime.build.state import Layer, State
from runtime.build.stubs import remove_stubs, stubs
from runtime.build.task import WorkStep
from runtime.build.views import Views, reading, scratch
from runtime.container.container import Container, Options, container
from runtime.errors import BuildError
from runtime.image import Identity, Store, Times, identity, imitate, keep_snapshot, write_layer
from runtime.image.tree import attributes_of

Output = Callable[[bytes], None]
Keep = Callable[[Made], None]
HOST_NAME = "build"
"""What a RUN finds itself called; always the same, so that no layer tells builds apart."""

_CHUNK_BYTES = 1 << 16
_LAST_READS = 64
_MOST_ID = (1 << 31) - 1


class CommandFailed(BuildError):  # noqa: N818 - it failed, we did not
    """The command of a RUN ended with *status*."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the command ended with status {status}")
        self.status = status


@dataclass(slots=True, kw_only=True)
class Execution:
    """The steps of one build. *inputs* can open states and fetch."""

    store: Store
    inputs: Inputs
    views: Views
    shows: Shows
    epoch_s: int
    downloads: Path
    own_network: bool = False
    _fetched: dict[Download, Downloaded] = field(default_factory=dict, init=False)

    def make(self, step: WorkStep, below: State, output: Output, keep: Keep) -> Made:
        """Do *step* on *below*, and let what it made be kept by *keep*.

        Raises CommandFailed, BuildError and what the runtime raises.
        """
        with scratch() as directory:
            match step:
                case RunStep():
                    self._run(step, below, directory, output)
                case CopyStep():
                    self._copy(step, below, directory)
                case DirectoryStep():
                    self._make_directory(step, below, directory)
            with self.store.writing():  # a blob is no garbage before it is in the cache
                made = self._layer(directory / "upper", below)
                keep(made)
            return made

    def fetch(self, source: Download) -> str:
        """The hash of what *source* gives, which is kept for the step that wants it."""
        if source not in self._fetched:
            path = self.downloads / f"download-{len(self._fetched)}"
            self._fetched[source] = download(source, path)
        return self._fetched[source].digest

    # A layer

    def _layer(self, upper: Path, below: State) -> Made:
        """What *upper* came to: a layer, kept as a snapshot too, or nothing."""
        with self.views.lower(below) as lower:
            unchanged = not any(upper.iterdir()) and _same_root(upper, lower[0])
        if unchanged:
            return Made(layer=None)
        written = write_layer(self.store, upper, times=Times(epoch_s=self.epoch_s))
        diff_ids = [*(layer.diff_id for layer in below.layers), written.diff_id]
        keep_snapshot(upper, diff_ids, written)
        return Made(layer=Layer(blob=written.descriptor, diff_id=written.diff_id))

    # RUN

    def _run(self, step: RunStep, below: State, directory: Path, output: Output) -> None:
        with ExitStack() as opened:
            lower = opened.enter_context(self.views.lower(below))
            view = opened.enter_context(reading(lower, directory))
            shown = self.shows.of(step, view, directory, opened, network=self._network(step))
            made = stubs(view, [bind.target for bind in shown.binds])
            self._contain(step, shown, below, directory, output)
            remove_stubs(made, directory / "upper", view)

    def _contain(
        self, step: RunStep, shown: Shown, below: State, directory: Path, output: Output
    ) -> None:
        image = below.image()
        plain = replace(image, config=replace(image.config, env=(), user=None, cwd="/"))
        options = Options(
            env=self._environment(step) | shown.env,
            cwd=step.cwd,
            user=step.user,
            mounts=shown.binds,
            host_network=not self._network(step),
            hostname=HOST_NAME,
        )
        argv = step.argv if shown.script is None else (*step.argv, shown.script)
        with _output_pipe() as (ours, theirs):
            stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                running = container(plain, argv, options, stdio=(stdin, theirs, theirs))
                with running as instance:
                    status = _follow(instance, ours, output)
                    (instance.directory / "upper").rename(directory / "upper")
            finally:
                os.close(stdin)
        if status != 0:
            raise CommandFailed(status)

    def _network(self, step: RunStep) -> bool:
        """Whether the step gets a network of its own, in which there is nothing."""
        return step.network == "none" or (step.network == "default" and self.own_network)

    def _environment(self, step: RunStep) -> dict[str, str]:
        """Tools that honour it make the same files again: Python's compiled modules, for one."""
        return {"SOURCE_DATE_EPOCH": str(self.epoch_s)} | dict(step.env) | dict(step.proxies)

    # COPY and ADD

    def _copy(self, step: CopyStep, below: State, directory: Path) -> None:
        with ExitStack() as opened:
            if step.link:
                root = directory / "upper"
                root.mkdir()
                with self.views.lower(below) as lower:
                    imitate(root, lower[0])
            else:
                root = opened.enter_context(self.views.changed(below, directory))
            rootfs = opened.enter_context(Rootfs(root))
            manner = Manner(
                owner=self._owner(step.owner, below),
                mode=step.mode,
                epoch_ns=self.epoch_s * 10**9,
            )
            for source in step.sources:
                self._put(source, step, rootfs, manner)

    def _put(self, source: Source, step: CopyStep, rootfs: Rootfs, manner: Manner) -> None:
        match source:
            case Text():
                _put_text(source, step, rootfs, manner)
            case Download():
                self._put_download(source, step, rootfs, manner)
            case Paths(tree=FromContext()):
                self._put_paths(self.inputs.context, source, step, rootfs, manner)
            case Paths():
                with self.views.opened(self.inputs.state(source.tree)) as tree:
                    self._put_paths(tree, source, step, rootfs, manner)

    def _put_paths(
        self, tree: SourceTree, source: Paths, step: CopyStep, rootfs: Rootfs, manner: Manner
    ) -> None:
        copying = Copying(tree, rootfs, manner)
        for pattern, found in zip(
            source.patterns, self.inputs.chosen(tree, source, step), strict=True
        ):
            plain = found
            if step.extract:
                plain = [each for each in found if not _unpacked(each, tree, step, rootfs, manner)]
            copying.copy(plain, step.target, keep_from=_kept_from(pattern, step))

    def _put_download(
        self, source: Download, step: CopyStep, rootfs: Rootfs, manner: Manner
    ) -> None:
        target = step.target
        if target.endswith("/"):
            if not (name := name_of(source.url)):
                raise BuildError("the address has no file name", remedy="name the target file")
            target += name
        self.fetch(source)
        with self._fetched[source].path.open("rb") as file:
            _put_stream(file, target, rootfs, manner.made(step.mode or 0o600), manner)

    def _owner(self, owner: str | None, below: State) -> Owner | None:
        if owner is None:
            return None
        if owner.isdigit() and int(owner) <= _MOST_ID:  # a number alone is the group's too
            return Owner(uid=int(owner), gid=int(owner))
        who = self._identity(owner, below)
        return Owner(uid=who.uid, gid=who.gid)

    def _identity(self, user: str | None, below: State) -> Identity:
        with self.views.lower(below) as lower:
            return identity(lower, user)

    # WORKDIR

    def _make_directory(self, step: DirectoryStep, below: State, directory: Path) -> None:
        who = self._identity(step.user, below)
        with self.views.changed(below, directory) as root, Rootfs(root) as rootfs:
            made = Attributes(uid=who.uid, gid=who.gid, mtime_ns=self.epoch_s * 10**9)
            real = rootfs.make_directories(step.path, made)
            if not rootfs.is_directory(real):
                raise BuildError(f"{step.path} is no directory")


def _unpacked(
    each: Chosen, tree: SourceTree, step: CopyStep, rootfs: Rootfs, manner: Manner
) -> bool:
    """Unpack *each* if it is an archive; whether it was one."""
    if each.top.kind != "file":
        return False
    with open(tree.open_file(each.top), "rb") as file:  # noqa: PTH123 - a descriptor
        if not is_archive(file):
            return False
        base = rootfs.make_directories(step.target, manner.made())
        Unpacking(rootfs, base, manner).unpack(file, each.written)
    return True


def _kept_from(pattern: str, step: CopyStep) -> int | None:
    """With --parents: the first part of a matched path that is made anew, after ``/./``."""
    if not step.parents:
        return None
    before, pivot, _ = pattern.partition("/./")
    return len([part for part in before.split("/") if part not in {"", "."}]) if pivot else 0


def _put_text(source: Text, step: CopyStep, rootfs: Rootfs, manner: Manner) -> None:
    target = step.target
    if target.endswith("/") or rootfs.is_directory(rootfs.real(target)):
        target = f"{target.rstrip('/')}/{source.name}"
    made = manner.made(0o644 if step.mode is None else step.mode)
    _put_stream(io.BytesIO(source.data), target, rootfs, made, manner)


def _put_stream(
    source: BinaryIO, target: str, rootfs: Rootfs, attributes: Attributes, manner: Manner
) -> None:
    """A file of what *source* gives, made with what is missing above it."""
    real = rootfs.real(target)
    rootfs.make_directories(real.rpartition("/")[0], manner.made())
    with open(rootfs.new_file(real), "wb", buffering=0) as file:  # noqa: PTH123
        shutil.copyfileobj(source, file, _CHUNK_BYTES)
        rootfs.finish_file(file.fileno(), attributes)


def _same_root(upper: Path, lower: Path) -> bool:
    """Whether the root directory has the attributes that it has below, its time aside."""
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (upper, lower)]
    try:
        own, theirs = (replace(attributes_of(fd), mtime_ns=0) for fd in descriptors)
        return own == theirs
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@contextmanager
def _output_pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def _follow(instance: Container, pipe: int, output: Output) -> int:
    """Pass on what the command writes until it has ended; its status."""
    os.set_blocking(pipe, False)
    pidfd = instance.process.pidfd
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        selector.register(pidfd, selectors.EVENT_READ)
        while pidfd not in {key.fd for key, _ in selector.select()}:
            _pass_on(pipe, output, most=1)
    status = instance.process.poll(None)
    _pass_on(pipe, output, most=_LAST_READS)  # all that had the pipe died with the command
    return 0 if status is None else status


def _pass_on(pipe: int, output: Output, *, most: int) -> None:
    for _ in range(most):
        try:
            output(os.read(pipe, _CHUNK_BYTES))
        except BlockingIOError:
            return
