"""Which accelerator this computer really has: proved by running a guest, gated on its speed.

``/dev/kvm`` may exist, open and even start a virtual processor on a computer where Linux under it
is thousands of times too slow. So the ROM of ``probe_rom`` runs under TCG and under KVM, and KVM
is taken only if its timed loop is not slower than emulation. Every number carries the answer.
"""

import grp
import json
import os
import shutil
import subprocess
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from vmbackend.account import KVM_DEVICE, NAME, emulator_account
from vmbackend.cache import publish_bytes, vm_cache
from vmbackend.errors import MachineUnavailable
from vmbackend.probe_rom import EXIT_STATUS, Climb, read_climb, rom
from vmbackend.spec import AcceleratorChoice

EMULATOR = "qemu-system-x86_64"
DEADLINE_S = 3.0
SLOWEST_RATIO = 2.0
"""Healthy KVM runs the loop several times faster than TCG; the margin is for a busy computer."""

Name = Literal["kvm", "tcg"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What machines run under, why, and what the probe saw (ticks of the host's TSC, or None)."""

    name: Name
    sentence: str
    stage: str = ""
    tsc_kvm: int | None = None
    tsc_tcg: int | None = None


def accelerator(choice: AcceleratorChoice = "auto") -> Accelerator:
    """The accelerator for *choice*. ``auto`` falls back to emulation and its sentence says why.

    Raises MachineUnavailable if KVM is asked for and fails, or if there is no QEMU.
    """
    if choice == "tcg":
        return Accelerator(name="tcg", sentence="emulated (TCG), as asked")
    found = _obstacle() or _probed_this_boot()
    if choice == "kvm" and found.name != "kvm":
        raise MachineUnavailable(found.sentence, remedy="pass --accel tcg to run emulated")
    return found


def emulator_path() -> Path:
    """Where QEMU is. Raises MachineUnavailable if it is not installed."""
    path = shutil.which(EMULATOR)
    if path is None:
        raise MachineUnavailable(
            f"{EMULATOR} is missing", remedy="apt-get install qemu-system-x86"
        )
    return Path(path)


def judge(tcg: Climb, kvm: Climb) -> Accelerator:
    """The verdict on two climbs of the ROM. Pure."""
    name: Name = "tcg"
    if kvm.ticks is None:
        sentence = f"KVM is present but broken ({_broken_rung(kvm)}): machines are emulated (TCG)"
    elif tcg.ticks is None:
        name, sentence = "kvm", "KVM works (TCG does not, so its speed was not compared)"
    elif kvm.ticks > SLOWEST_RATIO * tcg.ticks:
        times = _roughly(kvm.ticks / max(tcg.ticks, 1))
        sentence = (
            f"KVM is present, but its guests run roughly {times} times slower than emulated ones:"
            " machines are emulated (TCG)"
        )
    else:
        name, sentence = "kvm", f"KVM works ({kvm.ticks / max(tcg.ticks, 1):.2f} of TCG's ticks)"
    return Accelerator(
        name=name, sentence=sentence, stage=kvm.stage, tsc_kvm=kvm.ticks, tsc_tcg=tcg.ticks
    )


def _roughly(ratio: float) -> str:
    """One digit and zeros: a single probe knows no more."""
    return f"{float(f'{ratio:.0e}'):,.0f}"


def _broken_rung(climb: Climb) -> str:
    return {
        "": "its guest printed nothing",
        "R": "its guest ends in real mode",
        "P": "its guest ends in protected mode",
        "L": f"its guest did not end a short loop in {DEADLINE_S:g} s",
    }.get(climb.stage, "its guest stopped")


def _obstacle() -> Accelerator | None:
    """What stands in the way before any guest could run; cheap, so never cached."""
    if not KVM_DEVICE.exists():
        return Accelerator(name="tcg", sentence=f"no {KVM_DEVICE}: emulated (TCG)")
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        remedy = f"join the group {_group_of(KVM_DEVICE)}"
        sentence = f"no permission for {KVM_DEVICE} ({remedy}): emulated (TCG)"
        return Accelerator(name="tcg", sentence=sentence)
    account = emulator_account()
    if account is not None and not account.may(KVM_DEVICE.stat(), os.R_OK | os.W_OK):
        sentence = f"{KVM_DEVICE} is closed to {NAME}, which QEMU runs as: emulated (TCG)"
        return Accelerator(name="tcg", sentence=sentence)
    return None


def _group_of(path: Path) -> str:
    gid = path.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _probed_this_boot() -> Accelerator:
    record = vm_cache("accelerator", f"{_circumstances()}.json")
    known = _read(record)
    if known is not None:
        return known
    found = judge(_climb("tcg"), _climb("kvm"))
    publish_bytes(record, json.dumps(asdict(found)).encode())
    return found


def _circumstances() -> str:
    """One boot of this computer with one QEMU: what must be the same for an answer to hold."""
    emulator = emulator_path().stat()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    seen = f"{boot} {emulator.st_ino} {emulator.st_size} {emulator.st_mtime_ns}"
    return sha256(seen.encode()).hexdigest()[:32]


def _read(record: Path) -> Accelerator | None:
    """A cached answer; a record that is not one of ours is probed anew."""
    try:
        values = json.loads(record.read_bytes())
        known = Accelerator(**values)
    except (OSError, ValueError, TypeError):
        return None
    return known if known.name in ("kvm", "tcg") else None


def _climb(name: Name) -> Climb:
    """Run the ROM under one accelerator; a deadline is a result, not an error."""
    image = os.memfd_create("isoscope-rom", os.MFD_CLOEXEC)  # no file that a kill could leave
    try:
        os.write(image, rom())
        with subprocess.Popen(
            _command(name, f"/proc/self/fd/{image}"), pass_fds=[image],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
    finally:
        os.close(image)
    climb = read_climb(output)
    finished = climb.stage == "X" and process.returncode == EXIT_STATUS
    return climb if finished else Climb(stage=climb.stage, ticks=None)


def _command(name: Name, image: str) -> list[str]:
    return [
        str(emulator_path()),
        *("-machine", "microvm", "-accel", name, "-m", "4"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-bios", image),
        *("-chardev", "stdio,id=letters", "-device", "isa-debugcon,iobase=0xe9,chardev=letters"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x1"),
    ]
