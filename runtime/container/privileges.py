"""Capabilities, identity and the last locks before exec (pure).

Sources: capabilities(7), prctl(2), and the order rules that credentials impose: groups before
gid before uid, bounding set while CAP_SETPCAP is still held, no_new_privs before the filter.
"""

from collections.abc import Iterator
from errno import ENOSYS, EPERM

from runtime import syscalls
from runtime.container.capabilities import CAPABILITIES
from runtime.container.facts import HostFacts
from runtime.container.protection import Protection
from runtime.container.spec import ProcessSpec
from runtime.container.steps import Step
from runtime.errors import Unsupported
from runtime.image import Identity

_DEFAULT = Protection()
_SIGKILL = 9
_NO_KEYRINGS = frozenset({ENOSYS, EPERM})
"""A kernel without keyrings; and a filter around us that keeps us from them, as docker's."""


def kept_mask(facts: HostFacts, protection: Protection = _DEFAULT) -> int:
    """The capabilities a container keeps, as bits: ours to give, so never more than we have."""
    wanted = sum(1 << CAPABILITIES.index(name) for name in protection.capabilities)
    return wanted & facts.bounding_set


def plan_privileges(
    spec: ProcessSpec, facts: HostFacts, protection: Protection, *, seccomp: bytes | None
) -> Iterator[Step]:
    """Steps that give up everything the workload must not have; nothing privileged follows."""
    for ulimit in protection.ulimits:
        arguments = (ulimit.number, ulimit.soft, ulimit.hard)
        yield Step("setrlimit", arguments, f"its limit of {ulimit.name}")
    kept = kept_mask(facts, protection)
    for number in range(facts.last_capability + 1):
        if not kept & 1 << number:
            name = CAPABILITIES[number] if number < len(CAPABILITIES) else f"capability {number}"
            yield Step("prctl", (syscalls.PR_CAPBSET_DROP, number), f"never regain {name}")
    yield from plan_identity(spec.identity, facts.owned_ids)
    held = kept if spec.identity.uid == 0 else 0
    yield Step("capset", (held, held, 0), "hold only what the bounding set keeps, pass on nothing")
    if not protection.is_privileged or seccomp is not None:  # a filter asks for it
        yield Step(
            "prctl", (syscalls.PR_SET_NO_NEW_PRIVS, 1), "no set-uid program may raise them again"
        )
    yield plan_parting()
    join = (syscalls.KEYCTL_JOIN_SESSION_KEYRING, 0)
    yield Step("keyctl", join, "a keyring of its own, not the caller's", allow=_NO_KEYRINGS)
    if seccomp is not None:
        yield Step("seccomp", (seccomp,), "refuse the system calls that containers do not need")


def plan_parting() -> Step:
    """The step after which the process dies with its starter; a change of user would undo it."""
    return Step("prctl", (syscalls.PR_SET_PDEATHSIG, _SIGKILL), "die with whoever started it")


def plan_identity(identity: Identity, owned_ids: int | None = None) -> Iterator[Step]:
    """Steps that become the user; groups first, while that is still allowed.

    Who is root over himself alone (user_namespaces(7)) can give up no group, and has no other
    user: *owned_ids* are as in ``HostFacts``. Raises Unsupported.
    """
    wanted = max(identity.uid, identity.gid, *identity.groups)
    if owned_ids is not None and wanted >= owned_ids:
        raise Unsupported(
            f"the image asks for user or group {wanted}; of the {owned_ids} that are yours there "
            "is no such one",
            remedy="ask root for a range in /etc/subuid and /etc/subgid, with uidmap installed",
        )
    if owned_ids == 1:
        return
    yield Step("setgroups", (tuple(identity.groups),), "no group of the caller's")
    yield Step("setresgid", (identity.gid,) * 3, "the group the image asks for")
    yield Step("setresuid", (identity.uid,) * 3, "the user the image asks for")
