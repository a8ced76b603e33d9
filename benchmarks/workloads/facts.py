"""Identity facts: read inside an instance, they prove what it is, or flag that it is not so."""

import re

from benchmarks.launcher import RemoteInstance
from benchmarks.workloads import Facts, WorkloadFailed, succeeded

_TIMEOUT_S = 60.0
_MOST_SAID, _MOST_WORD = 1 << 16, 200
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
theirs="! -path ./.dockerenv ! -path ./run/.containerenv ! -path ./etc/hosts"
theirs="$theirs ! -path ./etc/hostname ! -path ./etc/resolv.conf ! -path ./etc/mtab"
echo "rootfs_fingerprint=$( { find . -xdev ! -type d $theirs | sort; \
  find . -xdev -type f $theirs -exec sha256sum {} + | sort; } | sha256sum | cut -c 1-64)"
"""
"""Plain shell of any image that has one; what a file does not say stays empty. The fingerprint is
of the image's files: what docker and podman lay over them is left out, on every backend."""


def of_kernel(lines: bytes, facts: Facts) -> None:
    """Add what the first two lines of *lines*, printed from KERNEL_FILES, say."""
    words = lines.decode(errors="replace").split()[:2]
    if len(words) != len(KERNEL_FILES) or not _BOOT_ID.fullmatch(words[1]):
        raise WorkloadFailed(f"expected a kernel release and a boot_id, got {lines[:120]!r}")
    facts["kernel_release"], facts["boot_id"] = (word[:_MOST_WORD] for word in words)


def of_instance(instance: RemoteInstance, facts: Facts) -> None:
    """Add everything that can be learned by one more command inside *instance*.

    Raises WorkloadFailed for an answer that no shell of ours would give: an image may lie.
    """
    result = succeeded(instance.run(("sh", "-c", _SCRIPT), timeout_s=_TIMEOUT_S))
    text = result.stdout[:_MOST_SAID].decode(errors="replace")
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    try:
        known: Facts = {
            "kernel_release": said["kernel_release"][:_MOST_WORD],
            "boot_id": said["boot_id"][:_MOST_WORD],
            "processes": _number(said["processes"]),
            "rootfs_fingerprint": said["rootfs_fingerprint"][:_MOST_WORD],
            "cpus": cpus(said),
            "memory_total_bytes": memory_bytes(said),
            "clocksource": said["clocksource"][:_MOST_WORD] or None,
        }
    except (KeyError, ValueError, ZeroDivisionError, OverflowError) as wrong:
        raise WorkloadFailed(f"the identity facts are not to be read: {wrong!r}") from None
    facts |= known


def _number(text: str) -> int:
    """A count that a journal can hold. Raises ValueError."""
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or abs(int(text)) >= 1 << 63:
        raise ValueError(text[:_MOST_WORD])
    return int(text)


def cpus(said: dict[str, str]) -> float:
    """How many cpus' time the instance may use: processors seen, or a smaller quota."""
    seen = float(_number(said["nproc"]))
    if said["cpu_max"] and not said["cpu_max"].startswith("max"):
        quota_us, period_us = said["cpu_max"].split()
        return min(seen, _number(quota_us) / _number(period_us))
    if said["quota_us"] and _number(said["quota_us"]) > 0:
        return min(seen, _number(said["quota_us"]) / _number(said["period_us"]))
    return seen


def memory_bytes(said: dict[str, str]) -> int:
    """How much memory the instance may use: the machine's total that it sees, or less."""
    match = re.fullmatch(r"MemTotal:\s+([0-9]{1,15}) kB", said["memory_kib"])
    if match is None:
        raise WorkloadFailed(f"/proc/meminfo begins with {said['memory_kib'][:_MOST_WORD]!r}")
    total_bytes = int(match[1]) * 1024
    limits = [_number(said[k]) for k in ("limit_v1", "limit_v2") if said[k].isdigit()]
    return min([total_bytes, *limits])
