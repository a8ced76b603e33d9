"""QEMU as our own child, without libvirt: its command line (pure), and its life.

The command line is for the machine that libvirt makes of the same description: same machine type,
processor, devices and their places, cache modes and sandbox; what libvirt adds for itself (its
monitor, secrets, names of nodes) is left out. Source: qemu(1).
"""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from vmbackend.accelerator import Accelerator, accelerator
from vmbackend.account import check_readable, emulator_account
from vmbackend.disk import overlay_of
from vmbackend.domain import PORT_NAME, Domain
from vmbackend.link import Link
from vmbackend.network import emulator_network
from vmbackend.parts import Parts
from vmbackend.place import place
from vmbackend.spec import MachineSpec
from vmbackend.vmm import domain_of

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_PROCESSOR = {"kvm": "host", "tcg": "qemu64"}
_KIB = 1024


def emulator_words(domain: Domain) -> tuple[str, ...]:
    """The words after the program's name."""
    file, overlay = _escaped(str(domain.disk)), _escaped(str(domain.overlay))
    throw_away = "cache.direct=off,cache.no-flush=on"
    below = "file.driver=file,file.cache.direct=off,file.cache.no-flush=on,file.filename="
    image = f"driver=raw,node-name=image,read-only=on,{throw_away},{below}{file}"
    own = f"driver=qcow2,node-name=own,backing=image,{throw_away},{below}{overlay}"
    disk = "virtio-blk-pci,bus=pcie.0,addr=0x2"  # told of a full disk: nobody hears QEMU's events
    return (
        "-name", domain.name,
        "-machine", "q35,usb=off,dump-guest-core=off",
        "-accel", domain.accelerator,
        "-cpu", _PROCESSOR[domain.accelerator],
        "-m", f"size={domain.memory_bytes // _KIB}k",
        "-smp", str(domain.cpus),
        "-display", "none", "-no-user-config", "-nodefaults", "-no-reboot",
        "-kernel", str(domain.kernel),
        "-initrd", str(domain.initramfs),
        "-append", domain.command_line,
        "-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=0x3",
        "-blockdev", image,
        "-blockdev", own,
        "-device", f"{disk},drive=own,bootindex=1,write-cache=on,werror=report",
        "-chardev", f"socket,id=console,path={_escaped(str(domain.console_socket))}",
        "-device", "isa-serial,chardev=console,index=0",
        "-chardev", f"socket,id=port,path={_escaped(str(domain.port_socket))}",
        "-device", f"virtserialport,bus=ports.0,nr=1,chardev=port,name={PORT_NAME}",
        *emulator_network(domain.network, domain.ports),
        "-sandbox", _SANDBOX,
    )  # fmt: skip


class Emulator:
    """What ``vmm.Vmm`` is, for a QEMU that is our child. ``emulator()`` makes one and ends it."""

    def __init__(self, *, domain: Domain, accelerator: Accelerator, line: Link) -> None:
        self.domain = domain
        self.accelerator = accelerator
        self.link = line
        self.marks_ns: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def mark(self, phase: str) -> None:
        """Note that *phase* is reached now."""
        self.marks_ns[phase] = time.monotonic_ns()

    def start(self, words: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Start QEMU with *words*; it inherits *descriptors*, under their numbers.

        Its life is watched by the watchdog of ``place()``: its sockets' paths name it.
        """
        account = emulator_account()
        self._process = subprocess.Popen(
            [str(self.domain.emulator), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={}, pass_fds=descriptors, start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.started_as,
            extra_groups=None if account is None else sorted(account.groups),
        )  # fmt: skip

    def balloon(self) -> Mapping[str, int]:
        """It has none."""
        return {}

    def kill(self) -> None:
        """End it, whatever state it is in; when this returns, QEMU is dead and reaped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def emulator(
    spec: MachineSpec, parts: Parts, *, start_ns: int, overlay: bytes, resumed: bool = False
) -> Iterator[Emulator]:
    """A place for a QEMU of our own, ready for ``start``; nothing of it is left after the block.

    *overlay* is what its disk begins with. Marks: ``request``, ``prepared``, ``gone``.
    """
    chosen = accelerator(spec.accelerator)
    check_readable(parts.disk.path)
    name = f"isoscope-{os.getpid()}-{secrets.token_hex(4)}"
    domain = domain_of(spec, parts, chosen, name=name, own=place())
    with ExitStack() as undo:
        line = Link(domain.console_socket, domain.port_socket, resumed=resumed)
        made = Emulator(domain=domain, accelerator=chosen, line=line)
        made.marks_ns["request"] = start_ns
        undo.callback(made.mark, "gone")
        undo.enter_context(line)
        undo.enter_context(overlay_of(overlay, domain.overlay))
        made.mark("prepared")
        undo.callback(made.kill)
        yield made


def _escaped(value: str) -> str:
    """A comma ends a value; two are one in it."""
    return value.replace(",", ",,")
