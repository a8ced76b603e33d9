"""The bundle that ``spec`` writes: a shell with the isolation that is usual."""

from runtime.oci.config import NAMESPACES

_KEPT = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_PLAIN = ["nosuid", "noexec", "nodev"]


def example() -> dict[str, object]:
    """The document."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": True, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "TERM=xterm"],
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _KEPT),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "isoscope",
        "mounts": [
            _mount("/proc", "proc", []),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666",
                                          "mode=0620", "gid=5"]),
            _mount("/dev/shm", "tmpfs", [*_PLAIN, "mode=1777", "size=65536k"]),  # noqa: S108
            _mount("/dev/mqueue", "mqueue", _PLAIN),
            _mount("/sys", "sysfs", [*_PLAIN, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", [*_PLAIN, "relatime", "ro"]),
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                              "/proc/sysrq-trigger"],
        },
    }  # fmt: skip


def _mount(destination: str, kind: str, options: list[str]) -> dict[str, object]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}
