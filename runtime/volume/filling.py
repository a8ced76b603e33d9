"""A new volume begins with what the image has in its place, owners, modes and links included.

The image is looked at from a mount namespace of its own, so that nothing has to be unmounted
whatever happens, and the place is found by a kernel that takes the image for the root: no link in
it leads out. The copy gets its name when it is complete.
"""

import os
import signal
from collections.abc import Sequence
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from typing import NoReturn

from runtime import syscalls
from runtime.errors import RuntimeFault, SyscallError
from runtime.image.removal import remove_tree

_NOTHING_THERE, _FAILED = 100, 101
_MOST_SAID_BYTES = 4096


def fill(files: Path, layers: Sequence[Path], target: str) -> None:
    """Copy the directory *target* of the image in *layers* (topmost first) to the empty *files*.

    If the image has no such directory, nothing is done. Raises RuntimeFault.
    """
    fresh, view = files.with_name("filling"), files.with_name("image")
    for directory in (fresh, view):
        remove_tree(directory)
        directory.mkdir(mode=0o700)
    try:
        said, status = _copied(layers, target, fresh, view)
        if status == _NOTHING_THERE:
            return
        if status:
            why = said.decode(errors="replace").strip() or f"status {status}"
            raise RuntimeFault(f"the image's {target} was not copied into a new volume: {why}")
        fresh.rename(files)
    finally:
        remove_tree(fresh)
        remove_tree(view)


def _copied(layers: Sequence[Path], target: str, fresh: Path, view: Path) -> tuple[bytes, int]:
    """What the copying process said, and its status; it is gone when this returns or raises."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = syscalls.clone(syscalls.CLONE_NEWNS)
    if pid == 0:
        _copy(layers, target, fresh, view, tell)
    try:
        os.close(tell)
        said = b""
        while part := os.read(told, _MOST_SAID_BYTES):
            said = (said + part)[:_MOST_SAID_BYTES]
        return said, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(told)


def _copy(layers: Sequence[Path], target: str, fresh: Path, view: Path, tell: int) -> NoReturn:
    """Become the copying process. Whatever goes wrong, this process ends here."""
    status = _FAILED
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(tell, 2)
        place = _place(layers, target, view)
        os.set_inheritable(place, True)
        source = f"/proc/self/fd/{place}/."
        os.execvp("cp", ["cp", "--archive", "--", source, str(fresh)])  # noqa: S606 - no shell
    except SyscallError as error:
        status = _NOTHING_THERE if error.errno in {ENOENT, ENOTDIR, ELOOP} else _FAILED
        os.write(2, str(error).encode())
    except BaseException as error:  # noqa: BLE001 - as the docstring says
        os.write(2, str(error).encode())
    os._exit(status)


def _place(layers: Sequence[Path], target: str, view: Path) -> int:
    tree = layers[0]
    if len(layers) > 1:
        tree = view
        private = syscalls.MS_REC | syscalls.MS_PRIVATE
        syscalls.mount("", "/", "", private, "")
        lower = ":".join(str(layer) for layer in layers)
        syscalls.mount("overlay", str(view), "overlay", syscalls.MS_RDONLY, f"lowerdir={lower}")
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    flags = os.O_RDONLY | os.O_DIRECTORY
    return syscalls.openat2(root, target.lstrip("/"), flags, syscalls.RESOLVE_IN_ROOT)
