"""Images whose own init is the first process. The init is a script here: systemd takes 10 s."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from runtime.image import Store
from runtime.image.manifest import CONFIG_TYPE, LAYER_GZIP_TYPE, MANIFEST_TYPE
from vmbackend.errors import GuestError, MachineSpecError
from vmbackend.machine import machine
from vmbackend.spec import MachineSpec

pytestmark = pytest.mark.slow
LIMIT_S = 60
INIT = b"""#!/bin/sh
PATH=/bin
busybox touch /it-was-me
$(busybox sed -n s/^ExecStart=//p /run/systemd/system/multi-user.target.wants/*.service) &
while :; do wait; busybox sleep 1; done
"""


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        for name in ("bin", "dev", "etc", "proc", "run", "sbin", "sys", "tmp"):
            made.addfile(_member(name, tarfile.DIRTYPE))
        for name, content in {
            "bin/busybox": Path("/bin/busybox").read_bytes(),
            "sbin/init": INIT,
        }.items():
            made.addfile(_member(name, tarfile.REGTYPE, content), io.BytesIO(content))
        made.addfile(_member("bin/sh", tarfile.SYMTYPE, link="busybox"))
    return packed.getvalue()


def _member(name: str, kind: bytes, content: bytes = b"", link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, 0o755, len(content), link
    return info


@pytest.fixture(scope="module")
def with_init(busybox: str) -> str:
    """The digest of an image that has an init."""
    assert busybox
    store, tree = Store(), archive()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tree).hexdigest()}"]},
    }
    with store.writing():
        layer = store.write_blob(gzip.compress(tree, mtime=0), LAYER_GZIP_TYPE)
        config = store.write_blob(json.dumps(document).encode(), CONFIG_TYPE)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.to_json(),
            "layers": [layer.to_json()],
        }
        made = store.write_blob(json.dumps(manifest).encode(), MANIFEST_TYPE)
        return store.tag(made.digest, "own-init").digest


def test_the_images_init_is_first_and_commands_come_when_it_starts_our_service(
    with_init: str,
) -> None:
    script = "busybox ls /it-was-me; busybox tr '\\0' ' ' < /proc/1/cmdline; exit 5"
    spec = MachineSpec(image=with_init, argv=("sh", "-c", script), profile="distro")
    with machine(spec) as guest:
        done = guest.wait(timeout_s=LIMIT_S)
        unit = guest.run(
            ["busybox", "cat", "/run/systemd/system/isoscope.service"], timeout_s=LIMIT_S
        ).stdout
    assert (done.exit_status, done.stdout) == (5, b"/it-was-me\n/bin/sh /sbin/init ")
    assert b"After=multi-user.target\n" in unit
    phases = guest.phases
    assert phases["init"] < phases["init.agent"] < phases["exec"] < phases["gone"]


def test_an_image_without_an_init_is_said_in_one_sentence(busybox: str) -> None:
    with (
        pytest.raises(GuestError, match="the image's init /sbin/init: No such file") as caught,
        machine(MachineSpec(image=busybox, profile="distro")),
    ):
        pytest.fail("it booted")
    assert "\n" not in str(caught.value)


def test_a_network_is_refused_where_nobody_would_set_it_up() -> None:
    with pytest.raises(MachineSpecError, match="the image's own"):
        MachineSpec(image="sha256:0", profile="distro", network="user")
