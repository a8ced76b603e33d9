import pytest

from vmbackend.connection import Connection, check_user, parse_connection
from vmbackend.errors import MachineSpecError, MachineUnavailable


@pytest.mark.parametrize(
    ("uri", "driver"),
    [
        ("qemu:///embed", "embed"),
        ("qemu:///session", "session"),
        ("qemu:///system", "system"),
        ("qemu+unix:///system?socket=/run/other/libvirt-sock", "system"),
        ("qemu+unix:///session?socket=/run/user/1000/a_b", "session"),
    ],
)
def test_a_uri_of_this_computer_is_read_and_written_alike(uri: str, driver: str) -> None:
    connection = parse_connection(uri)
    assert (connection.driver, connection.uri) == (driver, uri)
    assert connection.has_daemon == (driver != "embed")


@pytest.mark.parametrize(
    "uri",
    [
        "", "embed", "qemu:///", "qemu:///system/", "xen:///system", "qemu://example/system",
        "qemu+ssh://root@example/system", "qemu+ext:///system?command=/bin/sh",
        "qemu+unix:///embed?socket=/s", "qemu+unix:///system?socket=s",
        "qemu+unix:///system?socket=/s&mode=legacy", "qemu:///embed?root=/etc", "qemu:///system\n",
        "qemu+unix:///system?socket=/" + "a" * 200,
    ],
)  # fmt: skip
def test_any_other_is_refused(uri: str) -> None:
    with pytest.raises(MachineSpecError, match="no libvirt"):
        parse_connection(uri)


@pytest.mark.parametrize(("driver", "is_root"), [("session", True), ("system", False)])
def test_who_could_not_use_it_is_told_which_one_to_use(driver: str, *, is_root: bool) -> None:
    connection = parse_connection(f"qemu:///{driver}")
    with pytest.raises(MachineUnavailable) as refused:
        check_user(connection, is_root=is_root)
    assert refused.value.remedy is not None
    check_user(connection, is_root=not is_root)
    check_user(Connection(), is_root=is_root)
