"""What two trees must have in common to be the same to every program; overlays to compare."""

import hashlib
import multiprocessing
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from runtime import syscalls
from runtime.image.tree import is_carried

CAP_NET_RAW = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
"""The file capability cap_net_raw+ep, version 2 (linux/capability.h)."""


def described(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below *root*, with all that a layer tells of it, and its hard links."""
    found: dict[bytes, tuple[object, ...]] = {}
    inodes: dict[tuple[int, int], list[bytes]] = {}
    top = os.fsencode(root)
    for folder, directories, files in os.walk(top):
        for name in (b"", *directories, *files) if folder == top else (*directories, *files):
            path = folder + b"/" + name if name else folder
            status = os.lstat(path)
            inside = os.path.relpath(path, top)
            found[inside] = _description(path, status)
            if not stat.S_ISDIR(status.st_mode):
                inodes.setdefault((status.st_dev, status.st_ino), []).append(inside)
    for names in inodes.values():
        for inside in names:
            found[inside] += (tuple(sorted(names)),)
    return found


def _description(path: bytes, status: os.stat_result) -> tuple[object, ...]:
    mode = status.st_mode
    content: object = None
    if stat.S_ISLNK(mode):
        content = os.readlink(path)  # noqa: PTH115 - bytes
    elif stat.S_ISREG(mode):
        content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        content = status.st_rdev
    names = sorted(os.listxattr(path, follow_symlinks=False))
    xattrs = {n: os.getxattr(path, n, follow_symlinks=False) for n in names if is_carried(n)}
    return (mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs)


def overlaid(
    lower: Sequence[Path], directory: Path, script: str = "true"
) -> dict[bytes, tuple[object, ...]]:
    """What the kernel's overlay of *lower*, topmost first, shows after *script* has run in it.

    ``upper``, ``work`` and ``root`` are made in *directory*; the mount is in a namespace of its
    own, gone when this returns.
    """
    for name in ("upper", "work", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_answer, args=(answers, lower, directory, script))
    child.start()
    shown: dict[bytes, tuple[object, ...]] | str = answers.get()
    child.join(60)
    answers.close()
    assert not isinstance(shown, str), shown
    return shown


def _answer(
    answers: "multiprocessing.SimpleQueue[object]",
    lower: Sequence[Path],
    directory: Path,
    script: str,
) -> None:
    root = directory / "root"
    layers = ":".join(os.path.relpath(path, directory) for path in lower)
    own = f"upperdir={directory}/upper,workdir={directory}/work,redirect_dir=off,metacopy=off"
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
        os.chdir(directory)
        syscalls.mount("overlay", str(root), "overlay", 0, f"lowerdir={layers},{own}")
        subprocess.run(["sh", "-euc", script], cwd=root, check=True)
        answers.put(described(root))
    except Exception as error:  # noqa: BLE001 - told to the test, which fails with it
        answers.put(repr(error))
