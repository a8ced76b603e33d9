"""What docker's words about protection come to, and what is refused."""

import os

import pytest

from runtime.container.capabilities import CAPABILITIES, KEPT, chosen, parse_capability
from runtime.container.devices import Device, find_device, host_devices, plan_list, rules
from runtime.container.protection import Protection
from runtime.container.ulimits import UNLIMITED, parse_ulimit
from runtime.errors import SpecError

ALL = frozenset(CAPABILITIES)


@pytest.mark.parametrize(
    ("added", "dropped", "kept"),
    [
        ([], [], set(KEPT)),
        (["mknod"], [], {*KEPT, "mknod"}),
        ([], ["chown", "bpf"], set(KEPT) - {"chown"}),
        (["all"], ["sys_admin"], ALL - {"sys_admin"}),
        (["kill"], ["all"], {"kill"}),
        ([], ["all"], set()),
        (["chown"], ["chown"], set(KEPT)),
    ],
)
def test_capabilities_are_reckoned_as_docker_does(
    added: list[str], dropped: list[str], kept: set[str]
) -> None:
    assert chosen(added, dropped) == kept


def test_capabilities_have_names() -> None:
    assert {parse_capability(t) for t in ("CAP_KILL", "kill", "Kill")} == {"kill"}
    assert parse_capability("ALL") == "all"
    for text in ("", "cap_", "CAP_NONE", "kill,chown", "\N{KELVIN SIGN}ill "):
        with pytest.raises(SpecError):
            parse_capability(text)
    with pytest.raises(SpecError, match="both"):
        chosen(["all"], ["all"])


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        ("nofile=10", 10, 10), ("nofile=10:20", 10, 20), ("core=-1", UNLIMITED, UNLIMITED),
        ("core=0:unlimited", 0, UNLIMITED), ("as=18446744073709551615", UNLIMITED, UNLIMITED),
    ],
)  # fmt: skip
def test_ulimits(text: str, soft: int, hard: int) -> None:
    found = parse_ulimit(text)
    assert (found.soft, found.hard) == (soft, hard)


@pytest.mark.parametrize(
    "text",
    ["", "nofile", "nofile=", "nofile=1:2:3", "nofile=2:1", "files=1", "nofile=1.5", "nofile= 1",
     "nofile=-2", "nofile=99999999999999999999", "core=unlimited:1", "nofile=\N{SUPERSCRIPT TWO}"],
)  # fmt: skip
def test_what_is_no_ulimit(text: str) -> None:
    with pytest.raises(SpecError):
        parse_ulimit(text)


def test_a_device_is_found_as_it_is_here() -> None:
    found = find_device("/dev/null:/dev/deep/nothing:r")
    assert (found.path, found.kind, found.major, found.minor) == ("/dev/deep/nothing", "c", 1, 3)
    assert found.access == "r"
    assert find_device("/dev/null:/dev/../dev/x").path == "/dev/x"
    assert find_device("/dev/zero:/dev/x").access == "rwm"


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "/dev/null", "/dev/null:", "/dev/null:x:r", "/dev/null:/etc/x",
        "/dev/null:/dev", "/dev/null:/dev/../x", "/dev/null:/dev/pts/7", "/dev/null:/dev/fd/9",
        "/dev/null:/dev/x:wr", "/dev/null:/dev/x:r:w", "/etc/passwd:/dev/x", "/dev/no-such:/dev/x",
        "/dev/pts:/dev/x", "/dev/nu\0ll", "/dev/null:/dev/x\0", "/dev/null:/dev/shm/../zero",
    ],
)  # fmt: skip
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(SpecError):
        find_device(text)


def test_every_device_of_this_machine_has_a_place_of_its_own() -> None:
    found = host_devices()
    Protection(is_privileged=True, devices=found)
    assert all(os.path.lexists(device.path) for device in found)


def test_a_list_is_needed_where_something_could_be_reached() -> None:
    null = Device(path="/dev/x", kind="c", major=1, minor=3)
    assert not Protection().lists_devices
    assert Protection(devices=(null,)).lists_devices
    assert Protection(capabilities=frozenset({"mknod"})).lists_devices
    assert not Protection(is_privileged=True, devices=(null,)).lists_devices


def test_the_list_denies_before_it_allows() -> None:
    disk = Device(path="/dev/x", kind="b", major=8, minor=0, access="r")
    steps = list(plan_list("/g", 1, (disk,)))
    assert steps[0].args == ("/g/devices.deny", "a")
    assert steps[-1].args == ("/g/devices.allow", "b 8:0 rm")
    assert ("c", 136, None) in {(r.kind, r.major, r.minor) for r in rules(())}


def test_contradictions_are_refused() -> None:
    null = Device(path="/dev/x", kind="c", major=1, minor=3)
    with pytest.raises(SpecError, match="two devices"):
        Protection(devices=(null, null))
    with pytest.raises(SpecError, match="two limits"):
        Protection(ulimits=(parse_ulimit("core=1"), parse_ulimit("core=2")))
    with pytest.raises(SpecError, match="no capability"):
        Protection(capabilities=frozenset({"flying"}))
