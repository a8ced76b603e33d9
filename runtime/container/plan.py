"""Decides how a container is made: a pure function from what is asked and is here to steps."""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace

from runtime import syscalls
from runtime.container import programs
from runtime.container.cgroups import Group, place, plan_groups, plan_joining, plan_removal
from runtime.container.devices import plan_list
from runtime.container.facts import HostFacts
from runtime.container.mounts import (
    plan_cwd,
    plan_kernel_files,
    plan_locking,
    plan_mounts,
    plan_root,
)
from runtime.container.privileges import plan_identity, plan_parting, plan_privileges
from runtime.container.seccomp import default_filter
from runtime.container.spec import HOST_NETWORK, OWN_NETWORK, ContainerSpec, ProcessSpec
from runtime.container.steps import WAITING, Plan, Slot, Step
from runtime.container.terminal import plan_terminal
from runtime.errors import Unsupported

NAMESPACES = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)
"""Made by the clone; the cgroup namespace is made later, inside the container's own groups."""

_NEWNET = syscalls.CLONE_NEWNET
_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 1
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2  # memfd_create(2)
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF  # fcntl(2): SEAL, SHRINK, GROW, WRITE


def plan(spec: ContainerSpec, facts: HostFacts) -> Plan:
    """The steps that make the container *spec* on a machine of which *facts* are true.

    Raises Unsupported for limits that no cgroup controller here enforces, and for a machine
    without a system call table.
    """
    groups = groups_of(spec, facts)
    return Plan(
        host=tuple(_plan_host(spec, facts, groups)),
        clone_flags=NAMESPACES if spec.network == OWN_NETWORK else NAMESPACES ^ _NEWNET,
        inside=tuple(_plan_inside(spec, facts, groups)),
        undo=tuple(plan_removal(groups)),
    )


def groups_of(spec: ContainerSpec, facts: HostFacts) -> tuple[Group, ...]:
    """The control groups of *spec*. Raises Unsupported if none can list devices that must be."""
    hierarchies = facts.hierarchies
    if spec.protection.devices and facts.owned_ids is not None:
        raise Unsupported(
            "an ordinary user has no devices to give to a container", remedy="run it as root"
        )
    if _lists_devices(spec, facts) and all(h.version == 1 for h in hierarchies):
        if facts.devices is None:
            raise Unsupported(
                "no cgroup hierarchy here controls devices, so none can be given alone",
                remedy="mount the controller, or leave --device and --cap-add MKNOD out",
            )
        hierarchies = (*hierarchies, facts.devices)
    return place(hierarchies, spec.id, spec.within)


def plan_exec(process: ProcessSpec, spec: ContainerSpec, facts: HostFacts) -> Plan:
    """The steps that run one more command in the running container *spec*.

    The slot ``init`` is the process descriptor of its init, which whoever started it holds. The
    entering process is in the container's namespaces but the old pid namespace; its clone is in
    all of them, and a child of the caller (CLONE_PARENT).
    """
    groups = groups_of(spec, facts)
    everything = NAMESPACES | syscalls.CLONE_NEWCGROUP
    return Plan(
        join=(
            *plan_joining(groups),
            Step("setns", (Slot("init"), everything), "all of its namespaces"),
        ),
        clone_flags=syscalls.CLONE_PARENT,
        inside=(
            Step("setsid", (), "a session of its own"),
            Step("umask", (0o022,), "what programs expect"),
            *_plan_terminal(process, is_console=False),
            *plan_cwd(process.cwd),
            *_plan_image(process, facts.machine),
            *plan_privileges(process, facts, spec.protection, seccomp=_filter(spec, facts)),
            *_plan_program(process),
        ),
    )


def plan_waiting(plan: Plan) -> Plan:
    """*plan*, but all is made and nothing runs until a byte is written to the slot ``gate``.

    The gate is a FIFO that is open in both directions. From then on what the exec says is said
    to it too, for whoever waited for that may have gone.
    """
    return replace(
        plan,
        inside=(
            *plan.inside[:-1],
            Step("write", (Slot("status"), WAITING), "all is made"),
            Step("read", (Slot("gate"), 1), "wait to be started"),
            Step("dup3", (Slot("gate"), Slot("status"), 0), "nobody need listen to the exec"),
            plan.inside[-1],
        ),
    )


def plan_orphan(plan: Plan) -> Plan:
    """*plan*, but what it makes lives on when whoever started it has gone."""
    return replace(plan, inside=tuple(s for s in plan.inside if s != plan_parting()))


def plan_plain(process: ProcessSpec, tree: str, machine: str) -> Plan:
    """The steps that run a program of the unpacked image *tree* with no isolation but chroot."""
    return Plan(
        clone_flags=0,
        inside=(
            Step("setsid", (), "a session of its own", phase="init"),
            Step("chdir", (tree,), "stand in the image"),
            Step("chroot", (".",), "its files are all that it sees", phase="prepared"),
            *plan_cwd(process.cwd),
            *_plan_image(process, machine),
            *plan_identity(process.identity),
            plan_parting(),
            *_plan_program(process),
        ),
    )


def _lists_devices(spec: ContainerSpec, facts: HostFacts) -> bool:
    """Whether there is a list; in a user namespace the kernel makes no devices anyway."""
    return spec.protection.lists_devices and facts.owned_ids is None


def _plan_host(spec: ContainerSpec, facts: HostFacts, groups: tuple[Group, ...]) -> Iterator[Step]:
    yield from plan_groups(groups, spec.limits)
    if _lists_devices(spec, facts):
        for group in groups:
            if group.hierarchy.version == 2 or "devices" in group.hierarchy.controllers:
                yield from plan_list(group.path, group.hierarchy.version, spec.protection.devices)


def _plan_inside(
    spec: ContainerSpec, facts: HostFacts, groups: tuple[Group, ...]
) -> Iterator[Step]:
    yield Step("setsid", (), "a session of its own, no terminal of ours", phase="init")
    yield from _plan_network(spec.network)
    yield from plan_joining(groups)
    yield Step("unshare", (syscalls.CLONE_NEWCGROUP,), "its groups are the top that it sees")
    yield from plan_root(spec, facts)
    yield from plan_mounts(spec.mounts, on_devices=False)
    yield from plan_kernel_files(facts, spec.protection)
    yield from plan_mounts(spec.mounts, on_devices=True)
    yield Step("sethostname", (spec.hostname,), "a name of its own")
    if spec.network == OWN_NETWORK:
        yield from _plan_loopback()
    yield from _plan_terminal(spec.process, is_console=True)
    yield from plan_cwd(spec.process.cwd)
    if spec.protection.read_only:
        yield plan_locking(spec.protection)
    yield from _plan_image(spec.process, facts.machine)
    yield from plan_privileges(spec.process, facts, spec.protection, seccomp=_filter(spec, facts))
    yield from _plan_program(spec.process)


def _plan_terminal(process: ProcessSpec, *, is_console: bool) -> Iterator[Step]:
    if process.terminal is not None:
        uid = process.identity.uid
        yield from plan_terminal(process.terminal, uid=uid, is_console=is_console)


def _plan_network(network: str) -> Iterator[Step]:
    """Enter the namespace that was made and configured before, if there is one."""
    if network in {OWN_NETWORK, HOST_NETWORK}:
        return
    flags = os.O_RDONLY | os.O_CLOEXEC
    yield Step("openat2", (-100, network, flags, 0), "a network made for it", opens="network")
    yield Step("setns", (Slot("network"), _NEWNET), "its interfaces are all that it sees")
    yield Step("close", (Slot("network"),), "that was all")


def _plan_loopback() -> Iterator[Step]:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    request = struct.pack("16sh22x", b"lo", _IFF_UP)
    yield Step("socket", (socket.AF_INET, kind, 0), "to speak of network devices", opens="net")
    yield Step("ioctl", (Slot("net"), _SIOCSIFFLAGS, request), "switch the loopback device on")
    yield Step("close", (Slot("net"),), "that was all")


def _plan_image(process: ProcessSpec, machine: str) -> Iterator[Step]:
    """The memory file that is executed first: see ``programs`` for why there is one."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    program = programs.stub(machine) if process.argv else programs.idle(machine)
    what = "execs the workload" if process.argv else "only waits"
    yield Step("memfd_create", ("start", flags), "a file in memory", opens="start")
    yield Step("write", (Slot("start"), program), f"a program that {what}")
    yield Step("fcntl", (Slot("start"), _F_ADD_SEALS, _ALL_SEALS), "nobody can change it")
    if not process.argv:
        yield Step("signal", ("SIGCHLD", "SIG_IGN"), "the kernel reaps what is left to it")


def _plan_program(process: ProcessSpec) -> Iterator[Step]:
    """The exec: every place that PATH names is tried in turn, as execvp(3) does."""
    if not process.argv:
        yield Step("execveat", (Slot("start"), ("idle",), process.env), "wait until the end")
        return
    words = (*_candidates(process), "", *process.argv)
    yield Step("execveat", (Slot("start"), words, process.env), "try these, then be the workload")


def _candidates(process: ProcessSpec) -> tuple[str, ...]:
    name = process.argv[0]
    if "/" in name:
        return (name,)
    variables = dict(entry.split("=", 1) for entry in process.env if "=" in entry)
    path = variables.get("PATH", _DEFAULT_PATH)
    return tuple(os.path.join(directory or ".", name) for directory in path.split(":"))  # noqa: PTH118 - an empty name must stay as it is


def _filter(spec: ContainerSpec, facts: HostFacts) -> bytes | None:
    protection = spec.protection
    if protection.profile or not spec.seccomp or protection.is_privileged:
        return protection.profile or None
    try:
        return default_filter(facts.machine, protection.capabilities)
    except KeyError:
        raise Unsupported(
            f"no system call table for {facts.machine}", remedy="use an x86-64 or aarch64 machine"
        ) from None
