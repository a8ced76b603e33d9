"""The config.json of an OCI runtime bundle, with the isolation that our own container has (pure).

Source: runtime-spec ``config.md`` and ``config-linux.md``; masked and read-only paths are those of
``runc spec``. Capabilities and the allowed system calls are our container's, so that only the
runtime differs; rules about a call's arguments are left to the runtimes but for clone's.
"""

import errno
from typing import Any

from benchmarks.peers.instance import IDLE
from runtime.container.capabilities import CAPABILITIES
from runtime.container.facts import HostFacts
from runtime.container.privileges import kept_mask
from runtime.container.seccomp import allowed
from runtime.container.spec import Limits, ProcessSpec

_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_PERIOD_US = 100_000
_SECCOMP_ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_NEW_NAMESPACES = 0x7E020080
"""The flags of clone(2) that make namespaces."""


def configuration(
    process: ProcessSpec,
    *,
    root: str,
    hostname: str,
    group: str,
    limits: Limits,
    facts: HostFacts,
    idle: str,
) -> dict[str, Any]:
    """The document. *idle* is the program that is run where *process* has no argv."""
    kept = kept_mask(facts)
    capabilities = [f"CAP_{n.upper()}" for i, n in enumerate(CAPABILITIES) if kept & 1 << i]
    held = capabilities if process.identity.uid == 0 else []
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {
                "uid": process.identity.uid,
                "gid": process.identity.gid,
                "additionalGids": list(process.identity.groups),
            },
            "args": list(process.argv) or [IDLE],
            "env": list(process.env),
            "cwd": process.cwd,
            "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": False},
        "hostname": hostname,
        "mounts": [*_mounts(), *([] if process.argv else [_bound(idle)])],
        "linux": {
            "cgroupsPath": group,
            "namespaces": [{"type": name} for name in _NAMESPACES],
            "resources": _resources(limits),
            "seccomp": _seccomp(facts.machine),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }


def _mounts() -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", []),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/shm", "tmpfs", [*plain, "mode=1777", "size=65536k"]),  # noqa: S108 - the mount point itself
        _mount("/dev/mqueue", "mqueue", plain),
        _mount("/sys", "sysfs", [*plain, "ro"]),
        _mount("/sys/fs/cgroup", "cgroup", [*plain, "relatime", "ro"]),
    ]  # fmt: skip


def _mount(destination: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}


def _bound(idle: str) -> dict[str, Any]:
    return {"destination": IDLE, "type": "bind", "source": idle, "options": ["bind", "ro"]}


def _resources(limits: Limits) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": [{"allow": False, "access": "rwm"}]}
    if limits.memory_bytes is not None:
        resources["memory"] = {"limit": limits.memory_bytes, "swap": limits.memory_bytes}
    if limits.cpus is not None:
        quota_us = max(1000, round(limits.cpus * _PERIOD_US))
        resources["cpu"] = {"quota": quota_us, "period": _PERIOD_US}
    if limits.pids is not None:
        resources["pids"] = {"limit": limits.pids}
    return resources


def _seccomp(machine: str) -> dict[str, Any]:
    harmless = {"index": 0, "value": _NEW_NAMESPACES, "op": "SCMP_CMP_MASKED_EQ"}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [_SECCOMP_ARCHITECTURE[machine]],
        "syscalls": [
            {"names": sorted(allowed(machine) - {"clone"}), "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [harmless]},
            # As in our container: libc then starts its threads by clone, whose flags can be read.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        ],
    }
