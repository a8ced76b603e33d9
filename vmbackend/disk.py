"""The disk of a machine: the image's tree as an ext4 file, made once, and an overlay each.

When disks go, and how much room they may take, is told in ``runtime.image.disks``.

The file system is what a distribution would make (journal included); only what would otherwise
happen in the background of the first measured minutes (lazy initialisation) is done beforehand,
and what would differ from one making to the next (UUID, hash seed) is derived from the digest.
"""

import json
import os
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from runtime.image import Identity, Image, Store, disk_slot, lookup, shrink_disks, unpack
from vmbackend.account import give_to_emulator, open_to_emulator
from vmbackend.cache import made_once, vm_cache
from vmbackend.errors import MachineError, MachineUnavailable
from vmbackend.qcow2 import overlay

_BLOCK = 4096
_FREE_BYTES = 256 << 20
_SPARE_FILES = 16384
_LARGEST_ACCOUNTS_FILE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system made from an image. ``disk_bytes`` is what it occupies, not its size."""

    path: Path
    duration_ns: int
    disk_bytes: int
    virtual_bytes: int
    passwd: str
    group: str

    def identity(self, user: str | None) -> Identity:
        """Who *user* is in this image. Raises ImageError for a name it does not know."""
        return lookup(user, passwd=self.passwd, group=self.group)


def disk(store: Store, image: Image) -> tuple[Disk, bool]:
    """The disk of *image*, and whether it had to be made now. Raises ImageError, MachineError."""
    directory = vm_cache("disks", disk_slot(image.digest).name)
    made_now = made_once(directory, partial(_make, store, image))
    os.utime(directory)  # it is in use: others go before it
    open_to_emulator(directory, 0o710)
    if made_now:
        shrink_disks(keep=directory)
    return _load(directory), made_now


@contextmanager
def instance_overlay(base: Disk, path: Path) -> Iterator[Path]:
    """A copy-on-write disk over *base* at *path*, removed at the end with all that was written."""
    with overlay_of(empty_overlay(base), path) as made:
        yield made


def empty_overlay(base: Disk) -> bytes:
    """A copy-on-write disk over *base* to which nothing was written."""
    return overlay(str(base.path), base.virtual_bytes)


@contextmanager
def overlay_of(content: bytes, path: Path) -> Iterator[Path]:
    """A disk at *path* that begins as *content*, QEMU's to write, removed at the end."""
    try:
        _write_sparse(path, content)
        give_to_emulator(path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def allocated_bytes(path: Path) -> int:
    """What the file occupies on this computer's disk. Source: stat(2), blocks of 512 bytes."""
    return path.stat().st_blocks * 512


def _load(directory: Path) -> Disk:
    try:
        values = json.loads((directory / "meta.json").read_bytes())
        return Disk(path=directory / "disk.ext4", **values)
    except (OSError, ValueError, TypeError) as error:
        raise MachineError(
            f"the cached disk {directory} is damaged: {error}", remedy="remove that directory"
        ) from error


def _make(store: Store, image: Image, directory: Path) -> None:
    """In the scratch directory that *directory* is in, so that the tree goes with it."""
    start_ns = time.monotonic_ns()
    tree = directory.parent / "tree"
    unpack(store, image, tree)
    directory.mkdir(mode=0o700)
    target = directory / "disk.ext4"
    _make_file_system(tree, target, image.digest)
    made = Disk(
        path=target,
        duration_ns=time.monotonic_ns() - start_ns,
        disk_bytes=allocated_bytes(target),
        virtual_bytes=target.stat().st_size,
        passwd=_accounts(tree, "passwd"),
        group=_accounts(tree, "group"),
    )
    values = {name: value for name, value in asdict(made).items() if name != "path"}
    (directory / "meta.json").write_text(json.dumps(values))


def administrators_path() -> str:
    """Where to look for programs such as mkfs.ext4, which ordinary users' PATH does not name."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _make_file_system(tree: Path, target: Path, digest: str) -> None:
    content_bytes, files = _measure(tree)
    size_bytes = -(-(content_bytes * 3 // 2 + _FREE_BYTES) // _BLOCK) * _BLOCK
    identity = uuid.uuid5(uuid.NAMESPACE_OID, digest)
    command = [
        *("mkfs.ext4", "-q", "-F", "-d", str(tree), "-b", str(_BLOCK), "-m", "0"),
        *("-N", str(files * 2 + _SPARE_FILES), "-U", str(identity)),
        *("-E", f"lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed={identity}"),
        *(str(target), str(size_bytes // _BLOCK)),
    ]
    if os.geteuid() != 0:  # our files are root's in the guest, as they would be if root made it
        command = ["unshare", "--user", "--map-root-user", *command]
    environment = {"PATH": administrators_path(), "LC_ALL": "C"}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    except FileNotFoundError as error:
        raise MachineUnavailable(
            f"{error.filename} is missing", remedy="apt-get install e2fsprogs util-linux"
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or f"status {error.returncode}").splitlines()[-1]
        raise MachineError(f"no file system could be made from the image: {last}") from error


def _measure(tree: Path) -> tuple[int, int]:
    """Bytes in whole blocks, and number of names, of all that is in *tree*."""
    content_bytes = files = 0
    for folder, directories, names in os.walk(tree):
        for name in (*directories, *names):
            status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a Path each is 10x slower
            content_bytes += -(-status.st_size // _BLOCK) * _BLOCK
            files += 1
    return content_bytes, files


def _accounts(tree: Path, name: str) -> str:
    """``etc/NAME`` of the tree, "" if it is absent. Links are not followed: they may lead out."""
    with suppress(OSError):
        folder = os.open(tree / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return file.read(_LARGEST_ACCOUNTS_FILE).decode(errors="replace")
        finally:
            os.close(folder)
    return ""


def _write_sparse(path: Path, content: bytes) -> None:
    """Leaves holes where blocks are zero, as qemu-img does; synced never: it is thrown away."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for at in range(0, len(content), _BLOCK):
            block = content[at : at + _BLOCK]
            if block.strip(b"\0"):
                file.seek(at)
                file.write(block)
        file.truncate(len(content))
