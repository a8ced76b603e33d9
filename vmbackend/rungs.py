"""What this computer can do for machines: each rung is tried for real, no guest system is booted.

The accelerator's part follows ``vmbackend.accelerator``: the device is there, it opens, a guest
climbs to 64-bit mode under it, and it is not slower than emulation. Only the last proves anything.
"""

import grp
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from runtime.image import ImageError
from vmbackend.accelerator import (
    SLOWEST_RATIO,
    Accelerator,
    accelerator,
    emulator_path,
)
from vmbackend.account import KVM_DEVICE, NAME, emulator_account
from vmbackend.compiler import WATCHDOG, compiled, missing_compiler
from vmbackend.disk import administrators_path
from vmbackend.errors import MachineError, MachineUnavailable
from vmbackend.hypervisor import missing
from vmbackend.kernel import META_PACKAGE, cached_kernel, downloadable
from vmbackend.probe import ARCHITECTURE

_COSTS = ("vm",)
_COSTS_OF_KVM = ("vm[kvm]",)
_LIMIT_S = 10.0
_DISK_KIB = 2048
_EXT4_MAGIC = (1024 + 56, b"\x53\xef")
"""Where in a file system's superblock, and what: ext4(5)."""

_GUEST_SOURCES = Path(__file__).parent / "guest"
"""A small folder of files that is always there."""

_REACHED = {
    "": "its guest printed nothing",
    "R": "its guest ended in real mode",
    "P": "its guest ended in protected mode",
    "L": "its guest reached 64-bit mode, and not the end of a short loop",
    "T": "its guest ran the loop and did not end",
    "X": "its guest climbed from the reset vector to 64-bit mode, and ended",
}
"""By the last letter of the ROM; see ``probe_rom``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What was tried, what came of it, how to have it, and what is lost without it.

    ``ok`` is None for what was not tried because an earlier rung failed; ``found`` says so.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None
    costs: tuple[str, ...] = _COSTS


def rungs() -> Iterator[Rung]:
    """The rungs from the processor to its virtualisation, each tried when it is asked for.

    libvirt's driver, once opened, stays open in this process, with a thread of its own.
    """
    processor = _tried("processor", _processor)
    yield processor
    if not processor.ok:
        return
    yield _tried("C compiler", _compiler)
    yield _tried("mkfs.ext4", _disk)
    emulator = _tried("QEMU", _emulator)
    yield emulator
    yield _tried("libvirt driver", _driver) if emulator.ok else _above(emulator, "libvirt driver")
    yield _tried("guest kernel", _guest_kernel)
    yield from accelerator_rungs(emulator)


def accelerator_rungs(emulator: Rung) -> Iterator[Rung]:
    """The ladder to a KVM that may be called one; *emulator* is the rung that it stands on."""
    device = _tried(str(KVM_DEVICE), _device, costs=_COSTS_OF_KVM)
    yield device
    below = device if emulator.ok else emulator
    if not below.ok:
        yield _above(below, "KVM guest", costs=_COSTS_OF_KVM)
        yield _above(below, "KVM speed", costs=_COSTS_OF_KVM)
        return
    try:
        found = accelerator()
    except (MachineError, ImageError, OSError) as error:
        guest = _failed("KVM guest", error, costs=_COSTS_OF_KVM)
        yield guest
        yield _above(guest, "KVM speed", costs=_COSTS_OF_KVM)
        return
    yield from judged(found)


def judged(found: Accelerator) -> Iterator[Rung]:
    """The two rungs that a probe's answer tells of (pure)."""
    has_ended = found.tsc_kvm is not None and found.stage == "X"
    guest = Rung(
        name="KVM guest",
        ok=has_ended,
        found=_REACHED.get(found.stage, "its guest stopped"),
        remedy=None if has_ended else "use a computer whose hypervisor lets KVM run guests",
        costs=_COSTS_OF_KVM,
    )
    yield guest
    if found.tsc_kvm is None or not has_ended:
        yield _above(guest, "KVM speed", costs=_COSTS_OF_KVM)
        return
    is_fast = found.name == "kvm"
    yield Rung(
        name="KVM speed",
        ok=is_fast,
        found=_speed(found.tsc_kvm, found.tsc_tcg),
        remedy=None if is_fast else "use a computer with hardware virtualisation, or bare metal",
        costs=_COSTS_OF_KVM,
    )


def _speed(kvm_ticks: int, tcg_ticks: int | None) -> str:
    """Both guests time the same loop, in ticks of the host's time-stamp counter."""
    if tcg_ticks is None:
        return f"{kvm_ticks:,} TSC ticks a loop; TCG failed, so there is nothing to compare with"
    ratio = kvm_ticks / max(tcg_ticks, 1)
    measured = f"{kvm_ticks:,} TSC ticks a loop under KVM, {tcg_ticks:,} emulated (TCG)"
    if ratio > SLOWEST_RATIO:
        return f"{measured}: {ratio:,.0f} times slower, so it is no KVM to measure with"
    return f"{measured}: {ratio:.2f} times as many"


def _processor() -> str:
    machine = platform.machine()
    if machine != ARCHITECTURE:
        raise MachineUnavailable(
            f"{machine}, and machines run on {ARCHITECTURE} only", remedy="use --on container here"
        )
    return machine


def _compiler() -> str:
    if (reason := missing_compiler()) is not None:
        raise reason
    compiled(WATCHDOG)
    version = _version(["gcc", "--version"]) if shutil.which("gcc") else None
    return "not needed: the programs are in the cache" if version is None else f"gcc {version}"


def _disk() -> str:
    """A small disk in memory, of a folder's files, made the way machines get theirs."""
    remedy = "apt-get install e2fsprogs util-linux"
    disk = os.memfd_create("isoscope-disk", os.MFD_CLOEXEC)
    try:
        os.ftruncate(disk, _DISK_KIB * 1024)
        target = (f"/proc/self/fd/{disk}", f"{_DISK_KIB}k")
        command = ["mkfs.ext4", "-q", "-F", "-d", str(_GUEST_SOURCES), *target]
        if os.geteuid() != 0:
            command = ["unshare", "--user", "--map-root-user", *command]
        done = subprocess.run(
            command, env={"PATH": administrators_path(), "LC_ALL": "C"}, pass_fds=[disk],
            stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False,
        )  # fmt: skip
        offset, magic = _EXT4_MAGIC
        is_made = done.returncode == 0 and os.pread(disk, len(magic), offset) == magic
    except FileNotFoundError as error:
        raise MachineUnavailable(f"{error.filename} is missing", remedy=remedy) from None
    except subprocess.TimeoutExpired:
        raise MachineUnavailable(f"no end in {_LIMIT_S:g} s", remedy=remedy) from None
    finally:
        os.close(disk)
    if not is_made:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise MachineUnavailable(last, remedy=remedy)
    return "made a file system of a folder"


def _emulator() -> str:
    emulator = emulator_path()
    version = _version([str(emulator), "--version"])
    if version is None:
        raise MachineUnavailable(
            f"{emulator.name} does not start", remedy="apt-get install --reinstall qemu-system-x86"
        )
    return version


def _driver() -> str:
    if (reason := missing()) is not None:
        raise reason
    runs_as = "this user" if emulator_account() is None else NAME
    version = metadata.version("libvirt-python")
    return f"opened, in this process (libvirt-python {version}); QEMU runs as {runs_as}"


def _guest_kernel() -> str:
    cached = cached_kernel()
    if cached is not None:
        return f"{cached.release}, in the cache"
    if downloadable():
        return f"not here yet; apt's lists have {META_PACKAGE}, and the first machine fetches it"
    raise MachineUnavailable(
        "none in the cache, and apt's lists have none", remedy="apt-get update, on Debian"
    )


def _device() -> str:
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        raise MachineUnavailable(
            "missing",
            remedy="switch virtualisation on in the firmware, or nested virtualisation in the"
            " outer hypervisor; then: modprobe kvm_intel, or kvm_amd",
        ) from None
    except PermissionError:
        raise MachineUnavailable(
            "no permission", remedy=f"usermod -aG {_owning_group()} USER, and a new login"
        ) from None
    except OSError as error:
        raise MachineUnavailable(
            f"does not open: {error.strerror}", remedy="modprobe kvm_intel, or kvm_amd"
        ) from None
    return "opens"


def _owning_group() -> str:
    gid = KVM_DEVICE.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _tried(name: str, attempt: Callable[[], str], *, costs: tuple[str, ...] = _COSTS) -> Rung:
    """*attempt* returns what it found, or raises why it did not."""
    try:
        return Rung(name=name, ok=True, found=attempt(), costs=costs)
    except (MachineError, ImageError, OSError) as error:
        return _failed(name, error, costs=costs)


def _failed(
    name: str, error: MachineError | ImageError | OSError, *, costs: tuple[str, ...]
) -> Rung:
    if isinstance(error, OSError):
        found, remedy = f"{error.filename}: {error.strerror}", "make the state directory writable"
        return Rung(name=name, ok=False, found=found, remedy=remedy, costs=costs)
    return Rung(name=name, ok=False, found=error.message, remedy=error.remedy, costs=costs)


def _above(below: Rung, name: str, *, costs: tuple[str, ...] = _COSTS) -> Rung:
    return Rung(name=name, ok=None, found=f"not tried: {below.name} failed", costs=costs)


def _version(command: Sequence[str]) -> str | None:
    """The version in the first line that *command* prints; None if it does not run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=_LIMIT_S, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    first = re.sub(r"\([^)]*\)", "", done.stdout.partition("\n")[0])
    number = re.search(r"\d+(\.\d+)+\S*", first)
    return number[0] if number else first.strip()
