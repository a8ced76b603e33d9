import os
from pathlib import Path

import pytest

from vmbackend.domain import Domain, Served, domain_xml
from vmbackend.network import Port
from vmbackend.vmm import description

GOLDEN = Path(__file__).parents[2] / "golden" / "vm"
CASES: dict[str, dict[str, object]] = {
    "tcg": {"accelerator": "tcg"},
    "kvm-4-cpus": {"accelerator": "kvm", "cpus": 4, "memory_bytes": 1 << 30},
    "shares": {
        "shares": (Served(source=Path("/a & b"), tag="isoscope0", server=Path("/bin/virtiofsd")),)
    },
    "system": {"runs_as": (64055, 108), "image": "sha256:0"},
    "ordinary": {"profile": "ordinary"},
    "balloon": {"has_balloon": True},
    "ports": {"network": "user", "ports": (Port(host=8080, guest=80),)},
}


def domain(**changes: object) -> Domain:
    values: dict[str, object] = {
        "name": "isoscope-1-00000000",
        "accelerator": "tcg",
        "cpus": 1,
        "memory_bytes": 256 << 20,
        "emulator": Path("/usr/bin/qemu-system-x86_64"),
        "kernel": Path("/cache/kernel/6.1.0-1-cloud-amd64/vmlinux"),
        "initramfs": Path("/cache/initramfs/0.cpio"),
        "disk": Path("/cache/disks/0/disk.ext4"),
        "overlay": Path("/cache/instances/i/isoscope-1-00000000.qcow2"),
        "console_socket": Path("/tmp/i/s/isoscope-1-00000000.console"),
        "port_socket": Path("/tmp/i/s/isoscope-1-00000000.port"),
    }
    return Domain(**{**values, **changes})  # type: ignore[arg-type]  # a table of changes


@pytest.mark.parametrize("name", CASES)
def test_the_xml_is_the_golden_one(name: str) -> None:
    xml = description(domain(**CASES[name]))
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("ISOSCOPE_UPDATE_GOLDEN") == "1":
        golden.write_text(xml)
    assert xml == golden.read_text()


def test_paths_and_names_are_escaped() -> None:
    xml = domain_xml(domain(overlay=Path('/a&b/<"q">.qcow2')))
    assert "/a&amp;b/&lt;&quot;q&quot;&gt;.qcow2" in xml
