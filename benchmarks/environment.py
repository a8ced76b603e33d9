"""What must be known of a machine to judge its numbers; nothing that names it or its owner.

Each entry is read at the place where the kernel says it; what a machine does not say is None.
Sources: proc(5), sysfs-devices-system-cpu and transparent-hugepage in the kernel's documentation.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_PEERS = ("runc", "crun", "bwrap", "systemd-nspawn", "podman", "conmon", "docker", "dockerd")
_MACHINES = ("qemu-system", "qemu-kvm", "firecracker", "cloud-hyperviso", "VBoxHeadless", "crosvm")
"""As /proc/PID/comm (15 characters) calls their processes. Source: proc_pid_comm(5)."""
_CPU = "/sys/devices/system/cpu"


def environment() -> Mapping[str, Any]:
    """The machine as the run found it, as plain JSON values."""
    cpuinfo = _read("/proc/cpuinfo") or ""
    meminfo = _read("/proc/meminfo") or ""
    return {
        "cpu": _first(r"^model name\s*:\s*(.+)$", cpuinfo),
        "cpus": os.cpu_count(),
        "hypervisor": "hypervisor" in (_first(r"^flags\s*:\s*(.+)$", cpuinfo) or "").split(),
        "memory_bytes": _kib(_first(r"^MemTotal:\s+(\d+) kB$", meminfo)),
        "swap_bytes": _kib(_first(r"^SwapTotal:\s+(\d+) kB$", meminfo)),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "distribution": _first(r'^PRETTY_NAME="?([^"\n]+)', _read("/etc/os-release") or ""),
        "cgroups": cgroup_layout(_read("/proc/self/mountinfo") or ""),
        "governor": _read(f"{_CPU}/cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(),
        "smt": _read(f"{_CPU}/smt/control"),
        "clocksource": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "transparent_hugepages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "ksm": _read("/sys/kernel/mm/ksm/run"),
        "mitigations": _mitigations(),
        "kvm_device": Path("/dev/kvm").exists(),
        "as_root": os.geteuid() == 0,
    }


def load() -> Mapping[str, Any]:
    """What else the machine is doing, for before, during and after.

    Load averages; since the boot: stolen time, pages swapped, times a processor was throttled for
    its heat; and how many other virtual machines run.
    """
    vmstat = _read("/proc/vmstat") or ""
    swapped = [_first(rf"^{name} (\d+)$", vmstat) for name in ("pswpin", "pswpout")]
    stat = (_read("/proc/stat") or "cpu").splitlines()[0].split()
    return {
        "load_averages": list(os.getloadavg()),
        "stolen_ticks": int(stat[8]) if len(stat) > 8 else None,
        "swapped_pages": None if None in swapped else sum(int(each or 0) for each in swapped),
        "throttled": _throttled(),
        "virtual_machines": virtual_machines(Path("/proc")),
    }


def versions() -> Mapping[str, str]:
    """The versions of what takes part, as each says it of itself."""
    found = {
        "isoscope": _isoscope(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
    }
    with suppress(metadata.PackageNotFoundError):
        found["libvirt-python"] = metadata.version("libvirt-python")
    if (qemu := shutil.which("qemu-system-x86_64")) is not None:
        found["qemu"] = _said([qemu, "--version"])
    if (busybox := shutil.which("busybox")) is not None:
        found["busybox"] = _said([busybox])
    for peer in _PEERS:
        if (program := shutil.which(peer)) is not None:
            found[peer] = _said([program, "--version"])
    return found


def cgroup_layout(mountinfo: str) -> str:
    """``v1``, ``v2``, ``hybrid`` or ``none``, from /proc/self/mountinfo."""
    kinds = {line.partition(" - ")[2].split()[0] for line in mountinfo.splitlines()}
    match ("cgroup" in kinds, "cgroup2" in kinds):
        case (True, True):
            return "hybrid"
        case (True, False):
            return "v1"
        case (False, True):
            return "v2"
        case _:
            return "none"


def virtual_machines(proc: Path) -> int:
    """How many processes there hold a virtual machine, by what their programs are called."""
    names = [_read(f"{path}/comm") or "" for path in proc.iterdir() if path.name.isdecimal()]
    return sum(name.startswith(_MACHINES) for name in names)


def _turbo() -> bool | None:
    """Whether processors may clock above their nominal frequency; None if nobody says.

    Source: intel_pstate.rst and cpufreq.rst (boost) in the kernel's documentation.
    """
    if (text := _read(f"{_CPU}/intel_pstate/no_turbo")) is not None:
        return text == "0"
    boost = _read(f"{_CPU}/cpufreq/boost")
    return None if boost is None else boost == "1"


def _throttled() -> int | None:
    counts = [
        int(path.read_text())
        for path in Path(_CPU).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    return sum(counts) if counts else None


def _isoscope() -> str:
    text = (_ROOT / "pyproject.toml").read_text()
    version = _first(r'^version = "(.+)"$', text) or "unknown"
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return version
    at = ["-c", "safe.directory=*", "-C", str(_ROOT)]
    commit = _said([git, *at, "rev-parse", "--short=12", "HEAD"])
    changed = _said([git, *at, "status", "--porcelain"])
    return f"{version} ({commit}{', changed' if changed else ''})" if commit else version


def _said(argv: list[str]) -> str:
    """The first line that a program prints, or nothing if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _mitigations() -> Mapping[str, str]:
    directory = Path(f"{_CPU}/vulnerabilities")
    if not directory.is_dir():
        return {}
    return {path.name: path.read_text().strip() for path in sorted(directory.iterdir())}


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else None


def _kib(text: str | None) -> int | None:
    return None if text is None else int(text) * 1024


def _chosen(text: str | None) -> str | None:
    return None if text is None else _first(r"\[(\w+)\]", text)
