"""QEMU's command line for the machine that libvirt makes of the same description (pure).

Same machine type, processor, devices and their places, cache modes and sandbox; what libvirt adds
for itself (its monitor, secrets, names of nodes) is left out. Source: qemu(1).
"""

from vmbackend.domain import PORT_NAME, Domain
from vmbackend.network import emulator_network

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
        "-device", "virtio-blk-pci,bus=pcie.0,addr=0x2,drive=own,bootindex=1,write-cache=on",
        "-chardev", f"socket,id=console,path={_escaped(str(domain.console_socket))}",
        "-device", "isa-serial,chardev=console,index=0",
        "-chardev", f"socket,id=port,path={_escaped(str(domain.port_socket))}",
        "-device", f"virtserialport,bus=ports.0,nr=1,chardev=port,name={PORT_NAME}",
        *emulator_network(domain.network, domain.ports),
        "-sandbox", _SANDBOX,
    )  # fmt: skip


def _escaped(value: str) -> str:
    """A comma ends a value; two are one in it."""
    return value.replace(",", ",,")
