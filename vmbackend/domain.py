"""A machine as libvirt's XML: decided from values alone, so that it can be read and compared.

Source: https://libvirt.org/formatdomain.html. The machine is q35 with every device on its root
bus: on ``pc`` an emulated guest spends 0.2 s interpreting ACPI's interrupt routing when virtio_pci
loads, and root ports would only be more devices to probe.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from vmbackend.network import NetworkChoice, Port, emulator_network, guest_network
from vmbackend.spec import BootProfile

PORT_NAME = "isoscope.0"
"""The name by which ``guest/agent.c`` finds its port."""

COMMAND_LINE = "console=ttyS0 quiet panic=-1 reboot=t noreplace-smp cryptomgr.notests rdinit=/init"
"""``panic=-1 reboot=t`` end the VMM at once. ``noreplace-smp cryptomgr.notests`` leave out
patching and self-tests that cost 0.3 to 0.5 s of emulated boot and change nothing that a workload
can see; options that would (mitigations, init_on_alloc) are left as the distribution has them."""

_OWN_INIT = (
    "ISOSCOPE_INIT=/sbin/init systemd.mask=serial-getty@ttyS0.service"
    " systemd.mask=systemd-binfmt.service systemd.mask=proc-sys-fs-binfmt_misc.automount"
)
"""Which program of the image is the first process. The console is ours, so no login is offered on
it: without udev in the image that would wait 90 s for its device. The kernel's module for the
third is not in the guest."""

_FIRST_SHARE_SLOT = 5
_BALLOON_SLOT = 0x1C
_STATISTICS_EVERY_S = 1
_NAMESPACE = "urn:isoscope:machine:1"
"""Of what we note in a domain for whoever looks at it: ``virsh metadata NAME`` with this URI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A directory that *server* gives the guest under the name *tag*."""

    source: Path
    tag: str
    server: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """All that the XML is made of. Paths exist, or will before the machine starts.

    ``runs_as``: user and group that a daemon of the system is to start QEMU as, whatever it is
    configured to do; it then leaves the owners of all files as they are.
    """

    name: str
    accelerator: Literal["kvm", "tcg"]
    cpus: int
    memory_bytes: int
    emulator: Path
    kernel: Path
    initramfs: Path
    disk: Path
    overlay: Path
    console_socket: Path
    port_socket: Path
    network: NetworkChoice = "none"
    ports: tuple[Port, ...] = ()
    shares: tuple[Served, ...] = ()
    profile: BootProfile = "minimal"
    image: str = ""
    runs_as: tuple[int, int] | None = None
    has_balloon: bool = False

    @property
    def command_line(self) -> str:
        """What the guest's kernel is told."""
        has_network = self.network != "none" or self.ports
        words = [
            COMMAND_LINE,
            *([guest_network(self.network)] if has_network else []),
            *([_OWN_INIT] if self.profile == "distro" else []),
        ]
        return " ".join(words)


def domain_xml(domain: Domain) -> str:
    """The description libvirt is given; nothing about this computer but paths goes in. Pure."""
    root = ET.Element("domain", type="kvm" if domain.accelerator == "kvm" else "qemu")
    sub(root, "name", domain.name)
    noted(root, domain)
    sub(root, "memory", str(domain.memory_bytes), unit="bytes")
    if domain.shares:  # virtiofsd reads and writes the guest's memory itself
        backing = ET.SubElement(root, "memoryBacking")
        ET.SubElement(backing, "source", type="memfd")
        ET.SubElement(backing, "access", mode="shared")
    sub(root, "vcpu", str(domain.cpus))
    _boot(root, domain)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    if domain.accelerator == "kvm":
        ET.SubElement(root, "cpu", mode="host-passthrough")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        sub(root, event, "destroy")
    devices = ET.SubElement(root, "devices")
    sub(devices, "emulator", str(domain.emulator))
    _disk(devices, domain)
    for slot, share in enumerate(domain.shares, start=_FIRST_SHARE_SLOT):
        _share(devices, share, slot)
    _serial_lines(devices, domain)
    _on_root_bus(ET.SubElement(devices, "controller", type="virtio-serial", index="0"), 3)
    ET.SubElement(devices, "controller", type="usb", model="none")
    _balloon(devices, domain)
    if domain.runs_as is not None:
        label = ET.SubElement(root, "seclabel", type="static", model="dac", relabel="no")
        sub(label, "label", "+{}:+{}".format(*domain.runs_as))
    _told_directly(root, emulator_network(domain.network, domain.ports))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def noted(root: ET.Element, domain: Domain) -> None:
    """Of which image the machine is. No word of a command: any byte may be in one."""
    metadata = ET.SubElement(root, "metadata")
    attributes = {"xmlns": _NAMESPACE, "image": domain.image, "profile": domain.profile}
    ET.SubElement(metadata, "machine", attributes)


def _boot(root: ET.Element, domain: Domain) -> None:
    system = ET.SubElement(root, "os")
    sub(system, "type", "hvm", arch="x86_64", machine="q35")
    sub(system, "kernel", str(domain.kernel))
    sub(system, "initrd", str(domain.initramfs))
    sub(system, "cmdline", domain.command_line)


def _disk(devices: ET.Element, domain: Domain) -> None:
    """The overlay, thrown away at the end: ``cache=unsafe``. The chain is said, not probed for."""
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", cache="unsafe")
    ET.SubElement(disk, "source", file=str(domain.overlay))
    below = ET.SubElement(disk, "backingStore", type="file")
    ET.SubElement(below, "format", type="raw")
    ET.SubElement(below, "source", file=str(domain.disk))
    ET.SubElement(below, "backingStore")
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    _on_root_bus(disk, 2)


def _share(devices: ET.Element, share: Served, slot: int) -> None:
    place = ET.SubElement(devices, "filesystem", type="mount", accessmode="passthrough")
    ET.SubElement(place, "driver", type="virtiofs")
    ET.SubElement(place, "binary", path=str(share.server))
    ET.SubElement(place, "source", dir=str(share.source))
    ET.SubElement(place, "target", dir=share.tag)
    _on_root_bus(place, slot)


def _serial_lines(devices: ET.Element, domain: Domain) -> None:
    """QEMU connects to sockets that listen before it exists, so neither side waits or races."""
    console = ET.SubElement(devices, "serial", type="unix")
    ET.SubElement(console, "source", mode="connect", path=str(domain.console_socket))
    port = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(port, "source", mode="connect", path=str(domain.port_socket))
    ET.SubElement(port, "target", type="virtio", name=PORT_NAME)


def _balloon(devices: ET.Element, domain: Domain) -> None:
    """Never inflated: the guest reports pages that it does not use, and QEMU gives them back."""
    if not domain.has_balloon:
        ET.SubElement(devices, "memballoon", model="none")
        return
    balloon = ET.SubElement(devices, "memballoon", model="virtio", freePageReporting="on")
    ET.SubElement(balloon, "stats", period=str(_STATISTICS_EVERY_S))
    _on_root_bus(balloon, _BALLOON_SLOT)


def _told_directly(root: ET.Element, words: tuple[str, ...]) -> None:
    """What QEMU is given as it stands, and what libvirt is not to ask it.

    libvirt has no words for published ports of a user network. It is to read the CPU's feature
    words instead of asking for each of 300 properties: QEMU reads its monitor byte by byte, and
    the inventory alone takes 0.2 s of every start.
    """
    root.set("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
    if words:
        line = ET.SubElement(root, "qemu:commandline")
        for word in words:
            ET.SubElement(line, "qemu:arg", value=word)
    capabilities = ET.SubElement(root, "qemu:capabilities")
    ET.SubElement(capabilities, "qemu:del", capability="cpu-unavailable-features")


def _on_root_bus(device: ET.Element, slot: int) -> None:
    ET.SubElement(device, "address", type="pci", bus="0x00", slot=f"{slot:#04x}")


def sub(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    """A child of *parent* that is a word with a value."""
    ET.SubElement(parent, tag, attributes).text = text
