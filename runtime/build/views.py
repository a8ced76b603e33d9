"""The files of a state, in the mount namespace of a worker: to read, or to write a layer of.

What is mounted here is gone with the worker; what is written lies in a directory that belongs to
it as an instance's does, so that after a crash the next command sweeps it away.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime import syscalls
from runtime.build.sources import SourceTree
from runtime.build.state import State
from runtime.container.mounts import MAX_OPTIONS_BYTES
from runtime.container.rungs.place import trial_directory
from runtime.errors import BuildError
from runtime.image import Descriptor, ImageError, Store, imitate, unpacked, using_snapshots
from runtime.user_namespace import owned_ids

_PURPOSE = "container"  # the same tree, where a container has too many layers as well


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory of the state directory's file system; what is in it goes with the block."""
    try:
        with trial_directory(f"b-{secrets.token_hex(5)}") as directory:
            yield directory
    except OSError as error:
        raise BuildError(
            f"cannot write {error.filename or 'the state directory'}: {error.strerror}",
            remedy="set ISOSCOPE_HOME to a directory of yours with room in it",
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Opens states of *store*; *restore* puts a layer's blob back that somebody removed."""

    store: Store
    restore: Callable[[Descriptor], None]

    @contextmanager
    def lower(self, state: State) -> Iterator[tuple[Path, ...]]:
        """The snapshots of *state*, topmost first, which stay in the block."""
        image = state.image()
        with ExitStack() as held:
            with self.store.writing():  # until they are held, nobody tidies up
                try:
                    found = held.enter_context(using_snapshots(self.store, image))
                except ImageError:  # who removed an image took along what no image needs
                    for layer in state.layers:
                        self.restore(layer.blob)
                    found = held.enter_context(using_snapshots(self.store, image))
            paths = found.paths
            if len(_lower_option(paths)[1]) < MAX_OPTIONS_BYTES - 2 * 256:
                yield paths
            else:  # mount(2) has no room for so many
                yield (unpacked(self.store, image, purpose=_PURPOSE).path,)

    @contextmanager
    def opened(self, state: State, *, called: str = "the stage") -> Iterator[SourceTree]:
        """The files of *state* to copy from."""
        with (
            self.lower(state) as lower,
            scratch() as directory,
            reading(lower, directory) as root,
            SourceTree(root=root, owned=True, called=called) as tree,
        ):
            yield tree

    @contextmanager
    def changed(self, state: State, directory: Path) -> Iterator[Path]:
        """The files of *state*, to write into; what is written is in ``directory/upper`` after."""
        with self.lower(state) as lower:
            for name in ("upper", "work", "root"):
                (directory / name).mkdir()
            imitate(directory / "upper", lower[0])
            with _overlay(lower, directory / "root", directory):
                yield directory / "root"


@contextmanager
def reading(lower: tuple[Path, ...], directory: Path) -> Iterator[Path]:
    """What *lower* make together; mounted in *directory* if they are several."""
    if len(lower) == 1:
        yield lower[0]
        return
    root = directory / "view"
    root.mkdir()
    with _overlay(lower, root, None):
        yield root


@contextmanager
def _overlay(lower: tuple[Path, ...], root: Path, own: Path | None) -> Iterator[None]:
    base, options = _lower_option(lower)
    flags = syscalls.MS_NODEV | syscalls.MS_NOSUID | (syscalls.MS_RDONLY if own is None else 0)
    if own is not None:
        whole = "redirect_dir=off,metacopy=off" if owned_ids() is None else "userxattr"
        options += f",upperdir={own}/upper,workdir={own}/work,{whole},volatile"
    elif owned_ids() is not None:
        options += ",userxattr"
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(base)  # many layers are named from here: mount(2) has little room
        syscalls.mount("overlay", str(root), "overlay", flags, options)
    finally:
        os.fchdir(before)
        os.close(before)
    try:
        yield
    finally:
        syscalls.umount2(str(root), 0)


def _lower_option(lower: tuple[Path, ...]) -> tuple[str, str]:
    base = os.path.commonpath([path.parent for path in lower])
    return base, "lowerdir=" + ":".join(str(path.relative_to(base)) for path in lower)
