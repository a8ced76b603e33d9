"""Identity facts: read inside an instance, they prove what it is, or flag that it is not so."""

import re

from benchmarks.launcher import RemoteInstance
from benchmarks.workloads import Facts, WorkloadFailed, succeeded

_TIMEOUT_S = 60.0
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

KERNEL_FILES = ("/proc/sys/kernel/osrelease", "/proc/sys/kernel/random/boot_id")
"""Two lines that tell which kernel a program runs on."""

_SCRIPT = r"""
one() { echo "$1=$(cat $2 2>/dev/null | head -n 1)"; }
one kernel_release /proc/sys/kernel/osrelease
one boot_id /proc/sys/kernel/random/boot_id
echo "processes=$(ls -d /proc/[0-9]* | wc -l)"
echo "nproc=$(nproc)"
one quota_us /sys/fs/cgroup/cpu/cpu.cfs_quota_us
one period_us /sys/fs/cgroup/cpu/cpu.cfs_period_us
one cpu_max /sys/fs/cgroup/cpu.max
one limit_v1 /sys/fs/cgroup/memory/memory.limit_in_bytes
one limit_v2 /sys/fs/cgroup/memory.max
one memory_kib /proc/meminfo
one clocksource /sys/devices/system/clocksource/clocksource0/current_clocksource
cd /
echo "rootfs_fingerprint=$( { find . -xdev ! -type d | sort; \
  find . -xdev -type f -exec sha256sum {} + | sort; } | sha256sum | cut -c 1-64)"
"""
"""Plain shell of any image that has one; what a file does not say stays empty."""


def of_kernel(lines: bytes, facts: Facts) -> None:
    """Add what the first two lines of *lines*, printed from KERNEL_FILES, say."""
    words = lines.decode(errors="replace").split()[:2]
    if len(words) != len(KERNEL_FILES) or not _BOOT_ID.fullmatch(words[1]):
        raise WorkloadFailed(f"expected a kernel release and a boot_id, got {lines[:120]!r}")
    facts["kernel_release"], facts["boot_id"] = words


def of_instance(instance: RemoteInstance, facts: Facts) -> None:
    """Add everything that can be learned by one more command inside *instance*."""
    result = succeeded(instance.run(("sh", "-c", _SCRIPT), timeout_s=_TIMEOUT_S))
    said = dict(line.split("=", 1) for line in result.stdout.decode(errors="replace").splitlines())
    facts["kernel_release"] = said["kernel_release"]
    facts["boot_id"] = said["boot_id"]
    facts["processes"] = int(said["processes"])
    facts["rootfs_fingerprint"] = said["rootfs_fingerprint"]
    facts["cpus"] = cpus(said)
    facts["memory_total_bytes"] = memory_bytes(said)
    facts["clocksource"] = said["clocksource"] or None


def cpus(said: dict[str, str]) -> float:
    """How many cpus' time the instance may use: processors seen, or a smaller quota."""
    seen = float(said["nproc"])
    if said["cpu_max"] and not said["cpu_max"].startswith("max"):
        quota_us, period_us = said["cpu_max"].split()
        return min(seen, int(quota_us) / int(period_us))
    if said["quota_us"] and int(said["quota_us"]) > 0:
        return min(seen, int(said["quota_us"]) / int(said["period_us"]))
    return seen


def memory_bytes(said: dict[str, str]) -> int:
    """How much memory the instance may use: the machine's total that it sees, or less."""
    match = re.fullmatch(r"MemTotal:\s+(\d+) kB", said["memory_kib"])
    if match is None:
        raise WorkloadFailed(f"/proc/meminfo begins with {said['memory_kib']!r}")
    total_bytes = int(match[1]) * 1024
    limits = [int(said[k]) for k in ("limit_v1", "limit_v2") if said[k].isdigit()]
    return min([total_bytes, *limits])
