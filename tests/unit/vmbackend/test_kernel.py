import pytest

from vmbackend.errors import MachineUnavailable
from vmbackend.kernel import dependencies, load_order, newest_package


def module(*needs: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0retpoline=Y\0"


def test_the_newest_kernel_is_chosen_by_number_not_by_letter() -> None:
    output = """linux-image-cloud-amd64
  Depends: linux-image-6.1.0-9-cloud-amd64
 |Depends: linux-image-6.1.0-56-cloud-amd64
  Suggests: linux-doc-6.1
"""
    assert newest_package(output) == "linux-image-6.1.0-56-cloud-amd64"


@pytest.mark.parametrize("output", ["", "linux-image-cloud-amd64\n", "Depends: linux-image-amd64"])
def test_no_kernel_is_an_error_with_a_remedy(output: str) -> None:
    with pytest.raises(MachineUnavailable) as caught:
        newest_package(output)
    assert "apt-get update" in str(caught.value.remedy)


def test_dependencies_are_read_from_modinfo() -> None:
    assert dependencies(module("virtio", "virtio_ring")) == ("virtio", "virtio_ring")
    assert dependencies(module()) == ()
    assert dependencies(b"no module at all") == ()


def test_modules_are_loaded_after_what_they_need() -> None:
    modules = {
        "virtio_pci": module("virtio", "virtio_ring", "virtio_pci_modern_dev"),
        "virtio": module(),
        "virtio_ring": module("virtio"),
        "virtio_pci_modern_dev": module(),
        "virtio_net": module("net_failover"),
    }
    order = load_order(modules, ["virtio_pci", "virtio_blk"])
    assert order == ("virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci")


def test_what_is_built_in_or_in_a_circle_does_not_stop_the_order() -> None:
    modules = {"a": module("b", "builtin"), "b": module("a")}
    assert set(load_order(modules, ["a"])) == {"a", "b"}
