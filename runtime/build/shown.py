"""What a RUN is shown beside its image: names of hosts, and all forms of ``--mount``.

A context's files are shown as a copy, so that nothing which ``.dockerignore`` hides can be seen
and nothing done to them reaches the context; a stage's under a layer that is thrown away. Secrets
lie in memory only.
"""

import fcntl
import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from runtime import syscalls
from runtime.build.copying import Copying, Manner
from runtime.build.inputs import Inputs
from runtime.build.model import FromContext, Mount, RunStep
from runtime.build.rootfs import Rootfs
from runtime.build.views import Views
from runtime.errors import BuildError
from runtime.image.durable import locked
from runtime.volume.mount import Mount as Bind

SCRIPT = "/dev/pipes/EOF"
"""Where a here-document that is a script lies, in a /dev that no layer has."""

_HOSTS = b"127.0.0.1\tlocalhost\n::1\tlocalhost\n"
_RESOLV_CONF = Path("/etc/resolv.conf")
_MOST_CACHES = 64
_NO_SUID = syscalls.MS_NOSUID | syscalls.MS_NODEV


@dataclass(slots=True, kw_only=True)
class Shown:
    """What comes of it: mounts, further variables, where the script is."""

    binds: tuple[Bind, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    script: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shows:
    """Prepares it. *caches* is the folder of the cache mounts; *secrets* by id."""

    inputs: Inputs
    views: Views
    caches: Path
    secrets: Mapping[str, bytes]
    epoch_s: int

    def of(
        self, step: RunStep, view: Path, directory: Path, opened: ExitStack, *, network: bool
    ) -> Shown:
        """What *step* is shown over *view*; made in *directory*, kept up until *opened* closes.

        *network* says that it has one of its own, where no name could be asked for.
        """
        shown = Shown()
        binds = [_file(directory / "hosts", _HOSTS, "/etc/hosts")]
        if not network and _RESOLV_CONF.exists():
            names = _RESOLV_CONF.read_bytes()
            binds.append(_file(directory / "resolv.conf", names, "/etc/resolv.conf"))
        if step.script is not None:
            binds.append(_file(directory / "script", step.script, SCRIPT, mode=0o755))
            shown.script = SCRIPT
        for number, mount in enumerate(step.mounts):
            place = directory / f"mount-{number}"
            if mount.kind == "secret":
                binds += self._secret(mount, place, opened, shown)
            else:
                binds.append(self._bind(mount, place, opened))
        with Rootfs(view) as rootfs:
            shown.binds = tuple(_really(bind, rootfs) for bind in binds)
        return shown

    def _bind(self, mount: Mount, place: Path, opened: ExitStack) -> Bind:
        match mount.kind:
            case "cache":
                source = self._cache(mount, opened)
            case "tmpfs":
                size = "" if mount.size_bytes is None else f",size={mount.size_bytes}"
                source = _tmpfs(place, opened, f"mode=1777{size}")
            case _ if isinstance(mount.tree, FromContext):
                source = self._context_copy(mount, place)
            case _:
                source = self._stage_files(mount, place, opened)
        return Bind(
            source=str(source),
            target=mount.target or "/",
            is_directory=source.is_dir(),
            read_only=mount.read_only,
        )

    def _context_copy(self, mount: Mount, place: Path) -> Path:
        place.mkdir()
        chosen = self.inputs.context.choose(mount.source.strip("/"))
        manner = Manner(owner=None, mode=None, epoch_ns=self.epoch_s * 10**9)
        with Rootfs(place) as rootfs:
            Copying(self.inputs.context, rootfs, manner).copy(chosen, "/content")
        return place / "content"

    def _stage_files(self, mount: Mount, place: Path, opened: ExitStack) -> Path:
        place.mkdir()
        root = opened.enter_context(self.views.changed(self.inputs.state(mount.tree), place))
        with Rootfs(root) as rootfs:
            real = rootfs.real(mount.source)
            if rootfs.status(real) is None:
                raise BuildError(f"--mount: there is no {mount.source} in what it names")
        return root / real

    def _secret(self, mount: Mount, place: Path, opened: ExitStack, shown: Shown) -> list[Bind]:
        identifier = mount.id or ""
        value = self.secrets.get(identifier)
        if value is None:
            if mount.required:
                raise BuildError(
                    f"the secret {identifier!r} is required",
                    remedy=f"give --secret id={identifier},src=FILE",
                )
            return []
        if mount.env is not None:
            shown.env[mount.env] = os.fsdecode(value)
        if mount.target is None:
            return []
        folder = _tmpfs(place, opened, "mode=0700")
        mode = 0o400 if mount.mode is None else mount.mode
        bind = _file(folder / "secret", value, mount.target, mode=mode)
        os.chown(folder / "secret", mount.uid, mount.gid)
        return [bind]

    def _cache(self, mount: Mount, opened: ExitStack) -> Path:
        """The folder of a cache mount, locked as its sharing says while the step runs."""
        name = hashlib.sha256((mount.id or mount.target or "").encode()).hexdigest()[:32]
        if mount.sharing != "private":
            folder = self.caches / name
            _hold(folder, opened, exclusive=mount.sharing == "locked", wait=True)
            return self._filled(mount, folder)
        for number in count():
            folder = self.caches / f"{name}-{number}"
            if number < _MOST_CACHES and _hold(folder, opened, exclusive=True, wait=False):
                return self._filled(mount, folder)
            if number >= _MOST_CACHES:
                break
        raise BuildError(f"more than {_MOST_CACHES} steps use the private cache {mount.target}")

    def _filled(self, mount: Mount, folder: Path) -> Path:
        """What is kept in *folder*; what it begins with is put there first, all or nothing."""
        data = folder / "data"
        os.utime(folder)  # it is in use: others go before it
        with locked(folder / "lock"):
            if not data.is_dir():
                fresh = folder / "data.new"
                fresh.mkdir(exist_ok=True)
                if not isinstance(mount.tree, FromContext):
                    self._fill(mount, fresh)
                os.chown(fresh, mount.uid, mount.gid)
                fresh.chmod(0o755 if mount.mode is None else mount.mode)
                fresh.rename(data)
        return data

    def _fill(self, mount: Mount, fresh: Path) -> None:
        manner = Manner(owner=None, mode=None, epoch_ns=self.epoch_s * 10**9)
        with (
            self.views.opened(self.inputs.state(mount.tree)) as tree,
            Rootfs(fresh) as rootfs,
        ):
            Copying(tree, rootfs, manner).copy(tree.choose(mount.source.strip("/")), "/")


def _really(bind: Bind, rootfs: Rootfs) -> Bind:
    """*bind* at the real path of its target, which is also where a dangling link leads."""
    real = f"/{rootfs.real(bind.target)}"
    if real == "/":
        raise BuildError("--mount: nothing can be mounted on the root directory")
    return Bind(
        source=bind.source, target=real, is_directory=bind.is_directory, read_only=bind.read_only
    )


def _file(path: Path, data: bytes, target: str, *, mode: int = 0o644) -> Bind:
    path.write_bytes(data)
    path.chmod(mode)
    return Bind(source=str(path), target=target, is_directory=False)


def _tmpfs(place: Path, opened: ExitStack, options: str) -> Path:
    place.mkdir()
    syscalls.mount("tmpfs", str(place), "tmpfs", _NO_SUID, options)
    opened.callback(syscalls.umount2, str(place), syscalls.MNT_DETACH)
    return place


def _hold(folder: Path, opened: ExitStack, *, exclusive: bool, wait: bool) -> bool:
    """Lock *folder*, made if it is missing, until *opened* closes; whether that was possible."""
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(fd, how | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(fd)
        return False
    opened.callback(os.close, fd)
    return True
