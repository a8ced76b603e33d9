"""The kernel's capabilities by name, which of them a container keeps, and how that is changed.

Pure. Source: capabilities(7); the words ALL and CAP_NAME are docker's (``--cap-add``).
"""

from collections.abc import Iterable, Sequence

from runtime.errors import SpecError

CAPABILITIES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
    "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
    "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
    "sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
    "lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
    "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
)  # fmt: skip
"""In the order of their numbers (linux/capability.h)."""

KEPT = (
    "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "net_bind_service", "net_raw", "sys_chroot", "audit_write", "setfcap",
)  # fmt: skip
"""Docker's default set without ``mknod``: our /dev is complete and nothing else is a device."""

_ALL = "all"


def parse_capability(text: str) -> str:
    """``CAP_NET_ADMIN``, ``net_admin`` or ``ALL``, as the name we use. Raises SpecError."""
    name = text.lower().removeprefix("cap_")
    if name != _ALL and name not in CAPABILITIES:
        raise SpecError(
            f"{text!r} is no capability", remedy="write ALL or a name of capabilities(7)"
        )
    return name


def chosen(
    added: Iterable[str], dropped: Iterable[str], *, start: Sequence[str] = KEPT
) -> frozenset[str]:
    """What is kept of *start* when *added* and *dropped* were asked for, as docker reads both.

    A capability that is named in both is kept, unless all were added. Raises SpecError for a
    wish for everything and nothing.
    """
    add, drop = frozenset(added), frozenset(dropped)
    if _ALL in add and _ALL in drop:
        raise SpecError(
            "ALL capabilities are both added and dropped", remedy="name those that are meant"
        )
    if _ALL in add:
        return frozenset(CAPABILITIES) - drop
    return (frozenset() if _ALL in drop else frozenset(start) - drop) | add
