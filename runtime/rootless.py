"""Root of a user namespace: how an ordinary user unpacks layers and runs containers.

In a user namespace of his own a user is root over a range of ids that are his (subuid(5)), and
may mount. The front door enters one before a verb that handles layers or containers; below it all
goes on as it does for root, but for what the kernel keeps for the real one: devices, most control
groups, the machine's network. Whoever must know asks ``user_namespace.owned_ids``.

A second command joins the namespace of one that still runs, so that both may enter the same
containers: at any time all that lives is in one. Sources: user_namespaces(7), newuidmap(1),
subuid(5), setns(2).
"""

import json
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from errno import ENOSPC
from pathlib import Path
from typing import NoReturn

from runtime import syscalls
from runtime.errors import SyscallError, Unsupported
from runtime.image.durable import locked
from runtime.image.home import state_dir
from runtime.user_namespace import owned_ids

_TOOLS = {"uid": "/usr/bin/newuidmap", "gid": "/usr/bin/newgidmap"}
_REMEDY = "run isoscope as root, or use --on vm"
_MEMBERS = "namespace"
"""A file of lines: a process that entered, and the inode of the namespace it is in since then."""


def enter() -> None:
    """Become root of a user namespace, for good; nothing for who is root already.

    The state directory stays what it was, which the environment says from then on: it would be
    another for root. The process must have a single thread. Raises Unsupported.
    """
    if os.geteuid() == 0:
        return
    state = state_dir()
    os.environ["ISOSCOPE_HOME"] = str(state)
    with ExitStack() as undo:
        with suppress(OSError):  # of a state directory that is none, the verb tells
            state.mkdir(parents=True, exist_ok=True)
            undo.enter_context(locked(state / _MEMBERS))
        if not any(_joined(pid, inode) for pid, inode in _members(state)):
            _make()
        with suppress(OSError):
            _sign(state)
    owned_ids.cache_clear()


def _members(state: Path) -> Iterator[tuple[int, int | None]]:
    """Who may be in a namespace of ours: commands, with its inode, and who owns an instance."""
    with suppress(OSError, ValueError):
        for line in (state / _MEMBERS).read_text().splitlines():
            pid, _, inode = line.partition(" ")
            yield int(pid), int(inode)
    for record in (state / "instances").glob("*/owner.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield int(json.loads(record.read_text())["pid"]), None


def _sign(state: Path) -> None:
    """Add this process to the members; those that have gone are left out."""
    own = _namespace_of("self")
    living = {pid for pid, inode in _members(state) if inode == own == _namespace_of(pid)}
    lines = [f"{pid} {own}\n" for pid in (*living, os.getpid())]
    (state / _MEMBERS).write_text("".join(lines))


def _namespace_of(process: int | str) -> int | None:
    """The inode of the user namespace that *process* is in; None if that cannot be told."""
    try:
        return Path(f"/proc/{process}/ns/user").stat().st_ino
    except OSError:
        return None


def _joined(pid: int, inode: int | None) -> bool:
    """Whether the user namespace of *pid*, which *inode* is to name, could be entered."""
    with suppress(OSError, SyscallError):
        theirs = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(theirs).st_ino
            if found == _namespace_of("self") or inode not in {None, found}:
                return False
            syscalls.setns(theirs, syscalls.CLONE_NEWUSER)
        finally:
            os.close(theirs)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        _become_root()
        return True
    return False


def _make() -> None:
    """A new namespace. Its map is written from outside, by a child that stays behind."""
    process, ours = os.getpid(), {"uid": os.getuid(), "gid": os.getgid()}
    ranges = {kind: _range(kind, ours["uid"]) for kind in _TOOLS}
    is_single = any(r is None for r in ranges.values())
    said, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(told)
        _map(process, said, ours, {} if is_single else ranges)
    os.close(said)
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    except SyscallError as error:
        raise Unsupported(
            f"no user namespace can be made: {error}", remedy=_why_none(error.errno)
        ) from None
    else:
        if is_single:
            _map_one(ours)
        os.write(told, b"M")
    finally:
        os.close(told)
        _, status = os.waitpid(child, 0)
    if status != 0:
        raise Unsupported(
            "newuidmap refused the range that /etc/subuid and /etc/subgid name for this user",
            remedy="see whether 'unshare --user --map-auto true' works",
        )
    _become_root()


def _map(
    process: int, said: int, ours: dict[str, int], ranges: dict[str, tuple[int, int] | None]
) -> NoReturn:
    """In the child: when told so, give *process* itself as root and a range above."""
    try:
        if os.read(said, 1) != b"M":
            os._exit(0)
        for kind, found in ranges.items():
            first, count = found or (0, 0)
            words: Sequence[object] = (0, ours[kind], 1, 1, first, count)
            tool = _TOOLS[kind]
            pid = os.posix_spawn(tool, [tool, str(process), *map(str, words)], {})
            if os.waitpid(pid, 0)[1] != 0:
                os._exit(1)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        os._exit(1)
    os._exit(0)


def _map_one(ours: dict[str, int]) -> None:
    """Without a range: the user alone, as root; then no group can be given up."""
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    for kind, number in ours.items():
        (own / f"{kind}_map").write_text(f"0 {number} 1\n")


def _become_root() -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _range(kind: str, uid: int) -> tuple[int, int] | None:
    """First and number of the ids above his own that are the user's; None if there are none."""
    if not os.access(_TOOLS[kind], os.X_OK):
        return None
    names = {str(uid)}
    with suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    with suppress(OSError, ValueError):
        for line in Path(f"/etc/sub{kind}").read_text().splitlines():
            owner, _, numbers = line.partition(":")
            if owner in names:
                first, _, count = numbers.partition(":")
                return int(first), int(count)
    return None


def _why_none(errno: int) -> str:
    if errno == ENOSPC:
        return f"raise the sysctl user.max_user_namespaces, or {_REMEDY}"
    return (
        "see the sysctls kernel.unprivileged_userns_clone and "
        f"kernel.apparmor_restrict_unprivileged_userns, or {_REMEDY}"
    )
