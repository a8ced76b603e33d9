"""The machine that people get who leave the choice to the tools: what ours is compared with.

As virt-install(1) describes a Linux guest without graphics and network on q35: a controller for
USB, fourteen root ports, a memory balloon, a source of randomness, a channel for an agent; the
distribution's kernel as it is packaged (bzImage) and the initrd that the distribution's own tool
makes. Same image, disk, sizes, accelerator, account and way to speak to the guest as our own
machine; in both, our program is the guest's first process once the image's file system is there.
"""

from xml.etree import ElementTree as ET

from vmbackend.domain import PORT_NAME, Domain, noted, sub

GUEST_PROGRAM = "/isoscope-init"
"""Where the initrd puts our program into the image's tree, which it leaves when it is started."""

COMMAND_LINE = (
    f"root=/dev/vda rw console=ttyS0 quiet panic=-1 reboot=t init={GUEST_PROGRAM} -- take-over"
)
_ROOT_PORTS = 14
_TIMERS = (
    {"name": "rtc", "tickpolicy": "catchup"},
    {"name": "pit", "tickpolicy": "delay"},
    {"name": "hpet", "present": "no"},
)


def ordinary_xml(domain: Domain) -> str:
    """The description libvirt is given. Pure."""
    root = ET.Element("domain", type="kvm" if domain.accelerator == "kvm" else "qemu")
    sub(root, "name", domain.name)
    noted(root, domain)
    sub(root, "memory", str(domain.memory_bytes), unit="bytes")
    sub(root, "vcpu", str(domain.cpus))
    system = ET.SubElement(root, "os")
    sub(system, "type", "hvm", arch="x86_64", machine="q35")
    sub(system, "kernel", str(domain.kernel))
    sub(system, "initrd", str(domain.initramfs))
    sub(system, "cmdline", COMMAND_LINE)
    features = ET.SubElement(root, "features")
    for feature in ("acpi", "apic"):
        ET.SubElement(features, feature)
    ET.SubElement(features, "vmport", state="off")
    if domain.accelerator == "kvm":
        ET.SubElement(root, "cpu", mode="host-passthrough")
    clock = ET.SubElement(root, "clock", offset="utc")
    for timer in _TIMERS:
        ET.SubElement(clock, "timer", timer)
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        sub(root, event, "destroy")
    power = ET.SubElement(root, "pm")
    for state in ("suspend-to-mem", "suspend-to-disk"):
        ET.SubElement(power, state, enabled="no")
    _devices(ET.SubElement(root, "devices"), domain)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _devices(devices: ET.Element, domain: Domain) -> None:
    sub(devices, "emulator", str(domain.emulator))
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type="qcow2", discard="unmap")
    ET.SubElement(disk, "source", file=str(domain.overlay))
    ET.SubElement(disk, "target", dev="vda", bus="virtio")
    ET.SubElement(devices, "controller", type="usb", model="qemu-xhci", ports="15")
    ET.SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(_ROOT_PORTS):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    console = ET.SubElement(devices, "serial", type="unix")
    ET.SubElement(console, "source", mode="connect", path=str(domain.console_socket))
    port = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(port, "source", mode="connect", path=str(domain.port_socket))
    ET.SubElement(port, "target", type="virtio", name=PORT_NAME)
    agent = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(agent, "source", mode="bind")
    ET.SubElement(agent, "target", type="virtio", name="org.qemu.guest_agent.0")
    ET.SubElement(devices, "memballoon", model="virtio")
    random = ET.SubElement(devices, "rng", model="virtio")
    sub(random, "backend", "/dev/urandom", model="random")
