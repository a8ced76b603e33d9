"""What the kernel lets this user do: capabilities, namespaces, system call filters."""

import os
from collections.abc import Iterator
from errno import EPERM
from functools import partial
from pathlib import Path

from runtime import syscalls
from runtime.container.capabilities import CAPABILITIES
from runtime.container.rungs.attempt import die_with, refusal
from runtime.container.rungs.rung import Rung, found_of
from runtime.container.seccomp import default_filter
from runtime.errors import RuntimeFault, SyscallError

NEEDED = (
    "chown", "dac_override", "fowner", "kill", "setgid", "setuid", "setpcap", "net_admin",
    "sys_chroot", "sys_admin", "mknod",
)  # fmt: skip
"""The capabilities without which some step of every container's plan fails."""

_NAMESPACES = {
    "mount": ("mnt", syscalls.CLONE_NEWNS),
    "pid": ("pid", syscalls.CLONE_NEWPID),
    "network": ("net", syscalls.CLONE_NEWNET),
    "ipc": ("ipc", syscalls.CLONE_NEWIPC),
    "uts": ("uts", syscalls.CLONE_NEWUTS),
    "cgroup": ("cgroup", syscalls.CLONE_NEWCGROUP),
}
"""Name -> its file in /proc/self/ns and its flag; see namespaces(7)."""

_NOBODY = 65534
_ROOTLESS = ("containers of ordinary users", "rootless peers")


def root_rung() -> Rung:
    """Who we are. An ordinary user's containers are tried as a whole, in a user namespace."""
    uid = os.geteuid()
    return Rung(
        name="root",
        ok=uid == 0,
        found=f"user {uid}",
        remedy=None if uid == 0 else "run isoscope as root (sudo)",
        costs=("host", "networks of containers"),
    )


def capabilities_rung(status: str) -> Rung:
    """What the capabilities in *status*, the text of /proc/self/status, are enough for (pure)."""
    held, bounding = _mask(status, "CapEff"), _mask(status, "CapBnd")
    lacking = [name for name in NEEDED if not held & 1 << CAPABILITIES.index(name)]
    if lacking:
        return Rung(
            name="capabilities",
            ok=False,
            found=f"without {', '.join(lacking)}",
            remedy="start this outside of another container, or let that one keep them",
            costs=("container",),
        )
    return Rung(name="capabilities", ok=True, found=_told(held & bounding), costs=("container",))


def user_namespace_rungs() -> Iterator[Rung]:
    """User namespaces of our own and, if we are root, those of users who are not."""
    if os.geteuid() != 0:  # a machine's disk is made in one, so that the files in it are root's
        why = refusal(_enter_user_namespace)
        yield _user_namespace("user namespaces", why, (*_ROOTLESS, "vm"))
        return
    yield _user_namespace("user namespaces", refusal(_enter_user_namespace), _ROOTLESS)
    why = refusal(partial(_as_nobody, os.getpid()))
    costs = (*_ROOTLESS, "vm of ordinary users")
    yield _user_namespace("same, ordinary users", why, costs)


def namespaces_rung() -> Rung:
    """Each kind of namespace, one after the other."""
    refused = {
        name: why
        for name, (file, flag) in _NAMESPACES.items()
        if (why := refusal(partial(_enter, file, flag))) is not None
    }
    return Rung(
        name="namespaces",
        ok=not refused,
        found=found_of(_NAMESPACES, refused),
        remedy="a kernel with CONFIG_NAMESPACES, and root outside of containers"
        if refused
        else None,
        costs=("container",),
    )


def seccomp_rung(machine: str) -> Rung:
    """The filter that every container gets: is it installed, and does it refuse?"""
    why = refusal(partial(_filtered, machine))
    return Rung(
        name="seccomp",
        ok=why is None,
        found="the default filter was installed and refuses" if why is None else why,
        remedy=None if why is None else "a kernel with CONFIG_SECCOMP_FILTER, x86-64 or aarch64",
        costs=("container",),
    )


def _user_namespace(name: str, why: str | None, costs: tuple[str, ...]) -> Rung:
    return Rung(
        name=name,
        ok=why is None,
        found="made, and mounted in one" if why is None else why,
        remedy=None if why is None else _user_namespace_remedy(),
        costs=costs,
    )


def _mask(status: str, field: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1], 16)


def _told(mask: int) -> str:
    lacking = [name for number, name in enumerate(CAPABILITIES) if not mask & 1 << number]
    if not lacking:
        return "all"
    note = " (no hard limit can be raised)" if "sys_resource" in lacking else ""
    return f"all that containers need; not held: {', '.join(lacking)}{note}"


def _enter(file: str, flag: int) -> None:
    """Make one namespace and see that it is another one. A pid namespace begins with a child."""
    before = _namespace("self", file)
    syscalls.unshare(flag)
    if flag != syscalls.CLONE_NEWPID:
        _expect(_namespace("self", file) != before, "the namespace is the old one")
        return
    child = syscalls.clone(0)
    if child == 0:
        os._exit(0 if os.getpid() == 1 else 1)
    _, status = os.waitpid(child, 0)
    _expect(status == 0, "its first process is not number 1")


def _namespace(pid: str, file: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{file}").readlink())


def _enter_user_namespace() -> None:
    """Become root of a new user namespace, and mount: some machines grant the name only."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    _expect(os.geteuid() == 0, "the map of users has no effect")
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE, "")
    syscalls.mount("tmpfs", "/", "tmpfs", 0, "")


def _as_nobody(parent: int) -> None:
    """Give root up first. The change takes /proc/self and the tie to our parent away from us."""
    os.setgroups(())
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    die_with(parent)
    _enter_user_namespace()


def _user_namespace_remedy() -> str:
    """The switch that is off, of those that there are."""
    switches = {
        "user.max_user_namespaces": "0",
        "kernel.unprivileged_userns_clone": "0",
        "kernel.apparmor_restrict_unprivileged_userns": "1",
    }
    for name, off in switches.items():
        try:
            value = Path("/proc/sys", *name.split(".")).read_text().strip()
        except OSError:
            continue
        if value == off:
            return f"sysctl {name}={'10000' if name.startswith('user') else 1 - int(off)}"
    return "start this outside of another container, on a kernel with CONFIG_USER_NS"


def _filtered(machine: str) -> None:
    """Under the filter a call that does nothing, unshare(0), is refused; without, allowed."""
    try:
        program = default_filter(machine)
    except KeyError:
        raise RuntimeFault(f"no system call table for {machine}") from None
    syscalls.unshare(0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.seccomp(program)
    try:
        syscalls.unshare(0)
    except SyscallError as error:
        _expect(error.errno == EPERM, error.message)
        return
    raise RuntimeFault("the filter was installed and does not refuse")


def _expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - an assertion with its message
    if not holds:
        raise RuntimeFault(otherwise)
