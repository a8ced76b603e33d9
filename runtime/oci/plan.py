"""A bundle as a plan: the steps of its init, and those of one more process in it (pure)."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EACCES, EINVAL, ENOENT, ENOSYS, ENOTDIR, EPERM, EROFS

from runtime import syscalls
from runtime.container import programs
from runtime.container.capabilities import CAPABILITIES
from runtime.container.steps import WAITING, Plan, Slot, Step
from runtime.container.terminal import plan_terminal
from runtime.oci.config import Config, Process
from runtime.oci.groups import Hierarchy, own_place
from runtime.oci.mounts import plan_end, plan_root

HOOKS = b"H"
"""What a plan says where it waits for the hooks."""

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _F_ADD_SEALS, _ALL_SEALS = 1, 2, 1033, 0xF
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NO_KEYRINGS = frozenset({ENOSYS, EPERM})
_NOT_OURS = frozenset({EPERM, EINVAL, EROFS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What a plan must know of this machine and of its caller.

    *held* is our own bounding set; *streams* are those of 0, 1 and 2 that may become the user's:
    all but /dev/null. With *own_keyring* the process gets one.
    """

    machine: str
    held: int
    last_capability: int
    hierarchies: tuple[Hierarchy, ...]
    streams: tuple[int, ...]
    own_keyring: bool = True


def plan_container(config: Config, process: Process, here: Here, *, seccomp: bytes | None) -> Plan:
    """The plan of a container that waits to be started."""
    return Plan(
        clone_flags=config.new_namespaces & ~syscalls.CLONE_NEWCGROUP,
        join=tuple(_plan_entering(config)),
        inside=(
            Step("setsid", (), "a session of its own", phase="init"),
            *_plan_groups(config, here.hierarchies),
            *_plan_score(process),
            *_plan_cgroup_namespace(config),
            *_plan_sysctl(config),
            *_plan_hooks(config),
            *plan_root(config, here.hierarchies),
            *_plan_names(config),
            *_plan_console(process, here.streams, is_console=True),
            *_plan_keyring(here),
            *_plan_directories(process.cwd),
            *plan_end(config),
            *_plan_program(process, here, seccomp),
        ),
    )


def plan_process(config: Config, process: Process, here: Here, *, seccomp: bytes | None) -> Plan:
    """The plan of one more process in the container, whose init is the slot ``init``.

    It waits too: until it has the parent that is to learn of its end, however soon that is.
    """
    join = [
        Step("write", (file, "0"), "be counted with it")
        for file in _group_files(config, here.hierarchies)
    ]
    everything = sum(config.namespaces)
    return Plan(
        clone_flags=syscalls.CLONE_PARENT,
        join=(*join, Step("setns", (Slot("init"), everything), "all of its namespaces")),
        inside=(
            Step("setsid", (), "a session of its own", phase="init"),
            *_plan_score(process),
            *_plan_console(process, here.streams, is_console=False),
            *_plan_keyring(here),
            *_plan_program(process, here, seccomp),
        ),
    )


def plan_hook(
    path: str, args: tuple[str, ...], env: tuple[str, ...], machine: str, flags: int
) -> Plan:
    """The plan of a hook: in the container's namespaces *flags*, or in ours if there are none."""
    entering = Step("setns", (Slot("init"), flags), "where the hook belongs")
    return Plan(
        clone_flags=syscalls.CLONE_PARENT if flags else 0,
        join=(entering,) if flags else (),
        inside=(
            Step("setsid", (), "a session of its own"),
            *_plan_image(machine),
            Step("execveat", (Slot("start"), (path, "", *args), env), "be the hook"),
        ),
    )


def _plan_entering(config: Config) -> Iterator[Step]:
    """Namespaces that exist: all are opened before the first is entered."""
    for flag, path in config.namespaces.items():
        if path:
            how = os.O_RDONLY | os.O_CLOEXEC
            yield Step("openat2", (-100, path, how, 0), "made before", opens=f"namespace{flag}")
    for flag, path in config.namespaces.items():
        if path:
            yield Step("setns", (Slot(f"namespace{flag}"), flag), "joined, not made")


def _group_files(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[str]:
    for hierarchy in hierarchies:
        file = "tasks" if hierarchy.version == 1 else "cgroup.procs"
        yield f"{own_place(hierarchy, config.cgroups_path)}/{file}"


def _plan_groups(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[Step]:
    for file in _group_files(config, hierarchies):
        yield Step("write", (file, "0"), "be counted")


def _plan_score(process: Process) -> Iterator[Step]:
    if process.oom_score_adj is not None:
        score = str(process.oom_score_adj)
        yield Step("write", ("/proc/self/oom_score_adj", score), "how soon memory ends it")


def _plan_cgroup_namespace(config: Config) -> Iterator[Step]:
    if config.namespaces.get(syscalls.CLONE_NEWCGROUP) == "":
        yield Step("unshare", (syscalls.CLONE_NEWCGROUP,), "its groups are the top that it sees")


def _plan_sysctl(config: Config) -> Iterator[Step]:
    """By the host's /proc, which no image can have replaced; the namespaces are ours already."""
    for key, value in config.sysctl.items():
        path = key if "/" in key else key.replace(".", "/")
        yield Step("write", (f"/proc/sys/{path}", value), "as was asked")


def _plan_hooks(config: Config) -> Iterator[Step]:
    if any(config.hooks[kind] for kind in ("prestart", "createRuntime", "createContainer")):
        yield Step("write", (Slot("status"), HOOKS), "namespaces are made, nothing is mounted")
        yield Step("read", (Slot("gate"), 1), "wait for the hooks")


def _plan_names(config: Config) -> Iterator[Step]:
    if config.hostname:
        yield Step("sethostname", (config.hostname,), "a name of its own")
    if config.domainname:
        yield Step("setdomainname", (config.domainname,), "a domain of its own")


def _plan_console(
    process: Process, streams: tuple[int, ...], *, is_console: bool
) -> Iterator[Step]:
    if process.terminal is not None:
        yield from plan_terminal(process.terminal, uid=process.uid, is_console=is_console)
        return
    for number in streams if process.uid else ():
        how = (number, process.uid, -1)
        yield Step("fchown", how, "standard streams are the user's", allow=_NOT_OURS)


def _plan_keyring(here: Here) -> Iterator[Step]:
    if here.own_keyring:
        join = (syscalls.KEYCTL_JOIN_SESSION_KEYRING, 0)
        yield Step("keyctl", join, "a keyring of its own, not the caller's", allow=_NO_KEYRINGS)


def _plan_directories(cwd: str) -> Iterator[Step]:
    parts = [part for part in cwd.split("/") if part]
    for depth in range(1, len(parts) + 1):
        made = "/" + "/".join(parts[:depth])
        allowed = frozenset({17, EROFS, EACCES})
        yield Step("mkdir", (made, 0o755), "the working directory exists", allow=allowed)


def _plan_image(machine: str) -> Iterator[Step]:
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    yield Step("memfd_create", ("start", flags), "a file in memory", opens="start")
    yield Step("write", (Slot("start"), programs.stub(machine)), "a program that execs")
    yield Step("fcntl", (Slot("start"), _F_ADD_SEALS, _ALL_SEALS), "nobody can change it")


def _plan_program(process: Process, here: Here, seccomp: bytes | None) -> Iterator[Step]:
    """From privileges to the exec: nothing privileged follows."""
    yield Step("chdir", (process.cwd,), "the working directory")
    yield from _plan_image(here.machine)
    for number, soft, hard in process.rlimits:
        yield Step("setrlimit", (number, soft, hard), "a resource limit")
    sets = {kind: bits & here.held for kind, bits in process.capabilities.items()}
    for number in range(here.last_capability + 1):
        if here.held & 1 << number and not sets["bounding"] & 1 << number:
            name = CAPABILITIES[number] if number < len(CAPABILITIES) else f"capability {number}"
            yield Step("prctl", (syscalls.PR_CAPBSET_DROP, number), f"never regain {name}")
    if seccomp is not None and not process.no_new_privileges:
        yield Step("seccomp", (seccomp,), "while that is still allowed without no_new_privs")
    yield Step("prctl", (syscalls.PR_SET_KEEPCAPS, 1), "the sets are cut by us, not by setuid")
    yield Step("setgroups", (process.groups,), "no group of the caller's")
    yield Step("setresgid", (process.gid,) * 3, "the group that was asked for")
    yield Step("setresuid", (process.uid,) * 3, "the user that was asked for")
    permitted = sets["permitted"]
    effective, inheritable = sets["effective"] & permitted, sets["inheritable"]
    yield Step("capset", (permitted, effective, inheritable), "hold what was asked for")
    for number in range(here.last_capability + 1):
        if sets["ambient"] & permitted & inheritable & 1 << number:
            raising = (syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_RAISE, number)
            yield Step("prctl", raising, "kept across the exec")
    yield Step("umask", (process.umask,), "as was asked")
    candidates = _candidates(process)
    yield from _plan_waiting(candidates)
    if process.no_new_privileges:
        yield Step("prctl", (syscalls.PR_SET_NO_NEW_PRIVS, 1), "no set-uid program raises them")
        if seccomp is not None:
            yield Step("seccomp", (seccomp,), "what the profile allows, and no more")
    words = (*candidates, "", *process.args)
    yield Step("execveat", (Slot("start"), words, process.env), "be the program")


def _plan_waiting(candidates: tuple[str, ...]) -> Iterator[Step]:
    """Find the program now, for whoever creates wants to know; then wait to be started."""
    how = os.O_PATH | os.O_CLOEXEC
    yield Step("openat2", (-100, "/", how, 0), "a number that is free", opens="program")
    yield Step("close", (Slot("program"),), "and stands for nothing")
    allowed = frozenset({ENOENT, ENOTDIR, EACCES})
    for path in reversed([path for path in candidates if path]):
        yield Step("openat2", (-100, path, how, 0), "the program?", allow=allowed, opens="program")
    inner = (Slot("program"), ".", os.O_WRONLY | os.O_CLOEXEC, 0)  # EISDIR, if it is a directory
    yield Step("openat2", inner, FOUND, allow=frozenset({ENOTDIR}))
    yield Step("faccessat2", (Slot("program"), os.X_OK), FOUND)
    yield Step("write", (Slot("status"), WAITING), "all is made")
    yield Step("read", (Slot("gate"), 1), "wait to be started")
    yield Step("dup3", (Slot("gate"), Slot("status"), 0), "nobody need listen to the exec")
    yield Step("close", (Slot("gate"),), "it opens once")


FOUND = "the program can be executed"
"""The reason of steps that fail with EBADF where no program was found, EISDIR or EACCES where it
cannot be executed."""


def _candidates(process: Process) -> tuple[str, ...]:
    name = process.args[0]
    if "/" in name:
        return (name,)
    found = next((e[5:] for e in process.env if e.startswith("PATH=")), _DEFAULT_PATH)
    return tuple(f"{directory or '.'}/{name}" for directory in found.split(":"))
